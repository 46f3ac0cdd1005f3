"""The language models: transformers' Llama and Mixtral, built from a config and initialised here, and other people's.

Every setting that matters is written down: transformers' own defaults differ between model types and versions.
"""

import math
from typing import Any

import torch
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from jvlm.model import attention
from jvlm.model.config import LanguageConfig
from jvlm.model.experts import Experts, Router, use_own_forward

LanguageModel = LlamaForCausalLM | MistralForCausalLM | MixtralForCausalLM | Qwen2ForCausalLM | Qwen3ForCausalLM
CLASSES: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "mixtral": (MixtralConfig, MixtralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
"""Config and model by `model_type`."""

SHARPER = 3.0  # queries and keys at the start, times the other matrices


def build_language_model(
    config: LanguageConfig, vocab_size: int, pad_id: int, bos_id: int, eos_id: int
) -> LanguageModel:
    """A freshly initialised float32 model, a Mixtral when there are experts; the caller seeds torch beforehand."""
    settings: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads or config.num_heads,
        "max_position_embeddings": config.max_length,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "attention_dropout": 0.0,
        "pad_token_id": pad_id,
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
    }
    if config.num_experts:
        settings |= {
            "model_type": "mixtral",
            "num_local_experts": config.num_experts,
            "num_experts_per_tok": config.experts_per_token,
            "router_aux_loss_coef": config.balance,
            "router_z_loss_coef": config.router_z,
            "router_jitter_noise": 0.0,
            "sliding_window": None,
        }
    model = language_model_from({"model_type": "llama"} | settings)
    initialise(model)
    return model


def language_model_from(record: dict[str, Any]) -> LanguageModel:
    """The model a config.json describes, with transformers' initial weights and our attention.

    Raises KeyError when its `model_type` is not in `CLASSES`.
    """
    config_class, model_class = CLASSES[record["model_type"]]
    own: dict[str, Any] = {"attn_implementation": attention.NAME}
    if record["model_type"] == "mixtral":
        # what transformers does with router logits is no use in packed training, and breaks generation in batches
        own |= {"experts_implementation": "grouped_mm", "output_router_logits": False}
    model: LanguageModel = model_class(config_class(**record | own))
    if isinstance(model, MixtralForCausalLM):
        use_own_forward(model)
    return model


def initialise(model: LanguageModel, std: float = 0.02) -> None:
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
            elif isinstance(module, Router):
                nn.init.normal_(module.weight, 0.0, std)
            elif isinstance(module, Experts):
                nn.init.normal_(module.gate_up_proj, 0.0, std)
                nn.init.normal_(module.down_proj, 0.0, residual)
        kv_heads = config.num_key_value_heads or config.num_attention_heads
        groups = config.num_attention_heads // kv_heads
        for layer in model.model.layers:
            heads = layer.self_attn
            heads.q_proj.weight.mul_(SHARPER)
            queries = heads.q_proj.weight.unflatten(0, (kv_heads, groups, -1))
            heads.k_proj.weight.copy_(queries[:, 0].flatten(0, 1))
            values = heads.v_proj.weight.unflatten(0, (kv_heads, 1, -1))
            heads.o_proj.weight.copy_(values.expand(-1, groups, -1, -1).flatten(0, 2).T * (residual / std))
