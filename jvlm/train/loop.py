"""The one training loop.

An objective hands out micro-batches for a step and turns each into a sum of losses; the loop divides by the
weight of the *global* batch (all micro-batches of all processes), so that a token counts the same however the batch
was split.
"""

import hashlib
import json
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from jvlm.errors import JvlmError, Stopped
from jvlm.files import append_json_line, repeat_folder
from jvlm.train.blocks import prepared_blocks
from jvlm.train.ceiling import ceiling
from jvlm.train.checkpoint import OPTIMIZER, Progress, find_checkpoint, open_branch, save_checkpoint
from jvlm.train.config import LoopConfig
from jvlm.train.engine import Engine, Forward, TorchEngine, named_parameters
from jvlm.train.monitor import LossBySource, Metrics, StopSign
from jvlm.train.prefetch import Prefetch
from jvlm.train.routers import RouterLoad
from jvlm.train.schedule import learning_rate_factor
from jvlm.train.trackers import open_trackers
from jvlm.train.undecoded import Undecoded
from jvlm.train.world import World, join_world, to_device


class Batch(Protocol):
    """What one forward takes: a dataclass of tensors."""

    @property
    def weight(self) -> int: ...

    @property
    def sample_ids(self) -> list[str]: ...

    @property
    def undecoded(self) -> list[tuple[str, str]]:
        """(sample id, error) of the samples whose pictures are not to be had."""
        ...


@dataclass(frozen=True)
class Stored:
    """What checkpoints and model directories hold of a model whose other weights stand elsewhere and stay."""

    names: frozenset[str]
    """Of weights."""
    apart_from: str
    """Tells the other weights, and how these ones belong to them, from all others."""


class Objective(Protocol):
    """What a stage optimises. `model` owns the parameters; `unit` names what `weight` counts."""

    model: nn.Module
    unit: str
    rate_scale: dict[str, float]
    """Learning-rate factors by prefix of the parameter name."""
    by_source: LossBySource
    """`loss_sum` adds the losses to it, where they are a source's own."""
    routers: RouterLoad
    """`loss_sum` adds to it which experts the tokens went to, where there are any."""

    def micro_batches(self, step: int, world: World) -> list[Any]:
        """This process's part of the global batch of `step`, in pieces, as many on every process: a pure function."""
        ...

    def largest_batch(self, world: World) -> Any:
        """A micro-batch of this process that takes as much memory as any, as far as can be told beforehand."""
        ...

    def loss_sum(self, batch: Any) -> Tensor:
        """Sum of the losses over the batch's `weight` units."""
        ...

    def flops(self, batch: Any) -> float:
        """Operations of the forward and backward pass over the batch."""
        ...

    def fingerprint(self) -> str:
        """Says which data, order and settings the steps come from; a checkpoint of another one is refused."""
        ...


def train(
    objective: Objective,
    config: LoopConfig,
    folder: Path,
    say: Callable[[str], None],
    write_model_files: Callable[[Path], None],
    evaluate: Callable[[], dict[str, float]] | None = None,
    stored: Stored | None = None,
) -> dict[str, Any]:
    """Run or continue a stage in `folder` (metrics.jsonl, checkpoints/, model/); returns the last metrics.

    What was learned is ``folder/model``; `write_model_files` puts everything but the weights into such a directory.
    After each checkpoint, never before, `evaluate` scores the model as it is; its figures go to ``scores.jsonl``. It
    runs on every process. Of a model whose other weights stand elsewhere, only those of `stored` are written. Under
    ``torchrun`` every process calls this. Raises JvlmError when the loss or the gradient is not finite, after writing
    the batch's sample ids down; Stopped, after a checkpoint, on SIGTERM or when the time limit is over.
    """
    with (
        StopSign(config.time_limit) as stop,
        prepared_blocks(objective.model, config.engine) as uncompile,
        ExitStack() as closing,
    ):
        training = _Training(objective, config, folder, say, write_model_files, evaluate, uncompile, stored)
        return training.run(stop, closing)


class _Training:
    def __init__(
        self,
        objective: Objective,
        config: LoopConfig,
        folder: Path,
        say: Callable[[str], None],
        write_model_files: Callable[[Path], None],
        evaluate: Callable[[], dict[str, float]] | None,
        uncompile: Callable[[], None],
        stored: Stored | None,
    ) -> None:
        self.objective, self.config, self.folder, self.write_model_files = objective, config, folder, write_model_files
        self.evaluate, self.uncompile, self.stored = evaluate, uncompile, stored
        self.world = join_world()
        self.say = say if self.world.is_first else lambda text: None
        objective.model.train()
        trained = sorted(name for name, p in objective.model.named_parameters() if p.requires_grad)
        self.fingerprint = _fingerprint(objective, trained, config, stored)
        self.checkpoints = folder / "checkpoints"

    def run(self, stop: StopSign, closing: ExitStack) -> dict[str, Any]:
        config, world = self.config, self.world
        found = find_checkpoint(self.checkpoints, self.fingerprint, config.resume, self.say, world)
        if found is None and config.branch_from is not None:
            found = open_branch(config.branch_from, self.fingerprint, config.steps)
        progress = found.progress if found else Progress(0, self.fingerprint)
        if found:
            self.say(f"continuing from step {progress.step}")
        metrics = self.metrics = closing.enter_context(self._watch(progress))
        undecoded = Undecoded(self.folder / "errors.jsonl", config.undecoded, world)
        if progress.step < config.steps:
            self.engine = self._make_engine()
            if found:
                self.engine.load(found.parameters, found.optimizer, found.path)
        step, left_out = progress.step, progress.left_out
        make = partial(self.objective.micro_batches, world=world)
        prepared = closing.enter_context(Prefetch(make, step, config.steps, config.workers_on(world.device.type)))
        while step < config.steps:
            metrics.begin()
            if self.stored is not None:
                self._draw_anew(step)
            self.objective.by_source.clear()
            self.objective.routers.clear()
            batches = [to_device(batch, world.device) for batch in next(prepared)]
            metrics.data_ready()
            undecoded.note(batches)
            # a batch whose every image failed to decode has no target: it moves nothing, and is not 0 / 0
            weight = max(1, world.sum([sum(batch.weight for batch in batches)])[0])
            loss = torch.zeros((), device=world.device)
            for number, batch in enumerate(batches, 1):
                share = self.engine.loss_sum(batch) / weight
                loss += share.detach()
                self.engine.backward(share, last=number == len(batches))
            mean, stops = world.sum([float(loss), stop.reason is not None])
            optimizer = config.optimizer
            factor = learning_rate_factor(
                step, config.steps, optimizer.warmup, optimizer.schedule, optimizer.final, optimizer.decay
            )
            # at a rate of zero the gradients are cleared and no weight is changed
            norm = self.engine.step(factor if math.isfinite(mean) else 0.0)
            step += 1
            if math.isfinite(mean) and math.isfinite(norm):
                rate, flops = factor * optimizer.learning_rate, sum(map(self.objective.flops, batches))
                by_source, routing = self.objective.by_source.take(), self.objective.routers.take()
                metrics.step_done(step, config.steps, mean, norm, rate, weight, by_source, flops, routing)
            else:
                left_out = self._go_back(step - 1, mean, norm, batches, left_out)
            if step % config.checkpoint_every == 0 or step == config.steps or stops:
                progress = Progress(step, self.fingerprint, left_out, metrics.state())
                save_checkpoint(self.checkpoints, progress, self.engine, config, world, self.write_model_files)
                self._score(step)
            if stops and step < config.steps:
                reason = next(found for found in world.gather(stop.reason) if found)
                fix = "the same command goes on from there"
                raise Stopped(f"ended by {reason} after step {step}, which is saved", where=self.folder, fix=fix)
        if world.is_first:
            last_checkpoint = self.checkpoints / f"step-{config.steps:08d}"
            repeat_folder(last_checkpoint, self.folder / "model", leave_out=(OPTIMIZER, "state.json"))
        last: dict[str, Any] = world.from_first(metrics.last)  # nobody reads the model before it is there
        return last

    def _draw_anew(self, step: int) -> None:
        """What is drawn in a step (the dropout of adapters) depends on the run, the step and the process alone."""
        torch.manual_seed((int(self.fingerprint[:12], 16) + step) * 1_000 + self.world.rank)

    def _score(self, step: int) -> None:
        if self.evaluate is None:
            return
        self.objective.model.eval()
        with torch.compiler.set_stance("force_eager"):  # other shapes than a step's
            scores = self.evaluate()
        self.objective.model.train()
        self.say(f"step {step}: {', '.join(f'{name} {value:.4f}' for name, value in scores.items())}")
        if self.world.is_first:
            append_json_line(self.folder / "scores.jsonl", {"step": step} | scores)

    def _watch(self, progress: Progress) -> Metrics:
        config, world = self.config, self.world
        path, trackers, best = None, [], None
        if world.is_first:
            path = self.folder / "metrics.jsonl"
            if progress.step < config.steps:
                trackers = open_trackers(config.log_to, self.folder, progress.step)
                best = ceiling(world.device, config.engine.precision)
        metrics = Metrics(path, progress.step, config.log_every, self.objective.unit, self.say, world, best, trackers)
        metrics.restore(progress.watched)
        return metrics

    def _make_engine(self) -> Engine:
        config, world = self.config, self.world
        module = Forward(self.objective, config.engine.precision, world.device)
        names = self.stored.names if self.stored else None
        sizes = {name: p.numel() for name, p in named_parameters(module).items()}  # ZeRO 3 leaves empty ones
        if config.engine.zero is None:
            engine: Engine = TorchEngine(module, config, self.objective.rate_scale, world, names)
        else:
            from jvlm.train.deepspeed_engine import DeepSpeedEngine

            engine = DeepSpeedEngine(module, config, self.objective.rate_scale, world, names)
        trained = sum(sizes[name] for name in engine.trained)
        total = sum(sizes.values())
        self.say(f"{trained:,} of {total:,} parameters trained, {config.optimizer!r}, {config.engine!r}")
        self._dry_step(engine)
        return engine

    def _dry_step(self, engine: Engine) -> None:
        """A step at a rate of zero: what does not fit into memory fails now, and optimizer state comes to be."""
        batch = to_device(self.objective.largest_batch(self.world), self.world.device)
        try:
            try:
                loss = engine.loss_sum(batch) / max(1, batch.weight)
            except TorchDynamoException as error:
                self.say(f"NOT COMPILED, training goes on without: {type(error).__name__}: {str(error)[:200]}")
                self.uncompile()
                loss = engine.loss_sum(batch) / max(1, batch.weight)
            engine.backward(loss, last=True)
            engine.step(0.0)
        except torch.OutOfMemoryError as error:
            fix = "lower rows or row_length, or raise accumulation"
            raise JvlmError(f"a step does not fit into memory: {error}", where=self.folder, fix=fix) from None
        engine.clear_state()

    def _go_back(
        self, step: int, loss: float, norm: float, batches: list[Any], left_out: tuple[tuple[int, int], ...]
    ) -> tuple[tuple[int, int], ...]:
        """Restore the last checkpoint; returns the steps left out then. Raises JvlmError when it may not be done.

        `step` counts from 0, what is said and written from 1, as the metrics do.
        """
        ids = [
            sample_id
            for own in self.world.gather([sample_id for batch in batches for sample_id in batch.sample_ids])
            for sample_id in own
        ]
        record = self.folder / "not_finite.jsonl"
        if self.world.is_first:
            append_json_line(record, {"step": step + 1, "loss": str(loss), "grad_norm": str(norm), "ids": ids})
        found = find_checkpoint(self.checkpoints, self.fingerprint, "auto", self.say, self.world)
        if found is None or len(left_out) >= self.config.go_back:
            raise JvlmError(
                f"loss {loss} or gradient norm {norm} is not finite at step {step + 1}; no weight was changed by it",
                where=record,
                fix="look at the samples listed there, or lower the learning rate; the last checkpoint is kept",
            )
        self.engine.load(found.parameters, found.optimizer, found.path)
        self.metrics.restore(found.progress.watched)
        begin = found.progress.step
        self.say(f"not finite at step {step + 1}: back to step {begin}; steps {begin + 1} to {step + 1} are left out")
        return (*left_out, (begin, step + 1))


def _fingerprint(objective: Objective, trained: list[str], config: LoopConfig, stored: Stored | None) -> str:
    # how often a checkpoint is written or a line is logged, and on how many processes, does not change what is computed
    parts = [objective.fingerprint(), objective.rate_scale, trained, config.steps, config.optimizer.model_dump()]
    parts += [config.engine.precision, *([str(config.branch_from)] if config.branch_from else [])]
    parts += [stored.apart_from] if stored else []
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
