"""How a mixture of experts is used while it trains: a router that collapses goes on losing quality without a word."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Routing = Sequence[Sequence[float]]
"""Per layer the tokens of each expert, the sum of squared log-sum-exps of the scores, and the tokens."""


class RouterLoad:
    """What the routers of one process did in a step. Every token is computed by all experts chosen for it: none is
    dropped, however full an expert is."""

    def __init__(self) -> None:
        self._pending: Tensor | None = None

    def add(self, scores: Sequence[Tensor], real: Tensor, top_k: int) -> None:
        """`scores` ``[tokens, experts]`` of every layer; tokens where `real` ``[B, T]`` is false do not count.

        Nothing waits for the device.
        """
        counted = real.flatten().double()
        rows = []
        for layer in scores:
            layer = layer.detach()
            chosen = layer.topk(top_k, -1).indices
            load = counted.new_zeros(layer.shape[-1])
            load.index_add_(0, chosen.flatten(), counted.repeat_interleave(top_k))
            size = (layer.logsumexp(-1).double().square() * counted).sum()
            rows.append(torch.cat([load, size[None], counted.sum()[None]]))
        found = torch.stack(rows)
        self._pending = found if self._pending is None else self._pending + found

    def clear(self) -> None:
        self._pending = None

    def take(self) -> list[list[float]]:
        """A `Routing` of what was added, which is then forgotten; nothing without experts. Several steps' add up."""
        found: list[list[float]] = [] if self._pending is None else self._pending.tolist()
        self.clear()
        return found


def routing_figures(routing: Routing) -> dict[str, Any]:
    """Per layer: `max_share` of the work that the busiest expert had (1 / experts is
    even), `entropy` of the shares (1 is even, 0 a single expert), and `z`, the mean square of the log-sum-exp."""
    table = np.asarray(routing)
    load, z, tokens = table[:, :-2], table[:, -2], table[:, -1]
    shares = load / load.sum(1, keepdims=True)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    entropy = -(shares * logs).sum(1) / np.log(max(2, shares.shape[1]))
    return {"max_share": shares.max(1).tolist(), "entropy": entropy.tolist(), "z": (z / tokens).tolist()}
