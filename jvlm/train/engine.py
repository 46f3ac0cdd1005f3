"""The engine: backward, gradient clipping, optimizer step and state by parameter name.

This is the plain one, for one process. Its five calls are what a distributed engine has to offer.
"""

import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from jvlm.train.config import OptimizerConfig
from jvlm.train.muon import Muon

_MATRICES = re.compile(r"(^|\.)layers\.\d+\.|^projector\.(hidden|output)\.")  # decoder blocks and the projector's


class TorchEngine:
    """Muon for the matrices of decoder blocks and of the projector, AdamW for everything else, on one process.

    Parameters with `requires_grad` are trained; norms, biases and embeddings are not decayed.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig, rate_scale: dict[str, float]) -> None:
        self.model, self.config = model, config
        self.named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        groups: dict[tuple[bool, float, float], list[nn.Parameter]] = {}
        for name, parameter in self.named.items():
            muon = config.muon and parameter.ndim == 2 and _MATRICES.search(name) is not None
            decay = config.weight_decay if parameter.ndim >= 2 and "embed" not in name else 0.0
            scale = next((s for prefix, s in rate_scale.items() if name.startswith(prefix)), 1.0)
            groups.setdefault((muon, decay, scale), []).append(parameter)
        for_muon, for_adamw = (
            [{"params": ps, "weight_decay": d, "scale": s} for (muon, d, s), ps in groups.items() if muon is wanted]
            for wanted in (True, False)
        )
        rate = config.learning_rate
        self.optimizers: list[torch.optim.Optimizer] = []
        if for_adamw:
            self.optimizers.append(
                torch.optim.AdamW(for_adamw, lr=rate, betas=config.betas, eps=config.eps, fused=True)
            )
        if for_muon:
            self.optimizers.append(Muon(for_muon, lr=rate))

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip_gradients(self) -> float:
        """Scale the gradients down to the largest norm allowed; returns their norm before, finite or not."""
        return float(torch.nn.utils.clip_grad_norm_(self.named.values(), self.config.clip))

    def step(self, rate_factor: float) -> None:
        """Update the weights and clear the gradients."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate * rate_factor * group["scale"]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Optimizer state as ``{"exp_avg.NAME": …, "exp_avg_sq.NAME": …, "step.NAME": …, "momentum.NAME": …}``."""
        return {
            f"{key}.{name}": value.detach().clone().contiguous()
            for name, state in self._states()
            for key, value in state.items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        states = dict(self._states())
        for key, value in state.items():
            kind, name = key.split(".", 1)
            states[name][kind] = value.clone()

    def _states(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        owners = {p: o for o in self.optimizers for group in o.param_groups for p in group["params"]}
        return ((name, owners[parameter].state[parameter]) for name, parameter in self.named.items())
