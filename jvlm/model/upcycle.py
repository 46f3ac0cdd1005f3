"""A mixture of experts from a dense model: sparse upcycling (Komatsuzaki et al. 2022, arXiv:2212.05055).

Every expert begins as the dense feed-forward. The shares of the experts chosen for a token sum to one, so whatever the
new routers choose the model is what it was; training then takes the experts apart, for each sees other tokens.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM, MistralForCausalLM

from jvlm.cards import carry_card
from jvlm.errors import UsageError
from jvlm.model.config import LanguageConfig
from jvlm.model.directory import load_directory, save_model
from jvlm.model.jvlm import JvlmModel
from jvlm.model.language import LanguageModel, language_model_from

ROUTER_STD = 0.02
_KEPT = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_parameters",
    "tie_word_embeddings",
    "attention_dropout",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)
"""What a Mixtral's config says in the words of a Llama's or Mistral's."""


def upcycle(folder: Path, num_experts: int, experts_per_token: int, out: Path, seed: int = 7) -> str:
    """Write the language or vision-language model of `folder` with experts to `out`; returns what it is, in words.

    Routers begin small and random. Raises UsageError when `out` exists, for a number of experts that cannot be, and for
    a language model that is no Llama or Mistral without biases: a Mixtral is nothing else with experts.
    """
    if out.exists():
        raise UsageError("the target exists already", where=out, fix="name a new directory")
    if not 1 <= experts_per_token <= num_experts:
        raise UsageError(
            f"{experts_per_token} experts for a token, of {num_experts}", fix="choose no more than there are"
        )
    loaded = load_directory(folder)
    whole = loaded.model if isinstance(loaded.model, JvlmModel) else None
    dense = whole.language if whole else loaded.model
    biased = isinstance(dense, nn.Module) and any(name.endswith(".bias") for name, _ in dense.named_parameters())
    if biased or not isinstance(dense, LlamaForCausalLM | MistralForCausalLM):
        fix = "name a Llama or Mistral without biases, or a vision-language model around one"
        raise UsageError(f"a {loaded.kind} cannot be given experts", where=folder, fix=fix)
    torch.manual_seed(seed)
    mixture = with_experts(dense, num_experts, experts_per_token)
    if whole:
        whole.language = mixture
    save_model(out, whole or mixture, loaded.processor)
    carry_card([folder], out, f"Given {num_experts} experts by `jvlm upcycle`.")
    total = sum(parameter.numel() for parameter in mixture.parameters())
    experts = sum(parameter.numel() for name, parameter in mixture.named_parameters() if ".experts." in name)
    active = total - experts // num_experts * (num_experts - experts_per_token)
    return f"MixtralForCausalLM with {total:,} parameters, {active:,} of them for a token"


@torch.no_grad()
def with_experts(
    dense: LlamaForCausalLM | MistralForCausalLM, num_experts: int, experts_per_token: int
) -> LanguageModel:
    """The same model with copies of its feed-forwards for experts, and the losses that keep them in use at our
    defaults."""
    shape = LanguageConfig(num_experts=num_experts, experts_per_token=experts_per_token)
    record = {key: getattr(dense.config, key) for key in _KEPT}
    experts = {
        "model_type": "mixtral",
        "num_local_experts": num_experts,
        "num_experts_per_tok": experts_per_token,
        "router_aux_loss_coef": shape.balance,
        "router_z_loss_coef": shape.router_z,
        "router_jitter_noise": 0.0,
        "sliding_window": None,
    }
    mixture = language_model_from(record | experts)
    known: dict[str, Tensor] = dict(dense.named_parameters())
    for name, parameter in mixture.named_parameters():
        parameter.copy_(_beginning(name, parameter, known))
    return mixture


def _beginning(name: str, parameter: Tensor, dense: dict[str, Tensor]) -> Tensor:
    if name.endswith("mlp.gate.weight"):
        return torch.randn_like(parameter) * ROUTER_STD
    if name.endswith("mlp.experts.gate_up_proj"):
        block = name.removesuffix("experts.gate_up_proj")
        return torch.cat([dense[f"{block}gate_proj.weight"], dense[f"{block}up_proj.weight"]]).expand_as(parameter)
    if name.endswith("mlp.experts.down_proj"):
        return dense[f"{name.removesuffix('experts.down_proj')}down_proj.weight"].expand_as(parameter)
    return dense[name]
