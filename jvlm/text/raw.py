"""Documents in: one of a `.txt`, one a row of a `.jsonl`, `.jsonl.gz`, `.jsonl.zst` or `.parquet`.

A bad row never stops a run: it is recorded with its file and line, and reading goes on.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from jvlm.errors import DataError, UsageError
from jvlm.files import names_below

SUFFIXES = (".txt", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
_PARQUET_ROWS = 1024  # read at once
_STREAM_ERRORS = (OSError, EOFError, zlib.error, zstandard.ZstdError)


@dataclass(frozen=True, slots=True)
class Document:
    """One text with where it came from. `path` and `line` (1-based) name the row; `line` is 0 for a whole file."""

    id: str
    text: str
    source: str
    licence: str = ""
    path: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class InputError:
    """A row or file that could not be read, with `where` as `file:line` or `file`."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it stands in its file: JSON still to be read, the fields of a Parquet row, or a whole text file.

    `name` is the file's path below the input, `line` counts from 1 and is 0 for a whole file.
    """

    file: Path
    name: str
    line: int
    content: bytes | dict[str, Any]


def read_documents(
    path: Path, source: str, errors: list[InputError], *, licence: str = "", text_field: str = "text"
) -> Iterator[Document]:
    """Stream the documents of a file or, in sorted order, of every known file below a folder.

    A row's own `id` and `licence` (or `license`) are kept; without an id it is `source/file:line`. Rows that are
    not JSON, have no text or are not valid Unicode are appended to `errors`, as is a file whose stream breaks.
    Raises DataError when `path` is missing or holds no file with a known ending.
    """
    for row in read_rows(path, errors):
        try:
            yield parse_row(row, source, licence=licence, text_field=text_field)
        except ValueError as error:
            errors.append(InputError(place(row), str(error)))


def read_rows(path: Path, errors: list[InputError]) -> Iterator[RawRow]:
    """The rows of a file or of a folder's files, unread; a file whose stream breaks is appended to `errors`.

    Raises DataError when `path` is missing or holds no file with a known ending.
    """
    path = Path(path)
    for file in find_files(path):
        name = str(file.relative_to(path)) if path.is_dir() else file.name
        try:
            if file.name.endswith(".txt"):
                yield RawRow(file, name, 0, file.read_bytes())
            else:
                yield from (RawRow(file, name, number, raw) for number, raw in _rows(file))
        except ValueError as error:
            errors.append(InputError(str(file), str(error)))
        except _STREAM_ERRORS as error:
            errors.append(InputError(str(file), f"unreadable from here on: {error}"))


def parse_row(row: RawRow, source: str, *, licence: str = "", text_field: str = "text") -> Document:
    """The document of a row. Raises ValueError saying what is wrong with it."""
    if row.line == 0:
        assert isinstance(row.content, bytes)
        return _text_document(row.content, row.file, f"{source}/{row.name}", source, licence)
    identity = f"{source}/{row.name}:{row.line}"
    return _row_document(row.content, row.file, row.line, identity, source, licence, text_field)


def place(row: RawRow) -> str:
    """`file:line`, or `file` for a whole text file."""
    return f"{row.file}:{row.line}" if row.line else str(row.file)


def find_files(path: Path) -> list[Path]:
    """The readable files at or below `path`, sorted. Raises DataError when there is none."""
    known = " ".join(SUFFIXES)
    if path.is_file():
        if not path.name.endswith(SUFFIXES):
            raise DataError("not a known kind of text file", where=path, fix=f"use one of {known}")
        return [path]
    if not path.is_dir():
        raise DataError("no such file or folder", where=path, fix="check the path of this input")
    files = sorted(path / name for name in names_below(path) if name.endswith(SUFFIXES))
    if not files:
        raise DataError("the folder holds no text files", where=path, fix=f"put files ending in {known} there")
    return files


def _rows(file: Path) -> Iterator[tuple[int, bytes | dict[str, Any]]]:
    """Numbered rows that are not empty: JSON still to be read, or the fields of a Parquet row, a batch at a time."""
    if file.name.endswith(".parquet"):
        yield from enumerate(_parquet_rows(file), 1)
        return
    with _open(file) as stream:
        yield from ((number, raw) for number, raw in enumerate(stream, 1) if raw.strip())


def _parquet_rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise UsageError("Parquet files need pyarrow", where=file, fix="pip install pyarrow") from None
    try:
        with parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(_PARQUET_ROWS):
                yield from batch.to_pylist()
    except ArrowException as error:
        raise ValueError(f"unreadable from here on: {error}") from None


@contextmanager
def _open(file: Path) -> Iterator[BinaryIO]:
    with open(file, "rb") as raw:
        if file.name.endswith(".gz"):
            with gzip.open(raw) as stream:
                yield stream  # type: ignore[misc]
        elif file.name.endswith(".zst"):
            with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as reader:
                yield io.BufferedReader(reader)
        else:
            yield raw


def _text_document(content: bytes, file: Path, identity: str, source: str, licence: str) -> Document:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if not text.strip():
        raise ValueError("no text")
    return Document(identity, text, source, licence, str(file))


def _row_document(
    raw: bytes | dict[str, Any], file: Path, number: int, identity: str, source: str, licence: str, text_field: str
) -> Document:
    try:
        row = json.loads(raw.decode("utf-8-sig")) if isinstance(raw, bytes) else raw
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    text = row.get(text_field) if isinstance(row, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"no text in field {text_field!r}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("not valid Unicode: a lone surrogate") from None
    own_licence = row.get("licence") or row.get("license") or licence
    own_identity = identity if row.get("id") is None else str(row["id"])
    return Document(own_identity, text, source, str(own_licence), str(file), number)
