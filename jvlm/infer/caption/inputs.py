"""What an input holds, listed without looking at a picture: a folder, a glob, a list, shards, Parquet, JSONL.

An input is first of all files. Where pictures are among them each is an item; else tars are samples of WebDataset's
layout, and every row of a Parquet or JSONL file is an item. A `.txt` named by itself lists pictures, one a line.

Items come in the order of the source: files by name, what is in them as it stands there. Rows of a table are read
again by their place when their turn comes, so that the list of a million items stays small.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from jvlm.errors import DataError
from jvlm.images.load import SUFFIXES
from jvlm.images.parquet import pyarrow
from jvlm.images.shards.download import scheme_of
from jvlm.images.shards.members import Member, members
from jvlm.infer.caption.places import files_of, join, open_file


@dataclass(frozen=True, slots=True)
class Item:
    """One image, or one row with images. `at` says where: a kind, then what that kind needs (`content` reads it).

    ("file", address) · ("tar", address, {field: [offset, size]}) · ("jsonl", address, offset, size) ·
    ("parquet", address, row group, row) · ("fault", why there is nothing to read)
    """

    id: str
    at: tuple[Any, ...]


def list_items(source: str) -> Iterator[Item]:
    """The items of `source`, in order. Their ids may repeat: that is for the plan to refuse.

    Raises:
        DataError: `source` does not exist, or holds nothing to caption.
        UsageError: an address of a kind that is not read, or a package that is missing.
    """
    root, names = files_of(source)
    if names == [PurePosixPath(source).name] and source.endswith(".txt"):
        yield from _listed(root, names[0])
        return
    for kind, suffixes in _KINDS.items():
        chosen = [name for name in names if PurePosixPath(name).suffix.lower() in suffixes]
        if chosen:
            for name in chosen:
                yield from _READERS[kind](join(root, name), name)
            return
    looked_for = ", ".join(suffix for suffixes in _KINDS.values() for suffix in suffixes)
    raise DataError("no image found", where=source, fix=f"looked for {looked_for}")


def _file(address: str, name: str) -> Iterator[Item]:
    yield Item(clean(name), ("file", address))


def _listed(root: str, name: str) -> Iterator[Item]:
    with open_file(join(root, name)) as lines:
        for line in lines:
            written = line.decode("utf-8-sig", "surrogateescape").strip()
            if written:
                # the one who wrote the list may name any place; a row of a table may not
                absolute = scheme_of(written) or written.startswith("/")
                yield Item(clean(written), ("file", written if absolute else f"{root}/{written}"))


def _tar(address: str, name: str) -> Iterator[Item]:
    stem = clean(str(PurePosixPath(name).with_suffix("")))
    with open_file(address) as file:
        for key, group in groupby(members(Path(address), file=file), lambda member: member.key):
            found = list(group)
            yield Item(f"{stem}:{clean(key)}" if key else stem, _tar_place(address, found))


def _tar_place(address: str, found: list[Member]) -> tuple[Any, ...]:
    fault = next((member.fault for member in found if member.fault is not None), None)
    if fault is not None:
        return ("fault", fault)
    return ("tar", address, {member.field: [member.offset, member.size] for member in found})


def _jsonl(address: str, name: str) -> Iterator[Item]:
    stem, offset = clean(str(PurePosixPath(name).with_suffix(""))), 0
    with open_file(address) as lines:  # bytes, cut at newlines alone
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield Item(_id_of(line) or f"{stem}-{number:08d}", ("jsonl", address, offset, len(line)))
            offset += len(line)


def _id_of(line: bytes) -> str | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None  # it is said when the row is read
    return row_id(row)


def _parquet(address: str, name: str) -> Iterator[Item]:
    stem, number = clean(str(PurePosixPath(name).with_suffix(""))), 0
    arrow = pyarrow(address)
    try:
        with open_file(address) as raw, arrow.parquet.ParquetFile(raw) as file:
            named = "id" in file.schema_arrow.names
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                ids = file.read_row_group(group, columns=["id"]).to_pylist() if named else [{}] * count
                for row, fields in enumerate(ids):
                    number += 1
                    yield Item(row_id(fields) or f"{stem}-{number:08d}", ("parquet", address, group, row))
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"not a Parquet file: {error}", where=address) from None


def row_id(row: object) -> str | None:
    """The id a row gives itself, if it does."""
    value = row.get("id") if isinstance(row, dict) else None
    return clean(str(value)) if isinstance(value, str | int) and str(value) else None


def clean(name: str) -> str:
    """Writable as UTF-8: bytes of a file name that are none come as ``\\udcXX`` escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


_KINDS = {"file": SUFFIXES, "tar": (".tar",), "parquet": (".parquet",), "jsonl": (".jsonl",)}
_READERS: dict[str, Callable[[str, str], Iterable[Item]]] = {
    "file": _file,
    "tar": _tar,
    "parquet": _parquet,
    "jsonl": _jsonl,
}
