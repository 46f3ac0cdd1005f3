"""YakugakuQA as published (github.com/EQUES-Inc/pharma-LLM-eval) → exam records.

Layout: ``data/YEAR/ROUND.jsonl`` with problem_id, problem_text, choices, text_only and answer (numbers of choices), and
``metadata_ROUND.jsonl`` with the subject. Choices are labelled a, b, … in their order.
"""

import re
from itertools import combinations
from pathlib import Path
from typing import Any

from jvlm_data.exam_records import LABELS, Entry, finish, select_count, write_exam
from jvlm_data.rows import read_rows, text, texts, value

from jvlm.errors import DataError

SOURCE = "github.com/EQUES-Inc/pharma-LLM-eval"
_ANSWER = re.compile(r"([1-9])(?:（いずれか([2一1])つ?.*)?")


def convert(source: Path, out: Path) -> dict[str, int]:
    """Questions of `source` → ``out/items.jsonl`` and ``out/errors.jsonl``; counts of each.

    Raises DataError when the folder does not hold the published layout, or nothing in it is usable.
    """
    files = sorted(path for path in source.glob("data/*/*.jsonl") if path.stem.isdecimal())
    if not files:
        raise DataError("no exam found", where=source, fix=f"put a clone of {SOURCE} there: data/2012/097.jsonl …")
    entries: list[Entry] = []
    faults: list[dict[str, str]] = []
    for path in files:
        about = path.with_name(f"metadata_{path.name}")
        rows = read_rows(about, source, faults) if about.is_file() else iter(())
        subjects = {str(row.get("problem_id")): str(row.get("category", "")) for _, row in rows}
        for place, row in read_rows(path, source, faults):
            try:
                entries.append(_entry(row, path.stem, subjects))
            except DataError as error:
                faults.append({"where": place, "error": error.what})
    return write_exam(out, entries, faults, source)


def _entry(row: dict[str, Any], paper: str, subjects: dict[str, str]) -> Entry:
    name, stem = text(row, "problem_id"), text(row, "problem_text")
    if not value(row, "text_only", bool):
        raise DataError("has a picture, which is not published")
    if not name.isdecimal():
        raise DataError(f"problem_id {name!r} is no number")
    choices = [choice.strip() for choice in texts(row, "choices")]
    options = [{"label": label, "text": choice, "image": None} for label, choice in zip(LABELS, choices, strict=False)]
    n_select = select_count(stem)
    record: dict[str, Any] = {
        "id": f"yakugaku-{name}",
        "exam": f"yakugaku-{int(paper)}",
        "section": "",
        "number": int(name[len(paper) :] or 0),
        "group_id": f"yakugaku-{name}",
        "stem": stem,
        "shared_text": "",
        "options": options,
        "images": [],
        "n_select": n_select,
        "accept": _accepted(texts(row, "answer"), n_select),
        "excluded": "none",
        "points": 1,
        "required": False,
        "kinki": [],
        "source": SOURCE,
        "tags": [subject] if (subject := subjects.get(name)) else [],
    }
    return finish(record, {})


def _accepted(answer: list[str], n_select: int) -> list[list[str]]:
    found = [_ANSWER.fullmatch(part.strip()) for part in answer]
    if not all(found):
        raise DataError(f"no right answer: {'、'.join(answer)}")
    labels = sorted(LABELS[int(match.group(1)) - 1] for match in found if match)
    if any(match and match.group(2) for match in found):  # any of them, as many as are asked for
        return [list(some) for some in combinations(labels, n_select)]
    return [labels]
