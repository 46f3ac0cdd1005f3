"""JMMMU as published (huggingface.co/datasets/JMMMU/JMMMU) → exam records.

Layout: a parquet file per subject with id (``test_SUBJECT_N``), question, options (a Python list as text), answer (a
letter, or the text of an open question), question_type and image_1 … image_7; or the ``items.jsonl`` of the project's
site (options as a list, one image by its name). Marks ``<image 1>`` in the texts stay: pictures are shown there.
"""

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jvlm_data.exam_records import Entry, finish, picture, write_exam
from jvlm_data.rows import Fault, below, read_rows, text, texts

from jvlm.errors import DataError, UsageError
from jvlm.eval.jmmmu import load_jmmmu
from jvlm.images.shards import image_extension

SOURCE = "huggingface.co/datasets/JMMMU/JMMMU"
MOST_IMAGES = 7
NEEDED = ("id", "question", "options", "answer", "question_type", "image_1")

_ID = re.compile(r"[a-z]+_(?P<subject>.+)_(?P<number>\d+)")


def convert(source: Path, out: Path) -> dict[str, int]:
    """``out/items.jsonl``, ``out/images/`` and ``out/errors.jsonl``; counts of each.

    Raises DataError when `source` does not hold the published layout, or nothing in it is usable; UsageError when
    parquet files cannot be read on this machine.
    """
    specific = load_jmmmu().culture_specific
    tables, site = sorted(source.rglob("*.parquet")), source / "items.jsonl"
    if not tables and not site.is_file():
        fix = f"put a copy of {SOURCE} there: SUBJECT/test-….parquet with {', '.join(NEEDED)}"
        raise DataError("no question found", where=source, fix=fix)
    faults: list[Fault] = []
    entries: list[Entry] = []
    with TemporaryDirectory() as folder:
        rows = _table_rows(tables, source, Path(folder)) if tables else _site_rows(site, source, faults)
        for where, row in rows:
            try:
                entries.append(_entry(row, specific))
            except DataError as error:
                faults.append({"where": where, "error": error.what})
        return write_exam(out, entries, faults, source)


def _table_rows(tables: list[Path], source: Path, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows with their pictures written to `folder`, as a list of files in `images`."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise UsageError("parquet files cannot be read", fix="pip install 'jvlm[parquet]'") from None
    for path in tables:
        table = parquet.read_table(path)
        missing = [name for name in NEEDED if name not in table.column_names]
        if missing:
            raise DataError(
                f"columns missing: {', '.join(missing)}",
                where=path,
                fix=f"expected {', '.join(NEEDED)} and image_2 to image_{MOST_IMAGES}; "
                f"found {', '.join(table.column_names)}",
            )
        for number, row in enumerate(table.to_pylist(), 1):
            row["images"] = _write_images(row, folder / f"{path.parent.name}-{path.stem}-{number}")
            row["open"] = row["question_type"] != "multiple-choice"
            yield f"{path.relative_to(source)}:{number}", row


def _write_images(row: dict[str, Any], start: Path) -> list[Path | None]:
    """The pictures by their number; None where a number has none."""
    found: list[Path | None] = []
    for number in range(1, MOST_IMAGES + 1):
        image = row.get(f"image_{number}")
        data = image.get("bytes") if isinstance(image, dict) else image
        if not isinstance(data, bytes):
            found.append(None)
            continue
        path = start.with_name(f"{start.name}-{number}.{image_extension(data[:16]) or 'bin'}")
        path.write_bytes(data)
        found.append(path)
    return found


def _site_rows(path: Path, source: Path, faults: list[Fault]) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, row in read_rows(path, source, faults):
        try:
            options = texts(row, "options")
            image = below(path.parent, text(row, "image"))
        except DataError as error:
            faults.append({"where": where, "error": error.what})
            continue
        yield where, row | {"options": repr(options), "images": [image], "open": not options}


def _entry(row: dict[str, Any], specific: tuple[str, ...]) -> Entry:
    name = text(row, "id")
    found = _ID.fullmatch(name)
    if not found:
        raise DataError(f"id {name!r} is not of the form test_SUBJECT_1")
    question = text(row, "question").replace("<image1>", "<image 1>")
    options = [] if row["open"] else _list(row, "options")
    letters = string.ascii_uppercase
    if len(options) > len(letters):
        raise DataError(f"{len(options)} options")
    answer = text(row, "answer")
    whole = question + "".join(options)
    shown = {int(number) for number in re.findall(r"<image (\d+)>", whole)}
    images = row["images"]
    gone = [number for number in sorted(shown) if number > len(images) or images[number - 1] is None]
    if gone:
        raise DataError(f"image {gone[0]} is named, but is not there")
    kept = [path for number, path in enumerate(images, 1) if path is not None and (number in shown or not shown)]
    # numbers run on after pictures that no text names were left out
    order = {number: place for place, number in enumerate(sorted(shown), 1)}
    pictures = dict(picture(path) for path in kept)
    record: dict[str, Any] = {
        "id": name,
        "exam": "jmmmu",
        "section": "",
        "number": int(found["number"]),
        "group_id": name,
        "stem": _renumbered(question, order),
        "shared_text": "",
        "options": [
            {"label": letter, "text": _renumbered(option, order), "image": None}
            for letter, option in zip(letters, options, strict=False)
        ],
        "images": list(pictures),
        "n_select": 1,
        "accept": [[one] for one in _accepted(answer, bool(row["open"]))],
        "excluded": "none",
        "points": 1,
        "required": False,
        "kinki": [],
        "source": SOURCE,
        "tags": [f"field={found['subject']}"]
        + (["culture_specific"] if found["subject"] in specific else ["culture_agnostic"]),
    }
    return finish(record, pictures, "open")


def _renumbered(written: str, order: dict[int, int]) -> str:
    return re.sub(r"<image (\d+)>", lambda mark: f"<image {order[int(mark[1])]}>", written).strip()


def _list(row: dict[str, Any], field: str) -> list[str]:
    try:
        found = ast.literal_eval(text(row, field))
    except (ValueError, SyntaxError):
        raise DataError(f"{field} is no list") from None
    if not isinstance(found, list) or not found:
        raise DataError(f"{field} is no list")
    return [str(one) for one in found]


def _accepted(answer: str, is_open: bool) -> list[str]:
    """One answer, or several written as a list, as MMMU gives those of some open questions."""
    if is_open and answer.startswith("["):
        return _list({"answer": answer}, "answer")
    return [answer]
