"""Reading published files row by row: what cannot be used becomes a fault with its place, and reading goes on."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import UnionType
from typing import Any

from jvlm.errors import DataError

Fault = dict[str, str]
"""``{"where": file and line or record, "error": what is wrong}``, a row of errors.jsonl."""


def read_rows(path: Path, source: Path, faults: list[Fault]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of a JSONL file; what is no JSON object goes to `faults`. Places are relative to `source`."""
    # bytes, cut at newlines alone: str.splitlines would cut JSON rows at U+2028 and U+0085 too
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        where = f"{path.relative_to(source)}:{number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            faults.append({"where": where, "error": f"not a JSON line: {error}"})
            continue
        if isinstance(row, dict):
            yield where, row
        else:
            faults.append({"where": where, "error": "not a JSON object"})


def value(row: Mapping[str, Any], name: str, kind: type | UnionType) -> Any:
    """A field of a published row. Raises DataError when it is missing or of another type."""
    if name not in row or not isinstance(row[name], kind):
        raise DataError(f"field {name!r} is missing or no {getattr(kind, '__name__', kind)}")
    return row[name]


def texts(row: Mapping[str, Any], name: str) -> list[str]:
    """A field that is a list of texts. Raises DataError when it is not."""
    found = value(row, name, list)
    if not all(isinstance(text, str) for text in found):
        raise DataError(f"field {name!r} holds something that is no text")
    return list(found)


def text(row: Mapping[str, Any], name: str) -> str:
    """A field that holds text, without the spaces around it. Raises DataError when it has none, or is no Unicode."""
    found = str(value(row, name, str)).strip()
    if not found:
        raise DataError(f"field {name!r} has no text")
    try:
        found.encode()
    except UnicodeEncodeError:
        raise DataError(f"field {name!r} is not valid Unicode: it holds half a surrogate pair") from None
    return found


def read_document(path: Path, source: Path, faults: list[Fault]) -> Any:
    """A whole JSON file; None, and a fault, when it is missing or not JSON."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        error = "file not found"
    except (OSError, ValueError) as problem:
        error = f"not readable as JSON: {problem}"
    faults.append({"where": str(path.relative_to(source)), "error": error})
    return None


def records(rows: Any, where: str, faults: list[Fault]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, record) of a list in a JSON file, counted from 1; what is no JSON object goes to `faults`."""
    if not isinstance(rows, list):
        faults.append({"where": where, "error": "no list of records"})
        return
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict):
            yield f"{where}:{number}", row
        else:
            faults.append({"where": f"{where}:{number}", "error": "not a JSON object"})


def below(folder: Path, name: str) -> Path:
    """The file `name` of a manifest below `folder`. Raises DataError for a name that leads out of it."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise DataError(f"file name {name!r} leads out of the folder")
    return folder.joinpath(*parts)


def nothing_usable(source: Path, faults: list[Fault], layout: str) -> DataError:
    """The error of a converter that is left with nothing, naming the first fault."""
    first = f"; the first fault is {faults[0]['where']}: {faults[0]['error']}" if faults else ""
    return DataError("nothing usable", where=source, fix=f"put there {layout}{first}")
