"""LoRA on torch's MultiheadAttention, which open_clip's towers are made of: its three projections are one matrix.

peft has a layer for it, which writes weight + update into the module before each forward and takes the update out again
afterwards: rounding then moves the frozen weights a little with every step, and ZeRO 3, which holds a weight in pieces,
has none to write to. Here the update is added to what the projections give, as for any other layer.
"""

from typing import Any

import torch.nn.functional as F
from peft.tuners.lora.layer import MultiheadAttention
from torch import Tensor


class AttentionLora(MultiheadAttention):
    """One adapter for queries, keys and values together, ``[rank, D]`` and ``[3·D, rank]``, and one for the output."""

    def forward(  # type: ignore[override]  # a tower's blocks ask for nothing else
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """``[N, L, D]``, of itself: `key` and `value` are the `query`, or under ZeRO 3 copies of it."""
        base: Any = self.get_base_layer()
        assert query.shape == key.shape == value.shape
        assert base.batch_first
        assert not need_weights
        packed = F.linear(query, base.in_proj_weight, base.in_proj_bias)
        for name in self.active_adapters:
            update = self.lora_B[name](self.lora_A[name](self.lora_dropout[name](query)))
            packed = packed + update * self.scaling[name]
        # [N, L, 3·D] -> 3 × [N, heads, L, D / heads]
        queries, keys, values = packed.unflatten(-1, (3, base.num_heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask)
        return base.out_proj(seen.transpose(1, 2).flatten(2)), None

    def _restore_weights(self) -> None:
        """Nothing: no weight was taken out of its place."""
