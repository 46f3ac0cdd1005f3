"""IgakuQA119 as published (github.com/docto-rin/IgakuQA119) → exam records.

Layout: ``questions/119A_json.json`` … with number, question, choices ("a. …"), has_image; the key in
``results/correct_answers.csv`` (問題番号, 解答); pictures ``images/119A15-1.png`` named by question. The questions were
read from scans by the publisher; where the reading ran choices together, the labels stay as they were read and the
question bears the tag ``options_merged``.
"""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jvlm_data.exam_records import (
    LABELS,
    REQUIRED_BLOCKS,
    Case,
    Entry,
    finish,
    fold,
    physician_points,
    picture,
    question_start,
    select_count,
    write_exam,
)
from jvlm_data.rows import texts, value

from jvlm.errors import DataError

SOURCE = "github.com/docto-rin/IgakuQA119"
EITHER_ANSWER = ("119E28",)
"""One answer is asked for and each letter of the key is accepted, as in the publisher's `src/grading_logic.py`."""

LEAST_CASE = 40
"""Characters two neighbours must share to be one case; the shortest real overlap is 57, chance stays below 12."""

_ID = re.compile(r"(\d+)([A-F])(\d+)")
_IMAGE = re.compile(r"(\d+[A-F]\d+)(?:-(\d+))?\.(?:png|webp|jpe?g)", re.I)
_CHOICE = re.compile(r"([a-h])\s*[.．]\s*(.*)", re.S)
_INLINE = re.compile(r"(?:^|\s)([a-hA-H])(?=[^\x00-\x7f])")


def convert(source: Path, out: Path) -> dict[str, int]:
    """Questions of `source` → ``out/items.jsonl``, ``out/images/``, ``out/errors.jsonl``; counts of each.

    Raises DataError when the folder does not hold the published layout, or nothing in it is usable.
    """
    files, key_file = sorted(source.glob("questions/*_json.json")), source / "results" / "correct_answers.csv"
    if not files or not key_file.is_file():
        raise DataError(
            "no exam found",
            where=source,
            fix=f"put a clone of {SOURCE} there: questions/119A_json.json …, results/correct_answers.csv, images/",
        )
    key = _key(key_file)
    images = _images(source / "images")
    entries: list[Entry] = []
    faults: list[dict[str, str]] = []
    for path in files:
        rows = _rows(path, source, faults)
        cases = repeated_cases([(row["number"], row["question"]) for row in rows if _is_text(row)])
        for row in rows:
            try:
                entries.append(_entry(row, cases, key, images))
            except DataError as error:
                faults.append({"where": f"questions/{path.name}:{row.get('number', '')}", "error": error.what})
    return write_exam(out, entries, faults, source)


def repeated_cases(block: list[tuple[str, str]]) -> dict[str, Case]:
    """Case by id, for a block (id, text) whose linked questions each print the whole case.

    Neighbours that begin alike are one case; what they share, up to the last full sentence, is its text.
    """
    groups: list[list[tuple[str, str]]] = []
    for name, text in block:
        if groups and len(_common_start([groups[-1][0][1], text])) >= LEAST_CASE:
            groups[-1].append((name, text))
        else:
            groups.append([(name, text)])
    cases: dict[str, Case] = {}
    for group in groups:
        common = _common_start([text for _, text in group])
        shared = common[: common.rfind("。") + 1]
        start = question_start(shared)
        if shared.count("。", start) == 1 and any(text.strip() == shared for _, text in group):
            shared = shared[:start]  # the next question repeats this one's, too: 119E49 in 119E50
        if len(group) > 1 and shared:
            cases |= {name: Case(group[0][0], shared) for name, _ in group}
    return cases


def _common_start(texts: Sequence[str]) -> str:
    first, last = min(texts), max(texts)  # in sorted order, what these two share is shared by all between
    return next((first[:i] for i, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), first)


def _rows(path: Path, source: Path, faults: list[dict[str, str]]) -> list[dict[str, Any]]:
    where = str(path.relative_to(source))
    try:
        rows = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"not readable as JSON: {error}", where=path, fix="fetch the file again") from None
    if not isinstance(rows, list):
        raise DataError("not a list of questions", where=path, fix="fetch the file again")
    faults += [
        {"where": f"{where}:{i}", "error": "not a JSON object"} for i, r in enumerate(rows) if not isinstance(r, dict)
    ]
    return [row for row in rows if isinstance(row, dict)]


def _is_text(row: dict[str, Any]) -> bool:
    return isinstance(row.get("number"), str) and isinstance(row.get("question"), str)


def _key(path: Path) -> dict[str, str]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"問題番号", "解答"} <= set(rows[0]):
        raise DataError("not a key with the columns 問題番号, 解答", where=path, fix="fetch the file again")
    return {row["問題番号"]: fold(row["解答"] or "") for row in rows}


def _images(folder: Path) -> dict[str, list[Path]]:
    """Pictures by question id, in the order of their running number."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        if named := _IMAGE.fullmatch(path.name):
            found.setdefault(named.group(1), []).append((int(named.group(2) or 0), path))
    return {name: [path for _, path in sorted(paths)] for name, paths in found.items()}


def _entry(row: dict[str, Any], cases: dict[str, Case], key: dict[str, str], images: dict[str, list[Path]]) -> Entry:
    name, text = value(row, "number", str), value(row, "question", str)
    found = _ID.fullmatch(name)
    if not found:
        raise DataError(f"number {name!r} is not of the form 119A1")
    if name not in key:
        raise DataError("the key names no answer")
    section, number = found.group(2), int(found.group(3))
    case = cases.get(name, Case(name, ""))
    stem, options = _options(text.removeprefix(case.text), texts(row, "choices"), key[name])
    labels = "".join(option["label"] for option in options)
    shows, files = value(row, "has_image", bool), images.get(name, [])
    if shows and not files:
        raise DataError("marked as having a picture, but there is none in images/")
    pictures = dict(picture(path) for path in files)
    tags = ["options_merged"] if labels and labels != "abcde" else []
    tags += ["image_unmarked"] if files and not shows else []
    answer = key[name]
    record: dict[str, Any] = {
        "id": name,
        "exam": found.group(1),
        "section": section,
        "number": number,
        "group_id": case.first_id,
        "stem": stem,
        "shared_text": case.text,
        "options": options,
        "images": list(pictures),
        "n_select": select_count(stem),
        "accept": [[one] for one in answer] if name in EITHER_ANSWER else [sorted(answer) if options else [answer]],
        "excluded": "none",
        "points": physician_points(section, number),
        "required": section in REQUIRED_BLOCKS,
        "kinki": [],
        "source": SOURCE,
        "tags": tags,
    }
    return finish(record, pictures)


def _options(stem: str, choices: list[str], answer: str) -> tuple[str, list[dict[str, Any]]]:
    """The stem and its options: those of the list, or those left standing in the question (「… aアト bジア …」)."""
    if not choices and not answer.isdigit():
        return _inline_options(stem)
    options = []
    for choice in choices:
        found = _CHOICE.fullmatch(choice.strip())
        if not found:
            raise DataError(f"choice {choice!r} does not begin with its label")
        options.append({"label": found.group(1), "text": found.group(2).strip(), "image": None})
    return stem.strip(), options


def _inline_options(stem: str) -> tuple[str, list[dict[str, Any]]]:
    marks = list(_INLINE.finditer(stem))[-5:]
    if "".join(mark.group(1).lower() for mark in marks) != LABELS[:5]:
        raise DataError("no choices, and the answer is no number")
    ends = [mark.start() for mark in marks[1:]] + [len(stem)]
    options = [
        {"label": mark.group(1).lower(), "text": stem[mark.end() : end].strip(), "image": None}
        for mark, end in zip(marks, ends, strict=True)
    ]
    return stem[: marks[0].start()].strip(), options
