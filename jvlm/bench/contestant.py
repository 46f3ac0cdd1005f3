"""One training in a process of its own, measured span by span when its parent says so.

A child runs a few steps to warm up, says that it is ready and then waits at the start of a step for a line on its
standard input; it goes on for one span of steps, says how long that took and waits again. So several trainings take
turns on one machine, each alone while it is measured, and start-up and compilation are paid for once. Free of torch:
other people's environments import it too.
"""

import json
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

ENDLESS = 100_000  # steps of a training that its parent ends


@dataclass(frozen=True)
class Settings:
    """What a contestant may choose for itself."""

    precision: str = "float32"
    """`float32`, or `bfloat16` for matrix products (autocast)."""
    compile: bool = False
    """torch.compile."""
    rows: int = 8
    """Rows, or padded samples, in a batch, which is a step."""
    group: bool = False
    """Samples of like length in one batch: for padded rows."""
    workers: int = 0
    """Threads (ours) or processes (Trainer) that prepare batches while a step is computed."""

    def but(self, **changes: Any) -> "Settings":
        """A copy with some settings changed."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Spec:
    """One run of a contestant."""

    kind: str
    """Which of a module's contestants."""
    work: str
    """The folder of `jvlm.bench.pretrain_data`."""
    size: str
    """Name of the model's size: a folder in `work` that holds its initial weights."""
    folder: str
    """What the run may write to."""
    settings: Settings
    optimizer: dict[str, Any]
    """Fields of OptimizerConfig."""
    row_length: int
    threads: int
    warmup_steps: int
    """Steps before the first span; at least one."""
    span_steps: int
    """Steps that are measured at once; a checkpoint is written in each span."""

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Spec":
        """What `write` wrote."""
        record = json.loads(path.read_text(encoding="utf-8"))
        return cls(**record | {"settings": Settings(**record["settings"])})


class Spans:
    """The child's side. Messages go to the parent by standard output, which libraries then cannot write to."""

    def __init__(self, warmup_steps: int, span_steps: int) -> None:
        self.warmup_steps, self.span_steps = warmup_steps, span_steps
        self._channel = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._started: float | None = None
        self._busy = 0.0
        self._work: dict[str, float] = {"targets": 0}

    def begin(self, step: int) -> None:
        """At the start of every step (from 0), before its batch is made. Ends the process when the parent is gone."""
        if step < self.warmup_steps or (step - self.warmup_steps) % self.span_steps:
            return
        if self._started is None:
            self.tell({"ready": True})
        else:
            seconds, busy = time.perf_counter() - self._started, time.process_time() - self._busy
            self.tell({"seconds": seconds, "cpu_seconds": busy, "peak_kib": peak_kib()} | self._work)
        self.wait()
        self._work = {"targets": 0}
        self._started, self._busy = time.perf_counter(), time.process_time()

    def add(self, **work: float) -> None:
        """Count what the step that has begun does, by name: `targets`, real target tokens, and what else is of use."""
        for name, amount in work.items():
            self._work[name] = self._work.get(name, 0) + amount

    def tell(self, message: dict[str, Any]) -> None:
        """One message to the parent."""
        print(json.dumps(message), file=self._channel, flush=True)

    def wait(self) -> None:
        """Until the parent says to go on."""
        if not sys.stdin.readline():
            raise SystemExit(0)


def peak_kib() -> int:
    """The most memory this process has held. Linux inherits `ru_maxrss` from the process that forked; VmHWM not."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
