"""What is done: in ``OUT/units`` the rows of each unit and its record, which is there once the unit is.

`000000.jsonl` holds the rows, `000000.json` their hash and the unit's log: who made it, when, how long it took. Rows
are committed by rename before their record is, so that a unit with a record is whole; should its file be another than
the record says, it counts as not done and is made again.
"""

import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jvlm.errors import DataError
from jvlm.files import read_json, sha256_bytes, write_bytes, write_json

Row = dict[str, Any]


class Torn(DataError):
    """A unit whose rows are not those its record tells of."""


@dataclass(frozen=True)
class Record:
    """Of a unit that is done. The rows depend on the plan alone, the fields behind `tokens` on who made them."""

    unit: int
    sha256: str
    rows: int
    failed: int
    tokens: int
    attempt: int
    worker: str
    seconds: float
    finished: float


class Ledger:
    """The records of a job, read once each; `refresh` finds those that came since."""

    def __init__(self, out: Path) -> None:
        self.folder = out / "units"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.records: dict[int, Record] = {}
        self.refresh()

    def refresh(self) -> None:
        for entry in os.scandir(self.folder):
            number, _, suffix = entry.name.partition(".")
            if suffix == "json" and number.isdigit() and int(number) not in self.records:
                self.look(int(number))

    def look(self, unit: int) -> Record | None:
        """The record of a unit as it stands on the disk now; None when it is not done."""
        try:
            record = Record(**read_json(self._path(unit, "json")))
        except (DataError, TypeError):  # not there, or no record: then the unit is not done
            self.records.pop(unit, None)
            return None
        self.records[unit] = record
        return record

    def commit(self, unit: int, rows: list[Row], seconds: float, attempt: int) -> Record:
        """Write the rows of a unit, then its record. Raises JvlmError when the disk does not take them."""
        record = Record(
            unit=unit,
            sha256=write_bytes(self._path(unit, "jsonl"), b"".join(map(encoded, rows))),
            rows=len(rows),
            failed=sum(row["status"] == "error" for row in rows),
            tokens=sum(row["n_tokens"] or 0 for row in rows),
            attempt=attempt,
            worker=f"{platform.node()}:{os.getpid()}",
            seconds=seconds,
            finished=time.time(),
        )
        write_json(self._path(unit, "json"), asdict(record))
        self.records[unit] = record
        return record

    def rows(self, unit: int) -> list[Row]:
        """The rows of a unit that is done. Raises Torn when they are not those that were committed."""
        record, path = self.look(unit), self._path(unit, "jsonl")
        try:
            data = path.read_bytes()
        except OSError:
            data = b""
        if record is None or sha256_bytes(data) != record.sha256:
            raise Torn("the rows are not those of their record", where=path, fix="run the job again")
        return [json.loads(line) for line in data.split(b"\n")[:-1]]

    def forget(self, unit: int) -> None:
        """Count a unit as not done, unless it is whole again: another process may have made it meanwhile."""
        with suppress(Torn):
            self.rows(unit)
            return
        self.records.pop(unit, None)
        self._path(unit, "json").unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what killed processes left half-written; what is a minute old is nobody's any more."""
        for path in self.folder.glob(".*.tmp"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > 60:
                    path.unlink()

    def _path(self, unit: int, suffix: str) -> Path:
        return self.folder / f"{unit:06d}.{suffix}"


def encoded(row: Row) -> bytes:
    """A row as a line; half a surrogate pair in a foreign text comes as an escape."""
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
