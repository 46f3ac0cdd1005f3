"""What a contestant of the vision-language benchmark has beside one of the pretraining benchmark
(`jvlm.bench.contestant`): helpers that prepare batches, and more that is counted in a span."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jvlm.bench import contestant


@dataclass(frozen=True)
class Settings(contestant.Settings):
    """What a contestant may choose for itself. `rows`: packed rows (ours) or samples (padded) in a batch."""

    workers: int = 0
    """Threads (ours) or processes (Trainer) that prepare batches while a step is computed."""


@dataclass(frozen=True)
class Spec(contestant.Spec):
    """One run of a contestant."""

    settings: Settings

    @classmethod
    def read(cls, path: Path) -> "Spec":
        """What `write` wrote."""
        record = json.loads(path.read_text(encoding="utf-8"))
        return cls(**record | {"settings": Settings(**record["settings"])})


class Spans(contestant.Spans):
    """Tells of each span besides what was computed in it."""

    def __init__(self, warmup_steps: int, span_steps: int) -> None:
        super().__init__(warmup_steps, span_steps)
        self._work: dict[str, float] = {}

    def count(self, work: dict[str, float]) -> None:
        """Add to the sums of the span, by name."""
        self._work = {name: self._work.get(name, 0) + amount for name, amount in work.items()}

    def tell(self, message: dict[str, Any]) -> None:
        super().tell(message | self._work)
        self._work = {}
