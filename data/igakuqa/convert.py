"""IgakuQA as published (github.com/jungokasai/IgakuQA) → exam records.

Layout: ``data/YEAR/ROUND-BLOCK.jsonl`` with problem_id, problem_text, choices, text_only, answer, points, and beside
each a ``…_metadata.jsonl`` with category and kinki. Pictures are not published; questions that need one are kept, as
the publisher asks and scores them too, and bear the tag ``image_missing``.
"""

import re
from pathlib import Path
from typing import Any

from jvlm_data.exam_records import (
    LABELS,
    REQUIRED_BLOCKS,
    Case,
    Entry,
    finish,
    fold,
    linked_cases,
    physician_points,
    select_count,
    write_exam,
)
from jvlm_data.rows import read_rows, texts, value

from jvlm.errors import DataError

SOURCE = "github.com/jungokasai/IgakuQA"
EVERY_ANSWER_RIGHT = ("116A71",)
"""Counted as right for everybody by the publisher's `scripts/evaluate_main.py`; the file itself gives one answer."""

_BLOCK_FILE = re.compile(r"\d+-[A-F]\.jsonl")
_ID = re.compile(r"(\d+)([A-F])(\d+)")
_BLANKS = re.compile(r"解答[：:]\s*([\d,，\s]*[①-⑨][①-⑨.．]*)")


def convert(source: Path, out: Path) -> dict[str, int]:
    """Questions of `source` → ``out/items.jsonl`` and ``out/errors.jsonl``; counts of items, images and errors.

    Raises DataError when the folder does not hold the published layout, or nothing in it is usable.
    """
    files = sorted(path for path in source.glob("data/*/*.jsonl") if _BLOCK_FILE.fullmatch(path.name))
    if not files:
        raise DataError(
            "no exam found", where=source / "data", fix=f"put a clone of {SOURCE} at {source}: data/2018/112-A.jsonl …"
        )
    entries: list[Entry] = []
    faults: list[dict[str, str]] = []
    for path in files:
        metadata = _metadata(path, source, faults)
        rows = list(read_rows(path, source, faults))
        cases = linked_cases([row for _, raw in rows if (row := _numbered(raw))])
        for where, row in rows:
            try:
                entries.append(_entry(row, cases, metadata))
            except DataError as error:
                faults.append({"where": where, "error": error.what})
    return write_exam(out, entries, faults, source)


def _metadata(path: Path, source: Path, faults: list[dict[str, str]]) -> dict[str, dict[str, Any]]:
    beside = path.with_name(f"{path.stem}_metadata.jsonl")
    if not beside.is_file():
        raise DataError("file not found", where=beside, fix="taboo options stand there; fetch the whole data folder")
    return {str(row.get("problem_id")): row for _, row in read_rows(beside, source, faults)}


def _numbered(row: dict[str, Any]) -> tuple[str, int, str] | None:
    """(id, number, text), or None for a row that will be recorded as a fault."""
    found, text = _ID.fullmatch(str(row.get("problem_id"))), row.get("problem_text")
    return (found.group(), int(found.group(3)), text) if found and isinstance(text, str) else None


def _entry(row: dict[str, Any], cases: dict[str, Case], metadata: dict[str, dict[str, Any]]) -> Entry:
    name, text = value(row, "problem_id", str), value(row, "problem_text", str)
    found = _ID.fullmatch(name)
    if not found:
        raise DataError(f"problem_id {name!r} is not of the form 112A1")
    if name not in metadata:
        raise DataError(f"{name} has no metadata, so that its taboo options are unknown")
    exam, section, number = found.group(1), found.group(2), int(found.group(3))
    case = cases.get(name, Case(name, ""))
    stem = text.removeprefix(case.text)
    options = _options(texts(row, "choices"), text)
    labels = [option["label"] for option in options]
    points = value(row, "points", str)
    if points not in ("0", "1", "3"):
        raise DataError(f"points {points!r} are not 0, 1 or 3")
    record: dict[str, Any] = {
        "id": name,
        "exam": exam,
        "section": section,
        "number": number,
        "group_id": case.first_id,
        "stem": stem,
        "shared_text": case.text,
        "options": options,
        "images": [],
        "n_select": select_count(stem),
        "accept": _accept(name, texts(row, "answer"), labels, text),
        "excluded": "all" if points == "0" else "none",
        "points": int(points) or physician_points(section, number),
        "required": section in REQUIRED_BLOCKS,
        "kinki": sorted(set(fold("".join(texts(metadata[name], "kinki"))).replace(" ", ""))),
        "source": SOURCE,
        "tags": [f"category={value(metadata[name], 'category', str)}"]
        + ([] if value(row, "text_only", bool) else ["image_missing"]),
    }
    return finish(record, {})


def _options(choices: list[str], text: str) -> list[dict[str, Any]]:
    """Options a, b, …. One without a text of its own is a row of a table in the question: its label is its text."""
    printed = {fold(line) for line in text.split("\n")}
    options = []
    for label, choice in zip(LABELS, choices, strict=False):
        bare = fold(choice) in ("", label) and label in printed
        options.append({"label": label, "text": label if bare else choice.strip(), "image": None})
    if len(choices) > len(LABELS):
        raise DataError(f"{len(choices)} choices; at most {len(LABELS)} can be labelled")
    return options


def _accept(name: str, answer: list[str], labels: list[str], text: str) -> list[list[str]]:
    """The accepted answers: one, or several where the file says 「a or d」; numbers as value and as digits marked."""
    if name in EVERY_ANSWER_RIGHT:
        return [[label] for label in labels]
    if labels and len(answer) == 1:
        return [[fold(one)] for one in answer[0].split(" or ")]
    if labels:
        return [sorted(fold(one) for one in answer)]
    return [[number] for number in dict.fromkeys(_filled(fold(one), text) for one in answer)] + [
        [fold(one)] for one in answer if fold(one) != _filled(fold(one), text)
    ]


def _filled(digits: str, text: str) -> str:
    """The number that the answer sheet shows: the key's digits put in the blanks of 「解答：1, ①②③」, 「①②.③」.

    The key gives only what is marked, 130 and 100, where the numbers are 1130 and 10.0.
    """
    found = _BLANKS.search(text)
    if not found or not digits.isdigit() or len(re.findall("[①-⑨]", found.group(1))) != len(digits):
        return digits
    marks = iter(digits)
    form = re.sub("[①-⑨]", lambda _: next(marks), found.group(1))
    return re.sub(r"[,，\s]", "", form).replace("．", ".")
