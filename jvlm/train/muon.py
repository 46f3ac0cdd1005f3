"""Muon: momentum made orthogonal, for the weight matrices of transformer blocks.

Keller Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon), scaled as in Liu et al. 2025
(arXiv:2502.16982) so that an update is the size of one of AdamW's and a learning rate means the same for both.
`torch.optim.Muon` computes in bfloat16, matrix by matrix: several times slower on a processor without bfloat16 units
(docs/log.md). Here matrices of one shape are made orthogonal together, in their own precision.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
UPDATE_RMS = 0.2  # of an update of AdamW, as measured by Liu et al.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration; singular values end between 0.7 and 1.2
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay. Takes matrices only."""

    def __init__(self, groups: list[dict[str, Any]], lr: float) -> None:
        """`groups` of ``{"params": matrices, "weight_decay": share, …}``; ValueError for anything but matrices."""
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        if bad := [tuple(p.shape) for group in self.param_groups for p in group["params"] if p.ndim != 2]:
            raise ValueError(f"Muon takes matrices, not {bad[0]}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure: gradients are there
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                updates = orthogonal(torch.stack([self._direction(p) for p in parameters]))
                size = group["lr"] * UPDATE_RMS * math.sqrt(max(shape))
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=size)

    def _direction(self, parameter: nn.Parameter) -> Tensor:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        return torch.lerp(gradient, momentum, MOMENTUM)


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices of ``[B, M, N]``, roughly, by five Newton-Schulz iterations."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
