"""The one training loop.

An objective hands out micro-batches for a step and turns each into a sum of losses; the loop divides by the
weight of the *global* batch (all micro-batches), so that a token counts the same however the batch was split.
"""

import hashlib
import json
import math
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from jvlm.errors import JvlmError
from jvlm.files import append_json_line, read_json_lines, write_text
from jvlm.model.directory import load_named_tensors, named_tensors
from jvlm.train.checkpoint import TrainState, load_last_checkpoint, save_checkpoint
from jvlm.train.config import LoopConfig
from jvlm.train.engine import TorchEngine
from jvlm.train.schedule import learning_rate_factor


class Batch(Protocol):
    """What one forward takes."""

    @property
    def weight(self) -> int: ...

    @property
    def sample_ids(self) -> list[str]: ...


class Objective(Protocol):
    """What a stage optimises. `model` owns the parameters; `unit` names what `weight` counts."""

    model: nn.Module
    unit: str
    rate_scale: dict[str, float]
    """Learning-rate factors by prefix of the parameter name."""

    def micro_batches(self, step: int) -> list[Any]:
        """The global batch of `step`, in pieces: a pure function of the step."""
        ...

    def loss_sum(self, batch: Any) -> Tensor:
        """Sum of the losses over the batch's `weight` units."""
        ...

    def fingerprint(self) -> str:
        """Says which data, order and settings the steps come from; a checkpoint of another one is refused."""
        ...


def train(objective: Objective, config: LoopConfig, folder: Path, say: Callable[[str], None]) -> dict[str, float]:
    """Run or continue a stage in `folder` (metrics.jsonl, checkpoints/); returns the last metrics.

    Raises JvlmError when the loss or the gradient is not finite, after writing the batch's sample ids down.
    """
    model = objective.model.train()
    engine = TorchEngine(model, config.optimizer, objective.rate_scale)
    fingerprint = _fingerprint(objective, engine, config)
    start = _resume(model, engine, folder, fingerprint, say)
    trained = sum(p.numel() for p in engine.named.values())
    say(f"{trained:,} of {sum(p.numel() for p in model.parameters()):,} parameters trained, {config.optimizer!r}")
    log = _Log(folder / "metrics.jsonl", start, config.log_every, objective.unit)
    for step in range(start, config.steps):
        log.begin()
        batches = objective.micro_batches(step)
        log.data_ready()
        # a batch whose every image failed to decode has no target: it moves nothing, and is not 0 / 0
        weight = max(1, sum(batch.weight for batch in batches))
        loss = 0.0
        for batch in batches:
            share = objective.loss_sum(batch) / weight
            engine.backward(share)
            loss += float(share.detach())
        optimizer = config.optimizer
        factor = learning_rate_factor(
            step, config.steps, optimizer.warmup, optimizer.schedule, optimizer.final, optimizer.decay
        )
        norm = engine.clip_gradients()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            _stop_not_finite(folder, step, loss, norm, batches)
        engine.step(factor)
        done = step + 1
        log.write(done, config.steps, loss, norm, factor * optimizer.learning_rate, weight, say)
        if done % config.checkpoint_every == 0 or done == config.steps:
            state = TrainState(done, named_tensors(model), engine.state(), fingerprint)
            save_checkpoint(folder / "checkpoints", state, config.keep)
    return log.last


def _resume(model: nn.Module, engine: TorchEngine, folder: Path, fingerprint: str, say: Callable[[str], None]) -> int:
    state = load_last_checkpoint(folder / "checkpoints", fingerprint, say)
    if state is None:
        return 0
    load_named_tensors(model, state.parameters, folder / "checkpoints")
    engine.load_state(state.optimizer)
    say(f"continuing from step {state.step}")
    return state.step


def _fingerprint(objective: Objective, engine: TorchEngine, config: LoopConfig) -> str:
    # how often a checkpoint is written or a line is logged does not change what is computed
    settings = config.model_dump(exclude={"checkpoint_every", "keep", "log_every"})
    parts = [objective.fingerprint(), objective.rate_scale, sorted(engine.named), settings]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _stop_not_finite(folder: Path, step: int, loss: float, norm: float, batches: list[Any]) -> None:
    ids = [sample_id for batch in batches for sample_id in batch.sample_ids]
    append_json_line(folder / "not_finite.jsonl", {"step": step, "loss": str(loss), "grad_norm": str(norm), "ids": ids})
    raise JvlmError(
        f"loss {loss} or gradient norm {norm} is not finite at step {step}; no weight was changed by it",
        where=folder / "not_finite.jsonl",
        fix="look at the samples listed there, or lower the learning rate; the last checkpoint is kept",
    )


class _Log:
    """metrics.jsonl: lines of steps that a restart will compute again are dropped first."""

    def __init__(self, path: Path, start: int, every: int, unit: str) -> None:
        self.path, self.every, self.unit = path, every, unit
        kept = [record for record in read_json_lines(path) if record["step"] <= start]
        write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
        self.last: dict[str, float] = kept[-1] if kept else {}
        self._reset()

    def _reset(self) -> None:
        self.seconds = self.data_seconds = 0.0
        self.weight, self.losses = 0, 0.0

    def begin(self) -> None:
        self.started = time.perf_counter()

    def data_ready(self) -> None:
        self.data_seconds += time.perf_counter() - self.started

    def write(
        self, step: int, steps: int, loss: float, norm: float, rate: float, weight: int, say: Callable[[str], None]
    ) -> None:
        self.seconds += time.perf_counter() - self.started
        self.weight += weight
        self.losses += loss * weight
        if step % self.every and step != steps:
            return
        record = {
            "step": step,
            "loss": self.losses / self.weight,
            "grad_norm": norm,
            "lr": rate,
            self.unit: self.weight,
            f"{self.unit}_per_s": self.weight / self.seconds,
            "seconds": self.seconds,
            "data_seconds": self.data_seconds,
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
        append_json_line(self.path, record)
        speed = record[f"{self.unit}_per_s"]
        say(f"step {step}/{steps} loss {record['loss']:.4f} norm {norm:.2f} {speed:.0f} {self.unit}/s")
        self.last = record
        self._reset()


def set_threads(threads: int) -> None:
    """Fix the number of threads: on a CPU results are bit-identical only for the same number."""
    torch.set_num_threads(threads)
