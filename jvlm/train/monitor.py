"""What is watched while a model learns: metrics.jsonl, a loss that leaps, a signal or a time limit to end at."""

import json
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from types import FrameType, TracebackType
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from jvlm.files import append_json_line, read_json_lines, write_text
from jvlm.train.routers import Routing, routing_figures
from jvlm.train.trackers import Tracker
from jvlm.train.world import ONE_PROCESS, World

SPIKE_WINDOW = 128
SPIKE_SIGMAS = 6


class LossBySource:
    """Losses of one process, summed by the source of what was predicted."""

    def __init__(self) -> None:
        self._pending: list[tuple[list[str], Tensor, Tensor]] = []

    def add(self, names: Sequence[str], which: Tensor, losses: Tensor) -> None:
        """`losses` ``[n]``, of which number i is of the source ``names[which[i]]``. Nothing waits for the device."""
        distinct = sorted(set(names))
        number = {name: i for i, name in enumerate(distinct)}
        of = torch.tensor([number[name] for name in names], device=which.device)[which]
        sums = torch.zeros(len(distinct), dtype=torch.float64, device=losses.device)
        sums.index_add_(0, of, losses.detach().double())
        self._pending.append((distinct, sums, torch.bincount(of, minlength=len(distinct))))

    def clear(self) -> None:
        self._pending.clear()

    def take(self) -> list[tuple[str, float, int]]:
        """(source, sum of losses, their number) of what was added, which is then forgotten."""
        found = [
            (name, total, count)
            for names, sums, counts in self._pending
            for name, total, count in zip(names, sums.tolist(), counts.tolist(), strict=True)
            if count
        ]
        self.clear()
        return found


class Metrics:
    """metrics.jsonl: lines of steps that a restart will compute again are dropped first. Without a path, none.

    What the running interval comes to is part of a checkpoint (`state`), so that an interrupted run writes the lines
    of one that was not. Figures are of all processes together.
    """

    def __init__(
        self,
        path: Path | None,
        start: int,
        every: int,
        unit: str,
        say: Callable[[str], None],
        world: World = ONE_PROCESS,
        ceiling: float | None = None,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        """`ceiling`: operations per second that one process could do at best. On a terminal a bar takes the place of
        lines of progress."""
        self.path, self.every, self.unit, self.say, self.world = path, every, unit, say, world
        self.ceiling, self.trackers = ceiling, trackers
        self.last: dict[str, Any] = {}
        if path:
            kept = [record for record in read_json_lines(path) if record["step"] <= start]
            write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))
            self.last = kept[-1] if kept else {}
        self._bar = _bar() if path and sys.stdout.isatty() else None
        self._recent: list[float] = []
        self._seen = 0.0
        self._own: list[tuple[str, float, int]] = []
        self._own_routing: list[Routing] = []
        self._own_flops = 0.0
        self._reset()

    def _reset(self) -> None:
        self._seconds = self._data_seconds = self._flops = 0.0
        self._weight, self._losses, self._spikes = 0.0, 0.0, 0
        self._by_source: dict[str, tuple[float, int]] = {}
        self._routing: Routing = []

    def state(self) -> dict[str, Any]:
        """For a checkpoint; every process calls it."""
        self._gather()
        return {
            "seen": self._seen,
            "recent": self._recent,
            "interval": [self._seconds, self._data_seconds, self._flops, self._weight, self._losses, self._spikes],
            "by_source": self._by_source,
            "routing": self._routing,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """What `state` gave; nothing for a checkpoint that has none."""
        if not state:
            return
        self._own, self._own_routing, self._own_flops = [], [], 0.0
        self._seen, self._recent = state["seen"], list(state["recent"])
        self._seconds, self._data_seconds, self._flops, self._weight, self._losses, self._spikes = state["interval"]
        self._by_source = {name: (total, count) for name, (total, count) in state["by_source"].items()}
        self._routing = state.get("routing", [])  # checkpoints had none before it was watched

    def __enter__(self) -> "Metrics":
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task("")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()
        for tracker in self.trackers:
            tracker.close()

    def begin(self) -> None:
        self._started = time.perf_counter()

    def data_ready(self) -> None:
        self._data_seconds += time.perf_counter() - self._started

    def step_done(
        self,
        step: int,
        steps: int,
        loss: float,
        norm: float,
        rate: float,
        weight: float,
        by_source: Sequence[tuple[str, float, int]] = (),
        flops: float = 0.0,
        routing: Routing = (),
    ) -> None:
        """`weight` units, all processes' together, had the mean loss `loss`; what follows `weight` is this one's."""
        self._seconds += time.perf_counter() - self._started
        self._weight += weight
        self._seen += weight
        self._losses += loss * weight
        self._own += by_source
        self._own_routing += [routing] if routing else []
        self._own_flops += flops
        if self._leaps(loss):
            self._spikes += 1
            self.say(f"the loss leaps at step {step}: {loss:.4f}, of late {fmean(self._recent):.4f}")
        self._recent = [*self._recent, loss][-SPIKE_WINDOW:]
        if self._bar:
            text = f"loss {loss:.4f} norm {norm:.2f} {self._weight / self._seconds:.0f} {self.unit}/s"
            self._bar.update(self._task, total=steps, completed=step, description=text, refresh=True)
        if step % self.every and step != steps:
            return
        self._gather()
        speed, flops_per_s = self._weight / self._seconds, self._flops / self._seconds
        record: dict[str, Any] = {
            "step": step,
            "loss": self._losses / self._weight,
            "grad_norm": norm,
            "lr": rate,
            self.unit: int(self._weight),
            f"{self.unit}_seen": int(self._seen),
            f"{self.unit}_per_s": speed,
            "flops_per_s": flops_per_s,
            "mfu": flops_per_s / (self.ceiling * self.world.size) if self.ceiling else None,
            "seconds": self._seconds,
            "data_seconds": self._data_seconds,
            "spikes": self._spikes,
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
        if self._by_source:
            shares = sorted(self._by_source.items())
            record["loss_by_source"] = {name: total / count for name, (total, count) in shares}
        if self._routing:
            record["routers"] = routing_figures(self._routing)
        if self.world.device.type == "cuda":
            record["peak_gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30
        if self.path:
            append_json_line(self.path, record)
        for tracker in self.trackers:
            tracker.log(record)
        if not self._bar:
            share = f" {record['mfu']:.0%} of the ceiling" if record["mfu"] else ""
            self.say(f"step {step}/{steps} loss {record['loss']:.4f} norm {norm:.2f} {speed:.0f} {self.unit}/s{share}")
        self.last = record
        self._reset()

    def _gather(self) -> None:
        """Add what the processes did since to the interval's sums."""
        for own, routing, flops in self.world.gather((self._own, self._own_routing, self._own_flops)):
            self._flops += flops
            if routing:
                self._routing = np.add(np.sum(routing, axis=0), self._routing or 0.0).tolist()
            for name, total, count in own:
                sums = self._by_source.get(name, (0.0, 0))
                self._by_source[name] = (sums[0] + total, sums[1] + count)
        self._own, self._own_routing, self._own_flops = [], [], 0.0

    def _leaps(self, loss: float) -> bool:
        """More than six standard deviations above the mean of the last 128 steps (OLMo-core's measure)."""
        if len(self._recent) < SPIKE_WINDOW:
            return False
        return loss > fmean(self._recent) + SPIKE_SIGMAS * pstdev(self._recent)


def _bar() -> Progress:
    columns = (MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), auto_refresh=False)


class StopSign:
    """Says whether to save and end: SIGTERM came, or `minutes` are over."""

    def __init__(self, minutes: float | None) -> None:
        self._end = float("inf") if minutes is None else time.monotonic() + 60 * minutes
        self._signalled = False

    @property
    def reason(self) -> str | None:
        if self._signalled:
            return "SIGTERM"
        return "the time limit" if time.monotonic() >= self._end else None

    def __enter__(self) -> "StopSign":
        self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        signal.signal(signal.SIGTERM, self._before)
