"""How far a job is, over all its processes; also as `OUT/progress.json`, for whoever watches from outside."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from jvlm.files import write_json
from jvlm.infer.caption.ledger import Ledger
from jvlm.infer.caption.plan import Plan


@dataclass(frozen=True)
class Progress:
    """Rates are those of all processes since this one began; None before a unit was done."""

    state: str
    """running, stopped or done"""
    rows: int
    rows_done: int
    units: int
    units_done: int
    failed: int
    tokens: int
    images_per_s: float | None
    """Items, that is: with several prompts each of them has several rows."""
    tokens_per_s: float | None
    eta_s: float | None
    updated: float

    def __str__(self) -> str:
        rate = f", {self.images_per_s:.1f} images/s, {self.tokens_per_s:.0f} tokens/s" if self.images_per_s else ""
        left = f", {self.eta_s / 3600:.2f} h left" if self.eta_s else ""
        return f"{self.rows_done} of {self.rows} rows, {self.failed} failed{rate}{left}"


class Watch:
    """Counts what the ledger holds against the time since it was made."""

    def __init__(self, out: Path, plan: Plan, ledger: Ledger) -> None:
        self._out, self._plan, self._ledger = out, plan, ledger
        self._began = time.monotonic()
        self._rows, self._tokens = self._done()

    def progress(self, state: str = "running") -> Progress:
        """What is done by now, also written to the file."""
        self._ledger.refresh()
        rows, tokens = self._done()
        seconds = time.monotonic() - self._began
        rate = (rows - self._rows) / seconds if rows > self._rows else None
        found = Progress(
            state=state,
            rows=self._plan.num_rows,
            rows_done=rows,
            units=self._plan.units,
            units_done=len(self._ledger.records),
            failed=sum(record.failed for record in self._ledger.records.values()),
            tokens=tokens,
            images_per_s=rate / self._plan.settings.rows_per_item if rate else None,
            tokens_per_s=(tokens - self._tokens) / seconds if rate else None,
            eta_s=(self._plan.num_rows - rows) / rate if rate else None,
            updated=time.time(),
        )
        write_json(self._out / "progress.json", asdict(found))
        return found

    def _done(self) -> tuple[int, int]:
        records = self._ledger.records.values()
        return sum(record.rows for record in records), sum(record.tokens for record in records)
