"""Packed attention per document against one dense mask: forward and backward, side by side."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from jvlm.model.attention import Documents, packed_attention

HEADS, DIM, LENGTH, DOCUMENTS, REPEATS = 4, 64, 1024, 16, 7


def run() -> dict[str, Any]:
    """Milliseconds of both (medians of 7, interleaved), their ratio and their largest difference."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = [torch.randn(1, HEADS, LENGTH, DIM, generator=generator).requires_grad_() for _ in range(3)]
    packed = Documents([LENGTH // DOCUMENTS] * DOCUMENTS)
    documents = torch.repeat_interleave(torch.arange(DOCUMENTS), LENGTH // DOCUMENTS)
    mask = (documents[:, None] == documents) & torch.ones(LENGTH, LENGTH).tril().bool()

    def per_document() -> Tensor:
        out, _ = packed_attention(torch.nn.Identity(), query, key, value, None, documents=packed)
        return out.transpose(1, 2)

    def dense() -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, mask)

    difference = float((per_document() - dense()).abs().max().detach())
    times: dict[str, list[float]] = {"per_document": [], "dense": []}
    for _ in range(REPEATS):
        times["per_document"].append(_milliseconds(per_document))
        times["dense"].append(_milliseconds(dense))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "ratios": {"over_dense_mask": medians["dense"] / medians["per_document"]},
        "figures": {f"{name}_ms": value for name, value in medians.items()} | {"max_difference": difference},
        "targets": {"over_dense_mask": 1.0},
    }


def _milliseconds(function: Callable[[], Tensor]) -> float:
    started = time.perf_counter()
    function().sum().backward()
    return (time.perf_counter() - started) * 1000
