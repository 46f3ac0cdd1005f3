"""The engine: loss, backward, gradient clipping, optimizer step, and all state by parameter name.

This is the plain one. `jvlm.train.deepspeed_engine` has the same calls; state written by either is read by both.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Size, Tensor, nn

from jvlm.model.directory import copy_tensors
from jvlm.train.config import LoopConfig, OptimizerConfig
from jvlm.train.muon import Muon
from jvlm.train.world import World

_MATRICES = re.compile(r"(^|\.)layers\.\d+\.(?!mlp\.gate\.)(?!.*\.lora_)|^projector\.\w+\.weight$")  # no router's
_ROUTER = re.compile(r"\.mlp\.gate\.weight$")
_EMBEDDINGS = re.compile(r"embed|^markers\.|^projector\.queries$")
ROUTER_RATE = 0.1
"""Learning rate of routers, times the others': what all tokens have in common makes a step of full size move all of
them to other experts at once, and loads swing instead of settling. So they do with a momentum, which goes on moving
tokens after the loads are even: routers have none (docs/log.md)."""


class Engine(Protocol):
    """What the loop asks of an engine. With several processes each calls everything, in the same order."""

    trained: dict[str, nn.Parameter]

    # weights below are those that checkpoints hold: all of them, or those given as `stored`
    def loss_sum(self, batch: Any) -> Tensor: ...
    def backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradients of `loss`; `last` of this step's. Summed over processes, not averaged."""
        ...

    def step(self, rate_factor: float) -> float:
        """Clip the gradients, update the weights, clear the gradients; returns the norm before clipping.

        When the norm is not finite no weight is changed.
        """
        ...

    def parameter_shapes(self) -> dict[str, Size]: ...
    def state_shapes(self) -> dict[str, Size]: ...
    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Weights, whole, tied ones once; trained or not."""
        ...

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Optimizer state: ``exp_avg.NAME``, ``exp_avg_sq.NAME``, ``step.NAME``, ``momentum.NAME``."""
        ...

    def load(self, parameters: Mapping[str, Tensor], state: Mapping[str, Tensor], where: object) -> None: ...
    def clear_state(self) -> None:
        """Optimizer state as before the first step."""
        ...


class Forward(nn.Module):
    """An objective's loss as a module, for engines that wrap modules. Weights of `objective.model` keep their names."""

    def __init__(self, objective: Any, precision: str, device: torch.device) -> None:
        super().__init__()
        self.trained_model = objective.model.to(device)
        self.objective = objective
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")

    def forward(self, batch: Any) -> Tensor:
        with self.autocast:
            loss: Tensor = self.objective.loss_sum(batch)
        return loss


def named_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of a module, by the names they have in the objective's model."""
    return {name.removeprefix("trained_model."): p for name, p in module.named_parameters()}


def stored_parameters(module: nn.Module, stored: Collection[str] | None) -> dict[str, nn.Parameter]:
    """The parameters that checkpoints hold: those of the names `stored`, or all."""
    return {name: p for name, p in named_parameters(module).items() if stored is None or name in stored}


def parameter_groups(
    trained: Mapping[str, nn.Parameter], config: OptimizerConfig, rate_scale: Mapping[str, float]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Groups for Muon, the matrices of decoder blocks and of the projector, and for AdamW, the rest.

    Experts, which are stacked, their router, at `ROUTER_RATE` and without momentum, and adapters are AdamW's too.
    Norms, biases and embeddings are not decayed; `rate_scale` holds learning-rate factors by prefix of the name.
    """
    groups: dict[tuple[bool, bool, float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        muon = config.muon and parameter.ndim == 2 and _MATRICES.search(name) is not None
        decay = config.weight_decay if parameter.ndim >= 2 and not _EMBEDDINGS.search(name) else 0.0
        scale = next((s for prefix, s in rate_scale.items() if name.startswith(prefix)), 1.0)
        router = _ROUTER.search(name) is not None
        groups.setdefault((muon, router, decay, scale * (ROUTER_RATE if router else 1.0)), []).append(parameter)
    for_muon: list[dict[str, Any]] = []
    for_adamw: list[dict[str, Any]] = []
    for (muon, router, decay, scale), parameters in groups.items():
        group = {"params": parameters, "weight_decay": decay, "scale": scale}
        if muon:
            for_muon.append(group)
        else:
            first, second = config.betas
            for_adamw.append(group | {"betas": (0.0 if router else first, second)})
    return for_muon, for_adamw


class TorchEngine:
    """Plain torch. Several processes each hold everything and sum their gradients."""

    def __init__(
        self,
        module: nn.Module,
        config: LoopConfig,
        rate_scale: Mapping[str, float],
        world: World,
        stored: Collection[str] | None = None,
    ) -> None:
        self.module, self.config, self.world = module, config.optimizer, world
        self.trained = {name: p for name, p in named_parameters(module).items() if p.requires_grad}
        self._stored = stored_parameters(module, stored)
        for_muon, for_adamw = parameter_groups(self.trained, self.config, rate_scale)
        rate, betas, eps = self.config.learning_rate, self.config.betas, self.config.eps
        self.optimizers: list[torch.optim.Optimizer] = []
        if for_adamw:
            self.optimizers.append(torch.optim.AdamW(for_adamw, lr=rate, betas=betas, eps=eps, fused=True))
        if for_muon:
            self.optimizers.append(Muon(for_muon, lr=rate))

    def loss_sum(self, batch: Any) -> Tensor:
        loss: Tensor = self.module(batch)
        return loss

    def backward(self, loss: Tensor, last: bool) -> None:
        loss.backward()

    def step(self, rate_factor: float) -> float:
        self._sum_gradients()
        norm = float(nn.utils.clip_grad_norm_(self.trained.values(), self.config.clip))
        for optimizer in self.optimizers:
            if math.isfinite(norm):
                set_rates(optimizer, self.config.learning_rate * rate_factor)
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norm

    def _sum_gradients(self) -> None:
        """A part of the model that no process used has no gradient, as on one process: it is not even decayed."""
        if self.world.size == 1:
            return
        used = self.world.sum([parameter.grad is not None for parameter in self.trained.values()])
        gradients = []
        for parameter, by in zip(self.trained.values(), used, strict=True):
            if by and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
        for work in [dist.all_reduce(gradient, async_op=True) for gradient in gradients]:
            work.wait()

    def parameter_shapes(self) -> dict[str, Size]:
        return {name: p.shape for name, p in self.parameters()}

    def state_shapes(self) -> dict[str, Size]:
        return {name: value.shape for name, value in self.state()}

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        yield from self._stored.items()

    def state(self) -> Iterator[tuple[str, Tensor]]:
        for name, state in self._states():
            for key, value in state.items():
                yield f"{key}.{name}", value

    def load(self, parameters: Mapping[str, Tensor], state: Mapping[str, Tensor], where: object) -> None:
        copy_tensors(self._stored, parameters, where)
        states = dict(self._states())
        for key, value in state.items():
            kind, name = key.split(".", 1)
            device = None if kind == "step" else self.trained[name].device
            states[name][kind] = value.to(device, copy=True)

    def clear_state(self) -> None:
        for optimizer in self.optimizers:
            optimizer.state.clear()

    def _states(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        owners = {p: o for o in self.optimizers for group in o.param_groups for p in group["params"]}
        return ((name, owners[parameter].state[parameter]) for name, parameter in self.trained.items())


def set_rates(optimizer: Any, rate: float) -> None:
    """Set the learning rate of every group, times the group's own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
