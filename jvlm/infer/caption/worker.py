"""One process's part of a job: lease a unit, caption it, commit it."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jvlm.infer.caption.inputs import Item
from jvlm.infer.caption.leases import Leases
from jvlm.infer.caption.ledger import Ledger, Record, Row, Torn
from jvlm.infer.caption.plan import Plan, load_plan
from jvlm.infer.caption.unit import Tools, caption_items

if TYPE_CHECKING:
    from jvlm.model.quantized import Weights

Load = Callable[[], Tools]


def load_tools(model: Path, clip: Path | None = None, weights: "Weights" = "full", compile: bool = False) -> Tools:
    """The model, and the CLIP that scores, from their directories. Raises DataError, UsageError."""
    import jvlm

    loaded = jvlm.load(model, weights=weights, compile=compile)
    if clip is None:
        return Tools(loaded)
    from jvlm.infer.caption.clip_score import ClipScores

    return Tools(loaded, ClipScores(clip))


class Worker:
    """Captions units of the job in `out`, whose plan is there. The model is loaded when the first unit needs it."""

    def __init__(self, out: Path, load: Load, leases: Leases, ledger: Ledger | None = None) -> None:
        self.plan: Plan = load_plan(out / "plan")
        self.ledger = ledger or Ledger(out)
        self._leases, self._load = leases, load
        self._tools: Tools | None = None
        self.written = 0
        """Rows committed by this process."""

    def caption(self, unit: int, above: int = 0) -> Record | None:
        """Do a unit, unless it is done; None when another process is at it.

        Args:
            unit: its number.
            above: of a unit that was done in so many attempts, the rows that failed are tried once more.
        """
        with self._leases.hold(unit) as ours:
            if not ours:
                return None
            record = self.ledger.look(unit)
            if record is not None and record.attempt > above:
                return record
            began = time.perf_counter()
            try:
                rows = self._again(unit) if record is not None else self._rows(unit)
            except Torn:
                rows = self._rows(unit)
            attempt = record.attempt + 1 if record is not None else 1
            self.written += len(rows)
            return self.ledger.commit(unit, rows, time.perf_counter() - began, attempt)

    def _rows(self, unit: int) -> list[Row]:
        return self._captioned(self.plan.items(unit))

    def _again(self, unit: int) -> list[Row]:
        """The rows of a unit, those of items with a failure new."""
        per_item, rows = self.plan.settings.rows_per_item, self.ledger.rows(unit)
        failed = sorted({number // per_item for number, row in enumerate(rows) if row["status"] == "error"})
        items = self.plan.items(unit)
        found = self._captioned([items[number] for number in failed])
        for place, number in enumerate(failed):
            rows[number * per_item : (number + 1) * per_item] = found[place * per_item : (place + 1) * per_item]
        return rows

    def _captioned(self, items: list[Item]) -> list[Row]:
        if self._tools is None:
            self._tools = self._load()
        with threads(self.plan.settings.threads):
            return caption_items(items, self._tools, self.plan.settings)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """With the plan's number of threads: sums depend on it, and how long they take."""
    torch = sys.modules.get("torch")  # there is a model that does without
    before = torch.get_num_threads() if torch else 0
    try:
        if torch:
            torch.set_num_threads(number)
        yield
    finally:
        if torch:
            torch.set_num_threads(before)
