"""A mixture of experts: transformers' Mixtral, with what it leaves to its user.

Left to itself its router learns to send everything to a few experts: transformers adds the loss that keeps them in
balance to the loss of its own forward only, which packed training does not call. Here one is computed from the scores
that the routers gave (`router_scores`, `balance_loss`), and the routers work in float32 whatever the precision: a
rounded score sends a token to another expert.

The experts of a layer are two stacked parameters, as transformers keeps them in memory; a directory of another
program holds matrices of their own for each expert (`split_experts`, `stack_experts`).
"""

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import MixtralConfig, MixtralForCausalLM
from transformers.models.mixtral.modeling_mixtral import (
    MixtralExperts,
    MixtralSparseMoeBlock,
    MixtralTopKRouter,
)

SPARSE_BLOCK = MixtralSparseMoeBlock
_STACKED = re.compile(r"(.*\.)mlp\.experts\.(gate_up_proj|down_proj)")
_SPLIT = re.compile(r"(.*\.)block_sparse_moe\.experts\.(\d+)\.w([123])\.weight")


class Router(MixtralTopKRouter):
    """Scores in float32, also where the weights are not: transformers' own takes only the softmax in it."""

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[..., hidden]`` → scores ``[tokens, experts]``; shares and numbers ``[tokens, top_k]`` of those chosen."""
        with torch.autocast(hidden_states.device.type, enabled=False):
            scores = F.linear(hidden_states.reshape(-1, self.hidden_dim).float(), self.weight.float())
            odds, chosen = scores.softmax(-1).topk(self.top_k, -1)
            return scores, odds / odds.sum(-1, keepdim=True), chosen


class Experts(MixtralExperts):
    """Products in autocast's precision: torch's grouped product does not look at it."""

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        device, rounded = hidden_states.device.type, self
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            hidden_states, rounded = hidden_states.to(dtype), copy.copy(self)
            rounded._parameters = {name: weight.to(dtype) for name, weight in self.named_parameters()}  # type: ignore[misc]
        mixed: Tensor = MixtralExperts.forward(rounded, hidden_states, top_k_index, top_k_weights)
        return mixed


def use_own_forward(model: MixtralForCausalLM) -> None:
    """Have transformers' routers and experts, as they stand, compute as the classes above say."""
    for layer in model.model.layers:
        layer.mlp.gate.__class__, layer.mlp.experts.__class__ = Router, Experts


@contextmanager
def router_scores(model: nn.Module) -> Iterator[list[Tensor]]:
    """The scores ``[tokens, experts]`` of every layer's router in the forward pass within; none without experts."""
    found: list[Tensor] = []
    routers = [module for module in model.modules() if isinstance(module, Router)]
    hooks = [router.register_forward_hook(lambda _, __, out: found.append(out[0])) for router in routers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def balance_loss(config: MixtralConfig, scores: list[Tensor], real: Tensor) -> Tensor:
    """How much the busy experts are preferred and how large scores are (z-loss, Zoph et al. 2022), the means over
    layers, each times its coefficient in `config`. Tokens where `real` ``[B, T]`` is false (padding) do not count."""
    top_k = config.num_experts_per_tok
    preference = torch.stack([_preference(layer.unflatten(0, real.shape), real, top_k) for layer in scores]).mean()
    size = torch.stack([layer[real.flatten()].logsumexp(-1).square().mean() for layer in scores]).mean()
    loss: Tensor = config.router_aux_loss_coef * preference + getattr(config, "router_z_loss_coef", 0.0) * size
    return loss


def _preference(scores: Tensor, real: Tensor, top_k: int) -> Tensor:
    """Sum over experts of the mean score times the excess of the load, 0 where loads are even; of `scores`
    ``[B, T, experts]`` row by row, the mean over real tokens.

    Its gradient moves the scores of a row's tokens by the excess: bias balancing (Wang et al. 2024, arXiv:2408.15664),
    but of the router's own weights, so that nothing is left that a Mixtral does not have. The usual product of loads
    and mean odds (Fedus et al. 2021, which transformers has) makes the odds of each token equal as well, and large
    coefficients make a router that tells nothing apart rather than an even one (docs/log.md).
    The excess is a row's own (as in DeepSeek-V3's loss by sequence, arXiv:2412.19437): experts for a subject would be
    even over many rows only, so that the rows of one step say little of whether they are, and loads swing. And so the
    loss is the same however the rows of a batch are split, where the parts have as large a share of trained tokens.
    """
    experts, chosen = scores.shape[-1], scores.topk(top_k, -1).indices
    counted = real.to(scores.dtype)
    choices = counted.repeat_interleave(top_k, 1)
    load = torch.zeros_like(scores[:, 0]).scatter_add_(1, chosen.flatten(1), choices)  # [B, experts]
    excess = load * experts / choices.sum(1, keepdim=True).clamp(min=1) - 1
    total = (scores * counted[..., None]).sum(1)
    return (excess.detach() * total).sum() / counted.sum().clamp(min=1)


def split_experts(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """From the names in memory to those of Mixtral's published directories, one matrix per expert."""
    for name, tensor in tensors:
        if (stacked := _STACKED.fullmatch(name)) is None:
            yield name.replace(".mlp.gate.", ".block_sparse_moe.gate."), tensor
            continue
        prefix, kind = stacked.groups()
        for number, expert in enumerate(tensor):
            parts = {"w2": expert} if kind == "down_proj" else dict(zip(("w1", "w3"), expert.chunk(2), strict=True))
            for part, matrix in parts.items():
                yield f"{prefix}block_sparse_moe.experts.{number}.{part}.weight", matrix


def stack_experts(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The other way round. Tensors that have the names in memory are left as they are, and on the disk."""
    if not any(_SPLIT.fullmatch(name) for name in tensors):
        return tensors
    out: dict[str, Tensor] = {}
    experts: dict[str, dict[tuple[int, int], str]] = {}
    for name in tensors:
        if split := _SPLIT.fullmatch(name):
            prefix, number, part = split.groups()
            experts.setdefault(prefix, {})[int(number), int(part)] = name
        else:
            out[name.replace(".block_sparse_moe.gate.", ".mlp.gate.")] = tensors[name]
    for prefix, of in experts.items():
        count = 1 + max(number for number, _ in of)
        gate_up = [torch.cat([tensors[of[i, 1]], tensors[of[i, 3]]]) for i in range(count)]
        out[f"{prefix}mlp.experts.gate_up_proj"] = torch.stack(gate_up)
        out[f"{prefix}mlp.experts.down_proj"] = torch.stack([tensors[of[i, 2]] for i in range(count)])
    return out
