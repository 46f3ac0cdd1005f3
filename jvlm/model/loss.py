"""Cross-entropy over a vocabulary, one chunk of tokens at a time: ``[tokens, vocabulary]`` never stands whole."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from jvlm.model.processor import IGNORED

CHUNK = 4096


def chunked_cross_entropy_sum(hidden: Tensor, labels: Tensor, head: nn.Module, chunk: int = CHUNK) -> Tensor:
    """Sum of the cross-entropy over the trained tokens; the others are not even projected.

    Args:
        hidden: ``[B, T, hidden]``. labels: ``[B, T]``, already shifted, ignored where -100.
        head: the language-model head. chunk: tokens projected at a time.
    """
    keep = labels != IGNORED
    hidden, labels = hidden[keep], labels[keep]
    if len(labels) <= chunk:
        return _piece(hidden, labels, head)
    pieces = (
        checkpoint(_piece, h, y, head, use_reentrant=False)
        for h, y in zip(hidden.split(chunk), labels.split(chunk), strict=True)
    )
    return sum(pieces, hidden.sum() * 0.0)


def token_log_probabilities(hidden: Tensor, labels: Tensor, head: nn.Module, chunk: int = CHUNK) -> Tensor:
    """log p of each label, float32, 0 where the label is ignored; same shape as `labels` ``[T]``."""
    out = hidden.new_zeros(labels.shape)
    keep = labels != IGNORED
    pieces = [
        -F.cross_entropy(head(h).float(), y, reduction="none")
        for h, y in zip(hidden[keep].split(chunk), labels[keep].split(chunk), strict=True)
    ]
    if not pieces:
        return out
    return out.masked_scatter(keep, torch.cat(pieces).to(out.dtype))


def _piece(hidden: Tensor, labels: Tensor, head: nn.Module) -> Tensor:
    return F.cross_entropy(head(hidden).float(), labels, reduction="sum")
