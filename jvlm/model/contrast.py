"""Contrastive losses of images and texts, a few rows at a time: ``[pairs, pairs]`` never stands whole.

The softmax of CLIP (Radford et al. 2021) and the pairwise sigmoid of SigLIP (Zhai et al. 2023), as sums over some of
the pairs of a batch against all of it. What the processes of a training get for their own pairs adds up to the loss of
the whole batch, and so do the gradients. Also here: a text as the two read it.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from jvlm.model.processor import Processor

LOGITS = {"cpu": 2**22, "cuda": 2**27}
"""Logits of a piece, for one direction. Of more than one piece each is computed again in the backward pass."""

Piece = Callable[[Tensor, Tensor, Tensor], Tensor]


def caption_ids(processor: Processor, captions: list[str], length: int) -> Tensor:
    """``[N, length]`` int64: ``<s> text <|end|>`` padded; longer captions lose their tail, never the end mark."""
    out = np.full((len(captions), length), processor.pad, np.int64)
    for row, ids in zip(out, processor.tokenizer.encode_batch(captions), strict=True):
        ids = [processor.bos, *ids[: length - 2], processor.end]
        row[: len(ids)] = ids
    return torch.from_numpy(out)


def softmax_loss(images: Tensor, texts: Tensor, own: slice, scale: Tensor) -> Tensor:
    """Mean of the image-to-text and the text-to-image cross-entropy, summed over the pairs `own`.

    Args:
        images, texts: unit vectors ``[pairs, d]``, of one pair in the same place. own: some of the pairs, one or more.
        scale: what cosines are multiplied by, a scalar.
    """

    def piece(image_rows: Tensor, text_rows: Tensor, targets: Tensor) -> Tensor:
        by_image = scale * image_rows @ texts.T  # [rows, pairs]
        by_text = scale * text_rows @ images.T
        return (F.cross_entropy(by_image, targets) + F.cross_entropy(by_text, targets)) / 2 * len(targets)

    return _sum_of_pieces(piece, images, texts, own)


def sigmoid_loss(images: Tensor, texts: Tensor, own: slice, scale: Tensor, bias: Tensor) -> Tensor:
    """-log σ(±(scale · cosine + bias)) of each image with every text, + for its own, summed over the images `own`.

    Arguments as in `softmax_loss`; `bias` is a scalar.
    """

    def piece(image_rows: Tensor, _: Tensor, targets: Tensor) -> Tensor:
        logits = scale * image_rows @ texts.T + bias  # [rows, pairs]
        signs = torch.full_like(logits, -1.0).scatter_(1, targets[:, None], 1.0)
        return -F.logsigmoid(signs * logits).sum()

    return _sum_of_pieces(piece, images, texts, own)


def _sum_of_pieces(piece: Piece, images: Tensor, texts: Tensor, own: slice) -> Tensor:
    rows = max(1, LOGITS[images.device.type] // len(images))
    targets = torch.arange(len(images), device=images.device)[own]
    parts = list(zip(images[own].split(rows), texts[own].split(rows), targets.split(rows), strict=True))
    if len(parts) == 1:
        return piece(*parts[0])
    return torch.stack([checkpoint(piece, *part, use_reentrant=False) for part in parts]).sum()
