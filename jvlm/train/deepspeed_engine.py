"""DeepSpeed's ZeRO behind the engine's calls, on GPUs over nccl or on processors over gloo.

Its defaults are closed here: gradients are averaged (the loss is multiplied by the number of processes), a mean of
means is taken over micro-batches (`scale_wrt_gas=False`), and a step whose gradient is not finite is left out without
a word (it is counted; the count is looked at).
"""

import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Size, Tensor, nn

from jvlm.errors import DataError, UsageError
from jvlm.model.experts import SPARSE_BLOCK
from jvlm.train.config import LoopConfig
from jvlm.train.engine import named_parameters, parameter_groups, set_rates, stored_parameters
from jvlm.train.world import World

KINDS = ("exp_avg", "exp_avg_sq")


class DeepSpeedEngine:
    """ZeRO with torch's AdamW."""

    def __init__(
        self,
        module: nn.Module,
        config: LoopConfig,
        rate_scale: Mapping[str, float],
        world: World,
        stored: Collection[str] | None = None,
    ) -> None:
        """Raises UsageError for Muon, which needs matrices whole."""
        if config.optimizer.muon:
            raise UsageError("ZeRO shards the matrices that Muon needs whole", fix="set optimizer.muon: false")
        self.config, self.world, self.stage = config.optimizer, world, config.engine.zero
        self.trained = {name: p for name, p in named_parameters(module).items() if p.requires_grad}
        self._stored = stored_parameters(module, stored)
        self._shapes = {name: p.shape for name, p in self._stored.items()}  # stage 3 leaves empty ones
        for parameter in module.parameters():
            if parameter.ndim == 0:
                parameter.data = parameter.data.view(1)  # DeepSpeed can send no scalar; outside it stays one
        _, groups = parameter_groups(self.trained, self.config, rate_scale)
        optimizer = torch.optim.AdamW(groups, lr=0.0, betas=self.config.betas, eps=self.config.eps)
        deepspeed = _deepspeed(world)
        if self.stage == 3 and any(isinstance(part, SPARSE_BLOCK) for part in module.modules()):
            # fetched as one: a process whose tokens choose other experts must not wait for weights nobody else asks for
            deepspeed.utils.set_z3_leaf_modules(module, [SPARSE_BLOCK])
        self.engine = deepspeed.initialize(
            model=module,
            optimizer=optimizer,
            dist_init_required=False,
            config={
                "train_micro_batch_size_per_gpu": 1,  # batches are made elsewhere; the key is compulsory
                "gradient_clipping": self.config.clip,
                "zero_optimization": {"stage": self.stage}
                | ({"offload_optimizer": {"device": "cpu"}} if config.engine.offload else {}),
                "zero_allow_untested_optimizer": True,
                "zero_force_ds_cpu_optimizer": False,
                "steps_per_print": None,
            },
        )[0]
        self._gathered = deepspeed.zero.GatheredParameters
        self._optimizer = self.engine.optimizer.optimizer if self.stage else self.engine.optimizer

    def loss_sum(self, batch: Any) -> Tensor:
        loss: Tensor = self.engine(batch)
        return loss

    def backward(self, loss: Tensor, last: bool) -> None:
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss * self.world.size, scale_wrt_gas=False)

    def step(self, rate_factor: float) -> float:
        set_rates(self.engine.optimizer, self.config.learning_rate * rate_factor)
        norm = self._norm_of_whole_gradients() if self.stage == 0 else 0.0
        skipped = self.engine.skipped_steps
        self.engine.step()
        if self.engine.skipped_steps > skipped:
            return float("nan")
        return float(self.engine.get_global_grad_norm()) if self.stage else norm

    def _norm_of_whole_gradients(self) -> float:
        """Stage 0 neither reports the norm nor looks whether it is finite: a rate of zero then changes no weight."""
        norms = [p.grad.norm() for p in self.trained.values() if p.grad is not None]
        norm = float(torch.stack(norms).norm())
        if not torch.isfinite(torch.tensor(norm)):
            self.engine.zero_grad()
        return norm

    def parameter_shapes(self) -> dict[str, Size]:
        return self._shapes

    def state_shapes(self) -> dict[str, Size]:
        shapes: dict[str, Size] = {}
        for name in self.trained:
            shapes |= {f"{kind}.{name}": self._shapes[name] for kind in KINDS} | {f"step.{name}": Size([])}
        return shapes

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self._stored.items():
            with self._gathered([parameter], enabled=self.stage == 3):
                yield name, parameter.detach().clone().view(self._shapes[name])

    def state(self) -> Iterator[tuple[str, Tensor]]:
        from deepspeed.utils import safe_get_full_optimizer_state

        steps = next(iter(self._optimizer.state.values()))["step"]
        for name, parameter in self.trained.items():
            for kind in KINDS:
                own = self._optimizer.state[parameter][kind] if self.stage == 0 else None
                whole = safe_get_full_optimizer_state(parameter, kind) if own is None else own
                yield f"{kind}.{name}", whole.view(self._shapes[name])
            yield f"step.{name}", steps.clone()

    def load(self, parameters: Mapping[str, Tensor], state: Mapping[str, Tensor], where: object) -> None:
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        if parameters.keys() != self._shapes.keys():
            raise DataError("weights do not fit the model", where=where)
        for name, parameter in self._stored.items():
            value = torch.atleast_1d(parameters[name].to(self.world.device))
            if self.stage and name in self.trained:
                safe_set_full_fp32_param(parameter, value)
            with self._gathered([parameter], modifier_rank=0, enabled=self.stage == 3), torch.no_grad():
                if self.stage != 3 or self.world.is_first:
                    parameter.copy_(value)
        for name, parameter in self.trained.items():
            for kind in KINDS:
                value = torch.atleast_1d(state[f"{kind}.{name}"].to(self.world.device))
                if self.stage:
                    safe_set_full_optimizer_state(parameter, value, kind)
                else:
                    self._optimizer.state[parameter][kind].copy_(value)
        steps = state[f"step.{next(iter(self.trained))}"]
        for held in self._optimizer.state.values():
            held["step"].copy_(steps)

    def clear_state(self) -> None:
        for held in self._optimizer.state.values():
            for value in held.values():
                value.zero_()
        if self.stage in (1, 2):
            # DeepSpeed ties state to parameters after its first group's first step, when other groups have none yet
            self.engine.optimizer._hp_optimizer_states_linked = False
            self.engine.optimizer._lazy_init_hp_params_optimizer_state()


def _deepspeed(world: World) -> Any:
    """The library, told which machine it is on before it is imported, and joined to our group of processes."""
    if world.device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        os.environ.setdefault(name, value)
    import deepspeed
    from deepspeed import ops

    # its own shared-memory collectives want a compiler at the first start; gloo does without
    ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if world.size == 1 and not torch.distributed.is_initialized():
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group(
            "nccl" if world.device.type == "cuda" else "gloo", store=store, rank=0, world_size=1
        )
    deepspeed.init_distributed(dist_backend=torch.distributed.get_backend())
    return deepspeed
