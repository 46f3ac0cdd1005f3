"""Cross-entropy over a vocabulary, one chunk of tokens at a time: ``[tokens, vocabulary]`` never stands whole."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from jvlm.model.processor import IGNORED

CHUNK = 4096


def token_losses(hidden: Tensor, labels: Tensor, head: nn.Module, chunk: int = CHUNK) -> Tensor:
    """Cross-entropy of each trained token in turn, float32 ``[trained tokens]``; the others are not even projected.

    Args:
        hidden: ``[..., hidden]``. labels: ``[...]``, already shifted, ignored where -100.
        head: the language-model head. chunk: tokens projected at a time.
    """
    keep = labels != IGNORED
    hidden, labels = hidden[keep], labels[keep]
    if len(labels) <= chunk:
        return _piece(hidden, labels, head)
    pieces = [
        checkpoint(_piece, h, y, head, use_reentrant=False)
        for h, y in zip(hidden.split(chunk), labels.split(chunk), strict=True)
    ]
    return torch.cat(pieces)


def token_log_probabilities(hidden: Tensor, labels: Tensor, head: nn.Module, chunk: int = CHUNK) -> Tensor:
    """log p of each label, float32, 0 where the label is ignored; same shape as `labels` ``[T]``."""
    logs = -token_losses(hidden, labels, head, chunk)
    return hidden.new_zeros(labels.shape).masked_scatter(labels != IGNORED, logs.to(hidden.dtype))


def _piece(hidden: Tensor, labels: Tensor, head: nn.Module) -> Tensor:
    return F.cross_entropy(head(hidden).float(), labels, reduction="none")
