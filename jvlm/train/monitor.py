"""What is watched while a model learns: metrics.jsonl, a loss that leaps, a signal or a time limit to end at."""

import json
import resource
import signal
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, pstdev
from types import FrameType, TracebackType

from jvlm.files import append_json_line, read_json_lines, write_text

SPIKE_WINDOW = 128
SPIKE_SIGMAS = 6


class Metrics:
    """metrics.jsonl: lines of steps that a restart will compute again are dropped first. Without a path, none."""

    def __init__(self, path: Path | None, start: int, every: int, unit: str, say: Callable[[str], None]) -> None:
        self.path, self.every, self.unit, self.say = path, every, unit, say
        self.last: dict[str, float] = {}
        if path:
            kept = [record for record in read_json_lines(path) if record["step"] <= start]
            write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
            self.last = kept[-1] if kept else {}
        self._recent: deque[float] = deque(maxlen=SPIKE_WINDOW)
        self._reset()

    def _reset(self) -> None:
        self._seconds = self._data_seconds = 0.0
        self._weight, self._losses, self._spikes = 0.0, 0.0, 0

    def begin(self) -> None:
        self._started = time.perf_counter()

    def data_ready(self) -> None:
        self._data_seconds += time.perf_counter() - self._started

    def step_done(self, step: int, steps: int, loss: float, norm: float, rate: float, weight: float) -> None:
        """`weight` units, all processes' together, had the mean loss `loss`."""
        self._seconds += time.perf_counter() - self._started
        self._weight += weight
        self._losses += loss * weight
        if self._leaps(loss):
            self._spikes += 1
            self.say(f"the loss leaps at step {step}: {loss:.4f}, of late {fmean(self._recent):.4f}")
        self._recent.append(loss)
        if step % self.every and step != steps:
            return
        record = {
            "step": step,
            "loss": self._losses / self._weight,
            "grad_norm": norm,
            "lr": rate,
            self.unit: int(self._weight),
            f"{self.unit}_per_s": self._weight / self._seconds,
            "seconds": self._seconds,
            "data_seconds": self._data_seconds,
            "spikes": self._spikes,
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
        if self.path:
            append_json_line(self.path, record)
        speed = record[f"{self.unit}_per_s"]
        self.say(f"step {step}/{steps} loss {record['loss']:.4f} norm {norm:.2f} {speed:.0f} {self.unit}/s")
        self.last = record
        self._reset()

    def _leaps(self, loss: float) -> bool:
        """More than six standard deviations above the mean of the last 128 steps (OLMo-core's measure)."""
        if len(self._recent) < SPIKE_WINDOW:
            return False
        return loss > fmean(self._recent) + SPIKE_SIGMAS * pstdev(self._recent)


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
