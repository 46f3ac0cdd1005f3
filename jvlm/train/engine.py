"""The engine: backward, gradient clipping, optimizer step and state by parameter name.

This is the plain one, for one process. Its five calls are what a distributed engine has to offer.
"""

import torch
from torch import Tensor, nn

from jvlm.train.config import OptimizerConfig


class TorchEngine:
    """AdamW on one process. Parameters with `requires_grad` are trained; norms and embeddings are not decayed."""

    def __init__(self, model: nn.Module, config: OptimizerConfig, rate_scale: dict[str, float]) -> None:
        self.model, self.config = model, config
        self.named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.named.items():
            decays = parameter.ndim >= 2 and "embed" not in name
            scale = next((s for prefix, s in rate_scale.items() if name.startswith(prefix)), 1.0)
            groups.setdefault((config.weight_decay if decays else 0.0, scale), []).append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": ps, "weight_decay": decay, "scale": scale} for (decay, scale), ps in groups.items()],
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.eps,
            fused=True,
        )

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip_gradients(self) -> float:
        """Scale the gradients down to the largest norm allowed; returns their norm before, finite or not."""
        return float(torch.nn.utils.clip_grad_norm_(self.named.values(), self.config.clip))

    def step(self, rate_factor: float) -> None:
        """Update the weights and clear the gradients."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rate_factor * group["scale"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Optimizer state as ``{"exp_avg.NAME": …, "exp_avg_sq.NAME": …, "step.NAME": …}``."""
        out = {}
        for name, parameter in self.named.items():
            for key, value in self.optimizer.state[parameter].items():
                out[f"{key}.{name}"] = value.detach().clone().contiguous()
        return out

    def load_state(self, state: dict[str, Tensor]) -> None:
        for key, value in state.items():
            kind, name = key.split(".", 1)
            self.optimizer.state[self.named[name]][kind] = value.clone()
