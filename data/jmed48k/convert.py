"""JMed48k-Eval as published (huggingface.co/datasets/JMed48k/JMed48k) → exam records of eleven professions.

Layout: ``JMed48k-eval/NN…/…_YEAR/….json`` (NN: the number of the profession), objects with ``questions``, records of
question_number, section, question_text, text_reference (what several questions share), options (label → text, empty
where the option is a picture), correct_answer (list of labels), text_only, img: content_img and answer_img (names).
"""

import re
from pathlib import Path
from typing import Any

from jvlm_data.exam_records import (
    IMAGES,
    REQUIRED_BLOCKS,
    Entry,
    finish,
    fold,
    physician_points,
    picture,
    select_count,
    write_exam,
)
from jvlm_data.kokushimd10.convert import exam_name
from jvlm_data.rows import Fault, below, read_document, records, text, value

from jvlm.errors import DataError

SOURCE = "huggingface.co/datasets/JMed48k/JMed48k"
PROFESSIONS = (
    "physician",
    "dentist",
    "public_health_nurse",
    "midwife",
    "nurse",
    "radiological",
    "clinical_lab",
    "physical_therapist",
    "occupational_therapist",
    "orthoptist",
    "pharmacist",
)
"""By their number, from 1."""
POINTS_KNOWN = ("physician", "radiological", "clinical_lab")
"""Papers of which the points of a question follow from its place; the others' marks cannot be held against a rule."""
EXPECTED = "question_number, section, question_text, options, correct_answer, text_only, img"

_FOLDER = re.compile(r"(?P<number>\d\d).*")
_YEAR = re.compile(r"(20\d\d)(?!.*20\d\d)")
_SECTIONS = {"AM": "A", "PM": "B", "午前": "A", "午後": "B"}


def convert(source: Path, out: Path) -> dict[str, int]:
    """``out/items.jsonl``, ``out/images/`` and ``out/errors.jsonl``; counts of each.

    Raises DataError when the folder does not hold the published layout, or nothing in it is usable.
    """
    root = source / "JMed48k-eval" if (source / "JMed48k-eval").is_dir() else source
    files = [(path, where) for path in sorted(root.rglob("*.json")) if (where := _paper(path.relative_to(root)))]
    if not files:
        fix = f"put the folder JMed48k-eval of {SOURCE} there: 01…/…_2021/….json with {EXPECTED}"
        raise DataError("no exam found", where=source, fix=fix)
    entries: list[Entry] = []
    faults: list[Fault] = []
    for path, (profession, year) in files:
        document = read_document(path, source, faults)
        if document is None:
            continue
        rows = document.get("questions") if isinstance(document, dict) else None
        for place, row in records(rows, str(path.relative_to(source)), faults):
            try:
                entries.append(_entry(row, profession, year, path, source))
            except DataError as error:
                faults.append({"where": place, "error": f"{error.what} (expected {EXPECTED})"})
    return write_exam(out, entries, faults, source)


def _paper(path: Path) -> tuple[str, int] | None:
    """(profession, year) of a file by its folders; None for a file that is no paper."""
    folder, year = _FOLDER.fullmatch(path.parts[0]), _YEAR.search(str(path.parent))
    if not folder or not year or not 1 <= int(folder["number"]) <= len(PROFESSIONS):
        return None
    return PROFESSIONS[int(folder["number"]) - 1], int(year[1])


def _entry(row: dict[str, Any], profession: str, year: int, path: Path, source: Path) -> Entry:
    number, section = int(value(row, "question_number", int | str)), str(row.get("section") or "")
    section = _SECTIONS.get(section, section)
    question = text(row, "question_text")
    shared = row.get("text_reference") or ""
    if not isinstance(shared, str):
        raise DataError("field 'text_reference' is no text")
    found = value(row, "options", dict) if row.get("options") else {}
    images = value(row, "img", dict) if row.get("img") else {}
    content, drawn = (_names(images.get(name)) for name in ("content_img", "answer_img"))
    if row.get("text_only") is False and not content + drawn:
        raise DataError("marked as having a picture, but img names none")
    shown = [_picture(name, path, source, year) for name in content]
    of_options = [_picture(name, path, source, year) for name in drawn]
    one_each = len(of_options) == len(found) > 0
    options = []
    for place, (label, words) in enumerate(found.items()):
        bare = str(words or "").strip()
        own = of_options[place][0] if one_each else None
        label = fold(str(label))
        options.append({"label": label, "text": bare or ("" if own else label), "image": own})
    if any(not str(words or "").strip() for words in found.values()) and not of_options:
        raise DataError("an option has neither text nor picture")
    scored = profession in POINTS_KNOWN
    name = exam_name(profession, year)
    physicians = profession == "physician"
    group = f"{profession}-{year}-{section}-{fold(shared)[:80]}" if shared else f"{profession}-{year}-{section}{number}"
    gold = [fold(str(label)) for label in value(row, "correct_answer", list)]
    record: dict[str, Any] = {
        "id": f"{profession}-{year}-{section}{number}",
        "exam": name if scored else f"jmed48k_{name}",
        "section": section,
        "number": number,
        "group_id": group,
        "stem": question,
        "shared_text": f"{shared}\n" if shared else "",
        "options": options,
        "images": [one for one, _ in shown] + ([] if one_each else [one for one, _ in of_options]),
        "n_select": select_count(question) if options else 1,
        "accept": [sorted(gold) if options else ["".join(gold)]] if gold else [],
        "excluded": "none",
        "points": physician_points(section, number) if physicians else 1,
        "required": physicians and section in REQUIRED_BLOCKS,
        "kinki": [],
        "source": SOURCE,
        "tags": ["options_drawn"] if of_options else [],
    }
    return finish(record, dict(shown + of_options))


def _names(found: Any) -> list[str]:
    """A field that may be absent, one name or a list of names."""
    names = [found] if isinstance(found, str) else found or []
    if not isinstance(names, list) or not all(name is None or isinstance(name, str) for name in names):
        raise DataError("field 'img' holds something that is no file name")
    return [name.replace("\\", "/") for name in names if name]


def _picture(name: str, path: Path, source: Path, year: int) -> tuple[str, Path]:
    """A picture where its name says: below the dataset, beside the paper, or in the paper's folder of pictures."""
    beside = f"{year}_images/{Path(name).name}"
    places = [below(source, name), below(path.parent, name), below(path.parent, beside)]
    file = next((place for place in places if place.is_file()), places[1])
    picture(file)
    return f"{IMAGES}/{path.parent.name}-{Path(name).name}", file
