"""What a corpus build counts: documents and characters by source and step, removals by reason, seconds by step."""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jvlm.text.raw import Document, InputError

STEPS = ("read", "clean", "unique", "train", "held_out")
SCORE_BINS = 10
EXAMPLES_PER_REASON = 5
EXCERPT_CHARS = 160


class Tally:
    """Counts that can be written down, read back and added up; the sum does not depend on how the work was cut."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.sources: dict[str, dict[str, dict[str, int]]] = {}
        self.removed: dict[str, dict[str, Any]] = {}
        self.masked: dict[str, int] = {}
        self.quality: dict[str, list[int]] = {}
        self.errors: list[dict[str, str]] = []
        self.seconds: dict[str, float] = {}

    def count(self, step: str, source: str, chars: int) -> None:
        steps = self.sources.setdefault(source, {name: {"documents": 0, "chars": 0} for name in STEPS})
        steps[step]["documents"] += 1
        steps[step]["chars"] += chars

    def remove(
        self,
        document: Document,
        reason: str,
        text: str,
        *,
        line: int | None = None,
        of: str | None = None,
        similarity: float = 0.0,
    ) -> dict[str, Any]:
        """Count one removal; returns its row for `removed.jsonl`. `line` None means the whole document.

        `of` and `similarity` (0 to 1) say what a document was too much alike. Of each reason those few are kept as
        examples that the seed draws by their hash.
        """
        row: dict[str, Any] = {"id": document.id, "source": document.source, "reason": reason, "line": line}
        row |= {"excerpt": text[:EXCERPT_CHARS], "chars": len(text)}
        row |= {"of": of, "similarity": round(similarity, 4)} if of is not None else {}
        total = self.removed.setdefault(reason, {"documents": 0, "lines": 0, "chars": 0, "examples": []})
        total["documents" if line is None else "lines"] += 1
        total["chars"] += len(text)
        self._keep_examples(total, [row])
        return row

    def score(self, source: str, quality: float) -> None:
        """Count a document of a source among those of a like score, 0 to 1."""
        bins = self.quality.setdefault(source, [0] * SCORE_BINS)
        bins[min(int(quality * SCORE_BINS), SCORE_BINS - 1)] += 1

    def fault(self, error: InputError) -> None:
        self.errors.append({"where": error.where, "what": error.what})

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the processor seconds of the body to a step, with those of processes that began and ended in it."""
        begun = _processor_seconds()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + _processor_seconds() - begun

    def record(self) -> dict[str, Any]:
        """Everything but the seed, as JSON."""
        return {name: value for name, value in vars(self).items() if name != "seed"}

    def add(self, record: dict[str, Any]) -> None:
        """Add what another tally wrote down."""
        for source, steps in record["sources"].items():
            own = self.sources.setdefault(source, {name: {"documents": 0, "chars": 0} for name in STEPS})
            for step, cell in steps.items():
                for unit, number in cell.items():
                    own[step][unit] += number
        for reason, other in record["removed"].items():
            total = self.removed.setdefault(reason, {"documents": 0, "lines": 0, "chars": 0, "examples": []})
            for unit in ("documents", "lines", "chars"):
                total[unit] += other[unit]
            self._keep_examples(total, other["examples"])
        for name, number in record["masked"].items():
            self.masked[name] = self.masked.get(name, 0) + number
        for source, bins in record["quality"].items():
            own_bins = self.quality.setdefault(source, [0] * SCORE_BINS)
            self.quality[source] = [a + b for a, b in zip(own_bins, bins, strict=True)]
        self.errors += record["errors"]
        for step, seconds in record["seconds"].items():
            self.seconds[step] = self.seconds.get(step, 0.0) + seconds

    def _keep_examples(self, total: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        rows = [*total["examples"], *rows]
        if len(rows) > EXAMPLES_PER_REASON:
            rows.sort(key=lambda row: fraction(f"{row['id']} {row['line']}", f"example {self.seed}"))
        total["examples"] = rows[:EXAMPLES_PER_REASON]


def _processor_seconds() -> float:
    times = os.times()  # of the process itself these are far coarser
    return time.process_time() + times.children_user + times.children_system


def fraction(text: str, salt: str) -> float:
    """A number in [0, 1) that depends on the text and the salt alone."""
    return int.from_bytes(hashlib.sha256(f"{salt}\n{text}".encode()).digest()[:8], "big") / 2**64
