"""Cross-entropy over a vocabulary, one chunk of tokens at a time: ``[tokens, vocabulary]`` never stands whole.

The gradient of a chunk's logits is known as soon as its loss is (softmax minus one-hot), so it is carried through the
head at once and the logits are forgotten: three matrix products, none repeated, and a chunk stays in the cache. On a
processor the loss then costs little more than its matrix products (docs/log.md).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jvlm.model.processor import IGNORED

LOGITS = {"cpu": 2**22, "cuda": 2**27}
"""Logits of a chunk. On a processor 16 MiB: larger pieces are handed back to the system and zeroed again each time."""


def cross_entropy_sum(hidden: Tensor, labels: Tensor, head: nn.Module) -> tuple[Tensor, Tensor]:
    """Sum of the cross-entropy over the trained tokens, and each one's own without a gradient.

    Args:
        hidden: ``[B, T, hidden]``. labels: ``[B, T]``, already shifted, ignored where -100; such tokens are not even
            projected. head: the language-model head, a linear layer without a bias.

    Returns:
        A float32 scalar, and float32 ``[trained tokens]`` in the order of the rows.
    """
    keep = labels != IGNORED
    total, each = _LinearCrossEntropy.apply(hidden[keep], head.weight, labels[keep])
    return total, each


def token_log_probabilities(hidden: Tensor, labels: Tensor, head: nn.Module) -> Tensor:
    """log p of each label, float32, 0 where the label is ignored; same shape as `labels` ``[T]``."""
    out = hidden.new_zeros(labels.shape, dtype=torch.float32)
    keep = labels != IGNORED
    chunk = _chunk(hidden, head.out_features)  # type: ignore[arg-type]
    pieces = [
        -F.cross_entropy(head(h).float(), y, reduction="none")
        for h, y in zip(hidden[keep].split(chunk), labels[keep].split(chunk), strict=True)
    ]
    return out.masked_scatter(keep, torch.cat(pieces)) if pieces else out


class _LinearCrossEntropy(torch.autograd.Function):
    """hidden ``[N, D]``, weight ``[V, D]``, labels ``[N]`` → sum of the losses, losses ``[N]``."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        wants_hidden, wants_weight, _ = ctx.needs_input_grad
        with torch.autocast(device, enabled=False):
            low = weight.to(dtype)
            for_hidden = torch.empty_like(hidden) if wants_hidden else None
            for_weight = torch.zeros_like(weight) if wants_weight else None
            losses = hidden.new_empty(len(labels), dtype=torch.float32)
            chunk = min(len(labels), _chunk(hidden, len(weight)))
            buffer = hidden.new_empty(chunk, len(weight), dtype=torch.float32)
            for begin in range(0, len(labels), chunk or 1):
                part = slice(begin, begin + chunk)
                inputs, targets = hidden[part].to(dtype), labels[part, None]
                scores = _product(inputs, low.T, buffer[: len(inputs)])
                top, own = scores.amax(-1, keepdim=True), scores.gather(1, targets)
                sums = scores.sub_(top).exp_().sum(-1, keepdim=True)
                losses[part] = (sums.log() + top - own)[:, 0]
                # (softmax - one-hot) times the sums, which the narrow side of each product is divided by instead
                gradient = scores.scatter_add_(1, targets, -sums).to(dtype)
                if for_hidden is not None:
                    for_hidden[part] = (gradient @ low) / sums
                if for_weight is not None and dtype == for_weight.dtype:
                    for_weight.addmm_(gradient.T, inputs / sums)
                elif for_weight is not None:
                    for_weight += gradient.T @ (inputs / sums).to(dtype)
        ctx.save_for_backward(for_hidden, for_weight)
        ctx.mark_non_differentiable(losses)
        return losses.sum(), losses

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        for_hidden, for_weight = ctx.saved_tensors
        by = outer[0]  # of the sum, a scalar
        return (
            None if for_hidden is None else for_hidden * by.to(for_hidden.dtype),
            None if for_weight is None else for_weight * by,
            None,
        )


def _product(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """``left @ right`` in `out`, float32: new memory for every chunk would be cleared by the system each time."""
    return torch.mm(left, right, out=out) if left.dtype == out.dtype else out.copy_(left @ right)


def _chunk(hidden: Tensor, vocab_size: int) -> int:
    return max(1, LOGITS[hidden.device.type] // vocab_size)
