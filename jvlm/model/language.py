"""The language model: transformers' Llama, built from a config and initialised here.

Every setting that matters is written down: transformers' own defaults differ between model types and versions.
"""

import math

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from jvlm.model import attention
from jvlm.model.config import LanguageConfig

SHARPER = 3.0  # queries and keys at the start, times the other matrices


def build_language_model(
    config: LanguageConfig, vocab_size: int, pad_id: int, bos_id: int, eos_id: int
) -> LlamaForCausalLM:
    """A freshly initialised float32 model; the caller seeds torch beforehand."""
    model = LlamaForCausalLM(
        LlamaConfig(  # type: ignore[call-arg]  # attn_implementation is a keyword of the base class
            vocab_size=vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads or config.num_heads,
            max_position_embeddings=config.max_length,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=config.tie_embeddings,
            rms_norm_eps=1e-5,
            pad_token_id=pad_id,
            bos_token_id=bos_id,
            eos_token_id=eos_id,
            attn_implementation=attention.NAME,
        )
    )
    initialise(model)
    return model


def initialise(model: LlamaForCausalLM, std: float = 0.02) -> None:
    """Normal(0, std), with the two projections that write into the residual stream scaled by 1/sqrt(2 layers).

    The scaling keeps the variance of the residual stream independent of depth (GPT-2); transformers leaves it out.
    Attention starts out looking for what is like the query and copying it: keys are computed as queries are, and the
    output projection undoes the value projection (after Trockman and Kolter 2023, arXiv:2305.09828; they take the
    second with the opposite sign, for images). Both are SHARPER times as large, so that it can tell like from unlike
    from the first step: names said again later in a text come out much better for it (docs/log.md).
    """
    config = model.config
    residual = std / math.sqrt(2 * config.num_hidden_layers)
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                writes_residual = name.endswith("down_proj")
                nn.init.normal_(module.weight, 0.0, residual if writes_residual else std)
        kv_heads = config.num_key_value_heads or config.num_attention_heads
        groups = config.num_attention_heads // kv_heads
        for layer in model.model.layers:
            heads = layer.self_attn
            heads.q_proj.weight.mul_(SHARPER)
            queries = heads.q_proj.weight.unflatten(0, (kv_heads, groups, -1))
            heads.k_proj.weight.copy_(queries[:, 0].flatten(0, 1))
            values = heads.v_proj.weight.unflatten(0, (kv_heads, 1, -1))
            heads.o_proj.weight.copy_(values.expand(-1, groups, -1, -1).flatten(0, 2).T * (residual / std))
