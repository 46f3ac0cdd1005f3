"""The plan of a job: its settings, its items in order, cut into units of fixed size. Written once, never changed.

In ``OUT/plan``: `items.jsonl`, a line an item, and `plan.json`, the settings and where each unit begins in it.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jvlm.errors import DataError, UsageError
from jvlm.files import new_folder, read_json, verify_folder, write_json
from jvlm.infer.caption.content import content
from jvlm.infer.caption.inputs import Item, list_items
from jvlm.infer.caption.leases import PLANNING, Leases
from jvlm.infer.caption.prompts import names_in

if TYPE_CHECKING:
    from jvlm.model.quantized import Weights

UNIT = 500
_FORMAT = "jvlm-caption-1"


@dataclass(frozen=True)
class Settings:
    """All that the rows of a job depend on. `model_hash` and `clip_hash` stand for weights, not for where they are."""

    source: str
    """A folder, a glob, a list, shards, Parquet or JSONL."""
    model_hash: str
    images: str | None = None
    """The folder that names of images in a table are relative to; that of the table."""
    prompts: tuple[str, ...] = ()
    """Templates; of several, a row's id has the number of its own behind a #."""
    unit: int = UNIT
    """Items of a unit."""
    max_new_tokens: int = 96
    temperature: float = 0.0
    seed: int = 0
    threads: int = 0
    """Of each process's arithmetic, on which sums and in rare cases words depend; 0: what the job was planned with, at
    first the processors of the machine that plans it."""
    clip_hash: str | None = None
    weights: "Weights" = "full"
    compile: bool = False
    """Compiled arithmetic rounds otherwise, on which words depend in rare cases."""

    @property
    def rows_per_item(self) -> int:
        return max(len(self.prompts), 1)

    def row_id(self, item: str, number: int) -> str:
        """Of the row that answers prompt `number`, from 0."""
        return f"{item}#{number + 1}" if len(self.prompts) > 1 else item


@dataclass(frozen=True)
class Plan:
    """A job as it was planned. `starts` ``[units + 1]`` are bytes of `items.jsonl`."""

    folder: Path
    settings: Settings
    num_items: int
    starts: NDArray[np.int64]

    @property
    def units(self) -> int:
        return len(self.starts) - 1

    @property
    def num_rows(self) -> int:
        return self.num_items * self.settings.rows_per_item

    def items(self, unit: int) -> list[Item]:
        """The items of a unit, in order."""
        with open(self.folder / "items.jsonl", "rb") as file:
            file.seek(int(self.starts[unit]))
            lines = file.read(int(self.starts[unit + 1] - self.starts[unit])).splitlines()
        return [Item(record[0], tuple(record[1:])) for record in map(json.loads, lines)]

    def item(self, number: int) -> Item:
        """One item, by its number in the job."""
        return self.items(number // self.settings.unit)[number % self.settings.unit]


def ensure_plan(out: Path, settings: Settings, leases: Leases) -> Plan:
    """The plan of the job in `out`, made if there is none yet; of processes that start together one makes it.

    Raises:
        UsageError: the folder holds another job, or a prompt names what the rows do not have.
        DataError: there is nothing to caption, or two items have one id.
    """
    with leases.hold(PLANNING, wait=True):
        if not (out / "plan").exists():
            make_plan(out / "plan", settings)
    plan = load_plan(out / "plan")
    ours, theirs = asdict(settings), asdict(plan.settings)
    ours["threads"] = settings.threads or plan.settings.threads
    changed = [name for name in ours if ours[name] != theirs[name]]
    if changed:
        told = ", ".join(f"{name} was {theirs[name]!r}, now is {ours[name]!r}" for name in changed)
        raise UsageError(f"the folder holds a job with other settings: {told}", where=out, fix="name another --out")
    return plan


def make_plan(folder: Path, settings: Settings) -> None:
    """List the input and write the plan. Raises as `ensure_plan`."""
    names = [name for prompt in settings.prompts for name in names_in(prompt)]
    seen: set[bytes] = set()  # of a million ids only their hashes are held
    starts = [0]
    with new_folder(folder) as new:
        with open(new / "items.jsonl", "wb") as file:
            for item in _first_checked(list_items(settings.source), settings, names):
                mark = sha256(item.id.encode()).digest()[:16]
                if mark in seen:
                    fix = "ids must be unique: leave the column out, or mend it"
                    raise DataError("two items have this id", where=item.id, fix=fix)
                if seen and len(seen) % settings.unit == 0:
                    starts.append(file.tell())
                seen.add(mark)
                file.write(json.dumps([item.id, *item.at]).encode() + b"\n")
            if not seen:
                raise DataError("nothing to caption", where=settings.source)
            starts.append(file.tell())
        kept = asdict(replace(settings, threads=settings.threads or _processors()))
        plan = {"format": _FORMAT, "settings": kept, "items": len(seen), "starts": starts}
        write_json(new / "plan.json", plan, indent=None)


def load_plan(folder: Path) -> Plan:
    """Raises DataError when it is not whole, or none of ours."""
    verify_folder(folder)
    record = read_json(folder / "plan.json")
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise DataError(f"not a plan of the format {_FORMAT}", where=folder, fix="name another --out")
    known = {field.name for field in fields(Settings)}
    kept = {name: value for name, value in record["settings"].items() if name in known}
    settings = Settings(**kept | {"prompts": tuple(kept["prompts"])})
    return Plan(folder, settings, int(record["items"]), np.array(record["starts"], np.int64))


def _processors() -> int:
    """Threads a process has to itself, as OpenMP is told or the system says."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdigit() and int(told) else len(os.sched_getaffinity(0))


def _first_checked(items: Iterator[Item], settings: Settings, names: list[str]) -> Iterator[Item]:
    """The items; that the prompts name what the first one has is seen before a million are listed."""
    for number, item in enumerate(items):
        if number == 0 and names:
            _check_names(item, settings, names)
        yield item


def _check_names(item: Item, settings: Settings, names: list[str]) -> None:
    try:
        has: dict[str, Any] = content(item, settings.images).fields
    except DataError:
        return  # the row is bad: it says nothing of the others
    unknown = [name for name in names if name not in has]
    if unknown:
        raise UsageError(f"the prompt names {unknown[0]!r}, the rows have {', '.join(has)}", where=settings.source)
