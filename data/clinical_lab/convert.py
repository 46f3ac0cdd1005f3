"""Exams for clinical laboratory technologists (臨床検査技師) → exam records.

Layout: ``questions.jsonl`` with id, exam, session (am, pm), number, question, choices, choice_images (or null), images,
answer (numbers from 1), flags; pictures below ``images/``. Flags name what is wrong with a question; a flagged one
is recorded and left out. 100 questions in each session, one point each, passed with 60 %.
"""

import re
from pathlib import Path
from typing import Any

from jvlm_data.exam_records import (
    Case,
    Entry,
    finish,
    linked_cases,
    picture,
    select_count,
    write_exam,
)
from jvlm_data.rows import read_rows, texts, value

from jvlm.errors import DataError

SOURCE = "github.com/saneatu4060/mt-learning-app"
_SHOWN = re.compile(r"別冊|別に示す|図に示す")


def convert(source: Path, out: Path) -> dict[str, int]:
    """Questions of `source` → ``out/items.jsonl``, ``out/images/``, ``out/errors.jsonl``; counts of each.

    Raises DataError when the folder does not hold the layout, or nothing in it is usable.
    """
    path = source / "questions.jsonl"
    if not path.is_file():
        raise DataError("no exam found", where=path, fix=f"put the questions of {SOURCE} there, and images/ beside")
    entries: list[Entry] = []
    faults: list[dict[str, str]] = []
    rows = list(read_rows(path, source, faults))
    blocks: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _, row in rows:
        if isinstance(row.get("number"), int) and isinstance(row.get("question"), str):
            blocks.setdefault((str(row.get("exam")), str(row.get("session"))), []).append(row)
    cases: dict[str, Case] = {}
    for block in blocks.values():
        cases |= linked_cases([(str(row.get("id")), row["number"], row["question"]) for row in block])
    images = {str(row.get("id")): row.get("images") for _, row in rows}
    for where, row in rows:
        try:
            entries.append(_entry(row, cases, images, source))
        except DataError as error:
            faults.append({"where": where, "error": error.what})
    return write_exam(out, entries, faults, source)


def _entry(row: dict[str, Any], cases: dict[str, Case], images: dict[str, Any], source: Path) -> Entry:
    name, session = value(row, "id", str), value(row, "session", str)
    flags = texts(row, "flags")
    if flags:
        raise DataError(f"flagged in the file: {', '.join(flags)}")
    if session not in ("am", "pm"):
        raise DataError(f"session {session!r} is not am or pm")
    case = cases.get(name, Case(name, ""))
    stem = value(row, "question", str).removeprefix(case.text).strip()
    own, tags = texts(row, "images"), []
    if not own and _SHOWN.search(case.text) and images.get(case.first_id):
        own, tags = texts({"images": images[case.first_id]}, "images"), ["case_image"]  # the booklet shows it once
    pictures = [picture(source / path) for path in own]
    options, drawn = _options(row, source)
    record: dict[str, Any] = {
        "id": name,
        "exam": f"clinical_lab-{value(row, 'exam', int)}",
        "section": session,
        "number": value(row, "number", int),
        "group_id": case.first_id,
        "stem": stem,
        "shared_text": case.text,
        "options": options,
        "images": [image for image, _ in pictures],
        "n_select": select_count(stem),
        "accept": [sorted(str(number) for number in value(row, "answer", list))],
        "excluded": "none",
        "points": 1,
        "required": False,
        "kinki": [],
        "source": SOURCE,
        "tags": tags,
    }
    return finish(record, dict(pictures) | drawn)


def _options(row: dict[str, Any], source: Path) -> tuple[list[dict[str, Any]], dict[str, Path]]:
    """Options 1, 2, … as the paper prints them, and the pictures that stand for options."""
    choices = texts(row, "choices")
    drawn = [None] * len(choices) if row.get("choice_images") is None else value(row, "choice_images", list)
    if not choices:
        raise DataError("no choices")
    if len(drawn) != len(choices):
        raise DataError(f"{len(choices)} choices, but {len(drawn)} pictures of choices")
    options, pictures = [], {}
    for number, (text, path) in enumerate(zip(choices, drawn, strict=True), 1):
        image = None
        if path is not None:
            image, file = picture(source / str(path))
            pictures[image] = file
        options.append({"label": str(number), "text": text.strip(), "image": image})
    return options, pictures
