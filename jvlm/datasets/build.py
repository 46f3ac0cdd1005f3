"""A source in a public layout → shards: several processes, the same bytes for any number of them.

The records are cut into parts by their number alone, each of them one shard, made by one process and committed to
`OUT.work`. So a build that was interrupted goes on, by the same command, with the parts that are missing.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from jvlm.datasets.layouts import LAYOUTS, layout_of
from jvlm.datasets.layouts.record import Item
from jvlm.datasets.prepare import prepared
from jvlm.errors import DataError, JvlmError, UsageError
from jvlm.files import lock, names_below, new_file, new_folder, read_json, sha256_bytes, write_json, write_text
from jvlm.images.shards.format import shard_file
from jvlm.images.shards.writer import SAMPLES_PER_SHARD, Encoded, Entry, Shard, encode, finish, write_shard
from jvlm.text.chunks import Workers

_FORMAT = 1  # of the parts
_TAR, _PART, _KEY = "shard.tar", "part.json", "key"


@dataclass(frozen=True)
class Task:
    """The records of one part."""

    folder: Path
    layout: str
    source: Path
    images: Path
    items: list[Item]


def build_rows(rows: Path, out: Path, workers: int = 1) -> dict[str, int]:
    """A JSONL of one's own (`jvlm.datasets.layouts.jsonl`) → shards in `out`, see `build_set`."""
    return build_set(rows, out, "jsonl", workers=workers)


def build_set(
    source: Path,
    out: Path,
    layout: str | None = None,
    *,
    images: Path | None = None,
    workers: int = 1,
    samples_per_shard: int = SAMPLES_PER_SHARD,
    about: dict[str, Any] | None = None,
) -> dict[str, int]:
    """Build shards in `out`, replacing an older set; counts of `samples` and of `errors`.

    Args:
        source: a file or a folder.
        layout: one of `jvlm.datasets.layouts.LAYOUTS`; by default the only one that `source` can have.
        images: the folder that names of image files are relative to; by default that of the file, or the folder.
        workers: processes; the bytes do not depend on it.
        samples_per_shard: records of a shard, those included that turn out to be unusable.
        about: what is to stand in the card: licence, source.

    Records that cannot be used are left out and listed with place and reason in ``OUT.errors.jsonl``.

    Raises:
        UsageError: no layout, or several, fit the source; `out` lies in it.
        DataError: the source is missing, does not have this layout, or nothing in it is usable.
    """
    name = layout_of(source, layout)
    root = images if images is not None else source if source.is_dir() else source.parent
    out = out.resolve()
    if out.is_relative_to(source.resolve()):
        raise UsageError("the output lies inside the source", where=out, fix="name a folder elsewhere")
    work, ledger = out.with_name(out.name + ".work"), out.with_name(out.name + ".errors.jsonl")
    with lock(work):
        _begin_or_go_on(work, [name, str(root), samples_per_shard], source)
        folders: list[Path] = []
        tasks = _tasks(LAYOUTS[name].items(source, root), name, source, root, work, samples_per_shard)
        try:
            with Workers(workers, _set_up, ()) as pool:
                for _ in pool.run(_make_part, _missing(tasks, folders)):
                    pass
        except JvlmError:
            if not folders:  # nothing to go on with
                shutil.rmtree(work)
            raise
        counts = _join([_read_part(folder) for folder in folders], out, ledger, {"layout": name} | (about or {}))
    shutil.rmtree(work)
    if not counts["samples"]:
        fix = f"see {ledger}" if counts["errors"] else "it holds no record"
        raise DataError("nothing usable", where=source, fix=fix)
    return counts


def _begin_or_go_on(work: Path, settings: list[Any], source: Path) -> None:
    """Keep the parts of the same settings and the same files, as far as size and time of change tell."""
    files = [source / name for name in names_below(source)] if source.is_dir() else [source]
    found = [(file, file.stat()) for file in files if file.is_file()]
    stamps = [[os.fsencode(file).hex(), stat.st_size, stat.st_mtime_ns] for file, stat in found]
    key = sha256_bytes(json.dumps([_FORMAT, settings, stamps]).encode())
    if not (work / _KEY).is_file() or (work / _KEY).read_text() != key:
        for path in work.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        write_text(work / _KEY, key)


def _tasks(items: Iterable[Item], layout: str, source: Path, images: Path, work: Path, size: int) -> Iterator[Task]:
    stream, number = iter(items), 0
    while batch := list(islice(stream, size)):
        yield Task(work / f"{number:06d}", layout, source, images, batch)
        number += 1


def _missing(tasks: Iterable[Task], folders: list[Path]) -> Iterator[Task]:
    for task in tasks:
        folders.append(task.folder)
        if not task.folder.is_dir():
            yield task


def _set_up() -> None:
    """A worker needs nothing but its tasks."""


def _make_part(task: Task) -> None:
    errors: list[dict[str, str]] = []
    with new_folder(task.folder) as folder:
        shard = write_shard(_usable(task, errors), folder / _TAR)
        write_json(folder / _PART, {"shard": asdict(shard), "errors": errors}, indent=None)


def _usable(task: Task, errors: list[dict[str, str]]) -> Iterator[Encoded]:
    layout = LAYOUTS[task.layout]
    for item in task.items:
        try:
            if item.error is not None:
                raise DataError(item.error)
            sample = encode(prepared(layout.sample(item, task.source, task.images)))
        except DataError as error:
            # names of files may be no Unicode
            where, what = (text.encode("utf-8", "backslashreplace").decode() for text in (item.where, error.what))
            errors.append({"where": where, "error": what})
            continue
        yield sample


@dataclass(frozen=True)
class _Part:
    tar: Path
    shard: Shard
    errors: list[dict[str, str]]


def _read_part(folder: Path) -> _Part:
    record = read_json(folder / _PART)
    entries = [
        Entry(entry["id"], [(o, s) for o, s in entry["ranges"]], [(w, h) for w, h in entry["sizes"]])
        for entry in record["shard"]["entries"]
    ]
    shard = Shard(entries, record["shard"]["bytes"], record["shard"]["sha256"])
    return _Part(folder / _TAR, shard, record["errors"])


def _join(parts: list[_Part], out: Path, ledger: Path, about: dict[str, Any]) -> dict[str, int]:
    """Commit the parts as one set, and what was left out of them as one ledger; counts."""
    errors = [error for part in parts for error in part.errors]
    filled = [part for part in parts if part.shard.entries]
    if filled:
        with new_folder(out) as folder:
            for number, part in enumerate(filled):
                try:
                    os.link(part.tar, folder / shard_file(number))
                except OSError:  # a file system without links
                    shutil.copyfile(part.tar, folder / shard_file(number))
            finish(folder, [part.shard for part in filled], about)
    if errors:
        with new_file(ledger) as file:
            for error in errors:
                file.write((json.dumps(error, ensure_ascii=False) + "\n").encode())
    else:
        ledger.unlink(missing_ok=True)
    return {"samples": sum(len(part.shard.entries) for part in filled), "errors": len(errors)}
