"""One attention function for every model here, registered with transformers under the name ``jvlm``.

A packed row holds several documents one behind the other; `Documents` says where they end. Attention is causal
inside a document and zero between documents (block-diagonal). Three backends give the same numbers:

* ``xformers``: `memory_efficient_attention` with `BlockDiagonalCausalMask`, CUDA only (it has no CPU kernel);
* ``sdpa``: torch's scaled dot product, one call per document, which on CPU is faster than one dense mask;
* the dense reference in the tests.

Both `AttentionInterface` and `AttentionMaskInterface` are registered: with the first alone transformers drops
the padding mask and left-padded generation is silently wrong.
"""

import importlib.util
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from jvlm.errors import UsageError

NAME = "jvlm"
BACKENDS = ("auto", "xformers", "sdpa")


def resolve(choice: str = "auto", device: str = "cpu") -> tuple[str, str]:
    """The backend that will run and the reason. Raises UsageError when the one asked for cannot."""
    if choice not in BACKENDS:
        raise UsageError(f"attention '{choice}' is none of {', '.join(BACKENDS)}")
    obstacle = None
    if not device.startswith("cuda"):
        obstacle = "xformers has no kernel for this device"
    elif importlib.util.find_spec("xformers") is None:
        obstacle = "xformers is not installed"
    if choice == "xformers" and obstacle:
        raise UsageError(f"attention 'xformers' cannot run on {device}: {obstacle}", fix="use attention: auto")
    if choice == "sdpa" or obstacle:
        return "sdpa", obstacle or "asked for"
    return "xformers", "CUDA and xformers are there"


class Documents:
    """Where the documents of packed rows end, as one opaque thing: a compiled block neither looks at their number,
    which changes with every batch, nor is it built again for it."""

    def __init__(self, lens: Sequence[int]) -> None:
        """`lens`: lengths of the documents of all rows in turn; no document crosses a row."""
        self.lens = list(lens)

    @cached_property
    def mask(self) -> Any:
        """xformers' `BlockDiagonalCausalMask`, made once for all layers."""
        from xformers.ops.fmha.attn_bias import BlockDiagonalCausalMask

        return BlockDiagonalCausalMask.from_seqlens(self.lens, device="cuda")


@torch.compiler.disable
def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    documents: Documents | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it.

    Args:
        query: ``[B, H, T, D]``; `key`, `value`: ``[B, H_kv, T, D]``.
        attention_mask: boolean or additive mask of an unpacked batch (generation), or None.
        documents: of all rows; their lengths sum to ``B * T``. None for unpacked batches.

    Returns:
        ``[B, T, H, D]`` and no weights.
    """
    if documents is None:
        is_causal = attention_mask is None and query.shape[2] > 1
        out = F.scaled_dot_product_attention(
            query, key, value, attention_mask, dropout, is_causal, scale=scaling, enable_gqa=True
        )
        return out.transpose(1, 2).contiguous(), None
    if query.is_cuda and resolve("auto", "cuda")[0] == "xformers":
        return _xformers(query, key, value, documents, scaling, dropout), None
    return _per_document(query, key, value, documents.lens, scaling, dropout), None


def _per_document(
    query: Tensor, key: Tensor, value: Tensor, lens: list[int], scaling: float | None, dropout: float
) -> Tensor:
    batch, heads, length, dim = query.shape
    # [B, H, T, D] -> [1, H, B*T, D]: rows are laid end to end, documents never cross them
    q, k, v = (x.transpose(0, 1).reshape(1, x.shape[1], batch * length, dim) for x in (query, key, value))
    parts = [
        F.scaled_dot_product_attention(*document, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True)
        for document in zip(q.split(lens, 2), k.split(lens, 2), v.split(lens, 2), strict=True)
    ]
    # tokens first, as the kernel leaves them: one copy, not two
    return torch.cat([part.transpose(1, 2) for part in parts], 1).view(batch, length, heads, dim)


def _xformers(
    query: Tensor, key: Tensor, value: Tensor, documents: Documents, scaling: float | None, dropout: float
) -> Tensor:
    from xformers.ops import memory_efficient_attention

    batch, heads, length, dim = query.shape
    q, k, v = (x.transpose(1, 2).reshape(1, batch * length, x.shape[1], dim) for x in (query, key, value))
    # xformers has no backward for grouped-query attention: repeat the key and value heads
    k, v = (x.repeat_interleave(heads // x.shape[2], 2) for x in (k, v))
    out: Tensor = memory_efficient_attention(q, k, v, documents.mask, p=dropout, scale=scaling)
    return out.view(batch, length, heads, dim)


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
