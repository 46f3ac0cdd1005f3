"""KokushiMD-10 as published (arXiv 2506.11114) → exam records of ten professions and five years.

Layout: files named ``医師_2020_a.json`` (profession, year, block) anywhere below the folder, as the publisher's scorer
(github.com/juniorliu95/KokushiMD-10, calculate_scores.py) reads them: lists of records with index, question, choices
(label → text), answer (the labels run together, or digits), points, text_only; images (file names), kinki, answer_sub2
(a field, of pharmacists) and corrected_question_index (the question was withdrawn) where they apply.
"""

import json
import re
from pathlib import Path
from typing import Any

from jvlm_data.exam_records import IMAGES, REQUIRED_BLOCKS, Entry, finish, fold, picture, select_count, write_exam
from jvlm_data.rows import Fault, records, text, value

from jvlm.errors import DataError

SOURCE = "github.com/juniorliu95/KokushiMD-10"
PROFESSIONS = {
    "医師": "physician",
    "歯科": "dentist",
    "薬剤": "pharmacist",
    "看護": "nurse",
    "保健": "public_health_nurse",
    "助産": "midwife",
    "理学": "physical_therapist",
    "作業": "occupational_therapist",
    "診療": "radiological",
    "視能": "orthoptist",
}
EXPECTED = "index, question, choices, answer, points, text_only"

_FILE = re.compile(rf"(?P<profession>{'|'.join(PROFESSIONS)})_(?P<year>20\d\d)_(?P<block>[a-f][1-3]?)\.json")
_FIRST_ROUND = 1906
"""The physicians' exam of 2020 was the 114th."""


def convert(source: Path, out: Path) -> dict[str, int]:
    """``out/items.jsonl``, ``out/images/`` and ``out/errors.jsonl``; counts of each.

    Raises DataError when the folder does not hold the published layout, or nothing in it is usable.
    """
    files = [(path, found) for path in sorted(source.rglob("*.json")) if (found := _FILE.fullmatch(path.name))]
    if not files:
        fix = f"put a copy of {SOURCE} there: exams/JA/医師/医師_2020_a.json …, lists of records with {EXPECTED}"
        raise DataError("no exam found", where=source, fix=fix)
    entries: list[Entry] = []
    faults: list[Fault] = []
    images = _images(source)
    for path, found in files:
        where = str(path.relative_to(source))
        try:
            rows = json.loads(path.read_bytes())
        except ValueError as error:
            faults.append({"where": where, "error": f"not readable as JSON: {error}"})
            continue
        for place, row in records(rows, where, faults):
            try:
                entries.append(
                    _entry(row, found["profession"], int(found["year"]), found["block"].upper(), path, images)
                )
            except DataError as error:
                faults.append({"where": place, "error": f"{error.what} (expected {EXPECTED})"})
    return write_exam(out, entries, faults, source)


def exam_name(profession: str, year: int) -> str:
    """The name by which `evals/exams.yaml` knows the exam: physicians' by its round, others' by profession and year."""
    return str(year - _FIRST_ROUND) if profession == "physician" else f"{profession}-{year}"


def _images(source: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(source.rglob("*")):
        if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"):
            found.setdefault(path.name, []).append(path)
    return found


def _entry(row: dict[str, Any], name: str, year: int, block: str, paper: Path, images: dict[str, list[Path]]) -> Entry:
    profession, index = PROFESSIONS[name], str(value(row, "index", str | int))
    if not re.fullmatch(r"\d+(-\d+)*", index):
        raise DataError(f"index {index!r} is no number")
    number = int(index.partition("-")[0])
    identity = f"{profession}-{year}-{block}{index}"
    question = text(row, "question")
    options = [
        {"label": fold(label), "text": str(words).strip(), "image": None} for label, words in _choices(row).items()
    ]
    shown = _names(row.get("images"))
    if not value(row, "text_only", bool) and not shown:
        raise DataError("marked as having a picture, but names none in images")
    pictures = {}
    for file in (_picture(one, paper, images) for one in shown):
        picture(file)
        pictures[f"{IMAGES}/{profession}-{year}-{block}-{file.name}"] = file
    field = row.get("answer_sub2")
    record: dict[str, Any] = {
        "id": identity,
        "exam": exam_name(profession, year),
        "section": block,
        "number": number,
        "group_id": f"{profession}-{year}-{block}{number}",
        "stem": question,
        "shared_text": "",
        "options": options,
        "images": list(pictures),
        "n_select": select_count(question) if options else 1,
        "accept": [_answer(row, [option["label"] for option in options])],
        "excluded": "all" if "corrected_question_index" in row else "none",
        "points": _points(row),
        "required": _is_required(profession, block, number),
        "kinki": sorted({fold(label) for label in _names(row.get("kinki"), letters=True)}),
        "source": SOURCE,
        "tags": ([f"field={field}"] if isinstance(field, str) and field else []) + _domain(profession, number),
    }
    return finish(record, pictures)


def _choices(row: dict[str, Any]) -> dict[str, Any]:
    found = row.get("choices") or {}
    if not isinstance(found, dict):
        raise DataError("field 'choices' is no object of labels and texts")
    return found


def _answer(row: dict[str, Any], labels: list[str]) -> list[str]:
    """The labels in the answer, in order; digits stay a number where there are no choices."""
    answer = fold(re.sub(r"[\s,、]", "", str(value(row, "answer", str | int))))
    if not answer:
        raise DataError("the key names no answer")
    return sorted(answer) if labels else [answer]


def _points(row: dict[str, Any]) -> int:
    points = str(value(row, "points", str | int))
    if not points.isdigit():
        raise DataError(f"points {points!r} are no number")
    return int(points)


def _names(found: Any, letters: bool = False) -> list[str]:
    """A field that may be absent, one text or a list of texts; with `letters`, a text is its letters."""
    if found in (None, "", []):
        return []
    if isinstance(found, str):
        return re.findall(r"[a-zA-Z0-9]", found) if letters else [found]
    if isinstance(found, list) and all(isinstance(one, str) for one in found):
        return [one for one in found if one]
    raise DataError("a list of names was expected")


def _picture(name: str, paper: Path, images: dict[str, list[Path]]) -> Path:
    """A picture beside its paper, or else the one whose path ends so: those of other papers may have its name."""
    wanted = Path(name.replace("\\", "/"))
    named = images.get(wanted.name, [])
    ends = [path for path in named if path.parts[-len(wanted.parts) :] == wanted.parts]
    beside = [path for path in ends if path == paper.parent / wanted]
    found = beside or ends or named
    if len(found) != 1:
        raise DataError(f"{len(found)} pictures are called {name}")
    return found[0]


def _is_required(profession: str, block: str, number: int) -> bool:
    """必修 questions, as the publisher's scorer tells them."""
    parts = {
        "physician": block in REQUIRED_BLOCKS,
        "dentist": number <= 20,
        "nurse": number <= 25,
        "pharmacist": block == "A1",
    }
    return parts.get(profession, False)


def _domain(profession: str, number: int) -> list[str]:
    """Domains A and B of the dentists' paper."""
    if profession != "dentist" or number <= 20:
        return []
    return ["domain=A" if number <= 45 else "domain=B"]
