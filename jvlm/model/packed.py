"""A packed batch: documents laid end to end in rows of one length, as the model takes them.

Labels are shifted before they are laid out, so no label crosses from one document to the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jvlm.model.processor import IGNORED


class Example(NamedTuple):
    """One sample ready to pack. `inputs` and `labels` have equal length; `pixels` are uint8 ``[views, 3, S, S]`` of
    each image in order of appearance.
    """

    id: str
    inputs: Sequence[int]
    labels: Sequence[int]
    pixels: list[np.ndarray]
    source: str = ""
    error: str | None = None
    """Why its pictures could not be decoded: they are grey then, and no label is trained."""


@dataclass(frozen=True)
class PackedBatch:
    """Rows of one shape. `doc_lens` runs through all rows in turn and sums to ``B * T``; padding is a document."""

    input_ids: Tensor  # int64 [B, T]
    labels: Tensor  # int64 [B, T], -100 where not trained
    position_ids: Tensor  # int64 [B, T], restarting in each document
    doc_lens: list[int]
    pixels: Tensor | None  # uint8 [N, 3, S, S], all views of all images in order
    sample_ids: list[str]
    sources: list[str]  # of each document; empty for padding
    undecoded: list[tuple[str, str]]  # (sample id, error)

    @property
    def weight(self) -> int:
        """Trained tokens: what the loss is divided by, summed over the whole global batch."""
        return int((self.labels != IGNORED).sum())


def pack(rows: Sequence[Sequence[Example]], row_length: int, pad_id: int) -> PackedBatch:
    """Lay examples (already cut to their pieces) end to end in rows of `row_length`."""
    shape = (len(rows), row_length)
    input_ids = np.full(shape, pad_id, np.int64)
    labels = np.full(shape, IGNORED, np.int64)
    position_ids = np.zeros(shape, np.int64)
    doc_lens: list[int] = []
    pixels: list[np.ndarray] = []
    sources: list[str] = []
    for r, row in enumerate(rows):
        at = 0
        for example in row:
            stop = at + len(example.inputs)
            input_ids[r, at:stop] = example.inputs
            labels[r, at:stop] = example.labels
            position_ids[r, at:stop] = np.arange(stop - at)
            doc_lens.append(stop - at)
            pixels += example.pixels
            sources.append(example.source)
            at = stop
        if at < row_length:
            position_ids[r, at:] = np.arange(row_length - at)
            doc_lens.append(row_length - at)
            sources.append("")
    examples = [example for row in rows for example in row]
    return PackedBatch(
        torch.from_numpy(input_ids),
        torch.from_numpy(labels),
        torch.from_numpy(position_ids),
        doc_lens,
        torch.from_numpy(np.concatenate(pixels)) if pixels else None,
        [example.id for example in examples],
        sources,
        [(example.id, example.error) for example in examples if example.error is not None],
    )
