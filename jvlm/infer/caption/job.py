"""The captioning job: plan, work, merge. Run it again, or in as many processes at once as you like."""

import hashlib
import platform
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jvlm.errors import DataError, UsageError
from jvlm.files import read_json, sha256_file, write_json
from jvlm.infer.caption.leases import MERGING, Leases
from jvlm.infer.caption.ledger import Ledger, Record, Torn
from jvlm.infer.caption.outputs import NAMES, check_formats, merge
from jvlm.infer.caption.places import absolute
from jvlm.infer.caption.plan import Plan, Settings, ensure_plan
from jvlm.infer.caption.progress import Progress, Watch
from jvlm.infer.caption.summary import Census, write_summary
from jvlm.infer.caption.worker import Load, Worker
from jvlm.process import noted_sigterm

RESULT = "result.json"
PATIENCE_SECONDS = 1.0
"""How often a process that has nothing left to take looks whether the others are done."""
ENOUGH_ROWS, FEW_FAILURES = 1000, 10
"""So many rows speak for a whole job; so few that failed end none, however small it is."""
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class CaptionReport:
    """Rows of the whole job, how many of them are errors, rows written by this call; whether all is done."""

    rows: int
    errors: int
    written: int
    complete: bool


def caption(
    out: Path,
    settings: Settings,
    load: Load,
    *,
    formats: tuple[str, ...] = ("jsonl",),
    retry_failed: bool = False,
    max_failures: float = 0.2,
    ray_workers: int = 0,
    on_progress: OnProgress = lambda progress: None,
) -> CaptionReport:
    """Caption every item of `settings.source` into `out`, or go on with it.

    Leaves the outputs, `result.json` with counts and hashes, `summary.html` and `progress.json`. A SIGTERM ends it
    after the unit in work; the report then says that it is not complete.

    Args:
        out: the job's folder; processes that share it share the work.
        settings: what the rows depend on.
        load: gives model and CLIP; called when there is something to caption.
        formats: outputs, of `outputs.NAMES`.
        retry_failed: try rows that failed once more.
        max_failures: the job ends when more than this share of its rows failed: of those that are done once they are
            `ENOUGH_ROWS`, until then of all; never for `FEW_FAILURES` or less, unless it is 0.
        ray_workers: so many actors of Ray do the work; 0: this process.
        on_progress: told after every unit.

    Raises:
        UsageError: the folder holds another job; an unknown format; a missing package; a prompt without its field.
        DataError: nothing to caption, two items of one id, too many failures.
    """
    check_formats(formats)
    if out.is_file() or out.suffix in (".jsonl", ".parquet"):
        raise UsageError("a job has a folder, not a file", where=out, fix="name a folder; captions.jsonl comes there")
    images = None if settings.images is None else absolute(settings.images)
    settings = replace(settings, source=absolute(settings.source), images=images)
    with Leases(out / "leases") as leases, noted_sigterm() as stopped:
        plan = ensure_plan(out, settings, leases)
        ledger = Ledger(out)
        watch = Watch(out, plan, ledger)
        again = {u: r.attempt for u, r in ledger.records.items() if r.failed} if retry_failed else {}
        torn: set[int] = set()
        written = 0

        def finished() -> list[Record]:
            """Of the units that are done; what is to be tried again is not."""
            return [r for u, r in ledger.records.items() if r.attempt > again.get(u, 0)]

        def check_failures() -> None:
            judged = finished()
            failed, done = sum(r.failed for r in judged), sum(r.rows for r in judged)
            of = done if done >= ENOUGH_ROWS else plan.num_rows
            if failed > (max(FEW_FAILURES, max_failures * of) if max_failures else 0):
                what = f"{failed} of {done} rows failed, more than a share of {max_failures:g} of {of}"
                fix = "see error_code in units/*.jsonl; then --retry-failed, or a greater --max-failures"
                raise DataError(what, where=out, fix=fix)

        def tell() -> None:
            on_progress(watch.progress())
            check_failures()

        check_failures()  # a job that ended so does not go on by being started again
        while True:
            undone = dict.fromkeys((unit for unit in range(plan.units) if unit not in ledger.records), 0)
            todo = undone | again
            if todo and ray_workers:
                from jvlm.infer.caption.on_ray import longest_silence, work_on_ray

                rows = plan.settings.unit * plan.settings.rows_per_item
                written += work_on_ray(out, load, todo, ray_workers, tell, stopped, longest_silence(rows))
                for unit in todo:
                    ledger.look(unit)  # as the actors left it
                check_failures()
            else:
                written += _work(Worker(out, load, leases, ledger), todo, tell, stopped)
            if stopped() and len(finished()) < plan.units:
                on_progress(watch.progress("stopped"))
                return _report(plan, ledger, written, complete=False)
            try:
                _finish(out, plan, leases, formats)
                break
            except Torn as error:  # by a fault of the disk: the unit is made again, once
                unit = int(Path(str(error.where)).stem)
                if unit in torn:
                    raise
                torn.add(unit)
                ledger.forget(unit)
        on_progress(watch.progress("done"))
        return _report(plan, ledger, written, complete=True)


def _work(worker: Worker, todo: dict[int, int], tell: Callable[[], None], stopped: Callable[[], bool]) -> int:
    """Do the units that nobody else does, until all are done or a SIGTERM came; returns the rows written here."""
    left = _from_my_place(todo)
    while left and not stopped():
        held = []
        for unit in left:
            before = worker.written
            if stopped() or worker.caption(unit, todo[unit]) is None:
                held.append(unit)
            elif worker.written > before:
                tell()
        if len(held) == len(left):
            time.sleep(PATIENCE_SECONDS)  # others are at them; should they die, their leases end
        left = held
    return worker.written


def _from_my_place(todo: dict[int, int]) -> list[int]:
    """The units, each machine beginning at a place of its own: where locks do not reach other machines they seldom
    meet.
    """
    units = list(todo)
    place = zlib.crc32(platform.node().encode()) % len(units) if units else 0
    return units[place:] + units[:place]


def _finish(out: Path, plan: Plan, leases: Leases, formats: tuple[str, ...]) -> None:
    """Merge, unless that was done with the same units and outputs; those of earlier are kept in step. Raises Torn."""
    with leases.hold(MERGING, wait=True):
        ledger = Ledger(out)  # as it is on the disk
        missing = [unit for unit in range(plan.units) if unit not in ledger.records]
        if missing:
            raise Torn("the unit is not done", where=out / "units" / f"{missing[0]:06d}.jsonl")
        digest = hashlib.sha256("".join(ledger.records[unit].sha256 for unit in range(plan.units)).encode()).hexdigest()
        before = _merged(out)
        there = {name for name in before["outputs"] if (out / NAMES[name]).exists()}
        if before["units_sha256"] == digest and there >= set(formats):
            return
        formats = tuple(name for name in NAMES if name in there or name in formats)
        for leftover in out.glob(".captions*.tmp"):  # of processes that were killed while they merged
            with suppress(OSError):
                leftover.unlink()
        census = Census(plan.num_rows)
        written = merge(out, plan, ledger, formats, census.look)
        outputs: dict[str, Any] = {name: {} for name in formats}
        outputs |= {
            name: {"sha256": sha256_file(out / NAMES[name])} for name in formats if (out / NAMES[name]).is_file()
        }
        write_summary(out / "summary.html", plan, ledger, census)
        ledger.tidy()
        record: dict[str, Any] = census.record() | {"units_sha256": digest, "outputs": outputs | written}
        write_json(out / RESULT, record)


def _merged(out: Path) -> dict[str, Any]:
    """What `result.json` says of an earlier merge."""
    try:
        found: dict[str, Any] = read_json(out / RESULT)
    except DataError:
        return {"units_sha256": None, "outputs": {}}
    return found


def _report(plan: Plan, ledger: Ledger, written: int, complete: bool) -> CaptionReport:
    errors = sum(record.failed for record in ledger.records.values())
    rows = plan.num_rows if complete else sum(record.rows for record in ledger.records.values())
    return CaptionReport(rows, errors, written, complete)
