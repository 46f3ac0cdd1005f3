"""Japanese Heron-Bench as published (github.com/turingmotors/heron) → its questions and pictures.

Layout: ``questions_ja.jsonl`` (question_id, image, category, image_category, text), ``context_ja.jsonl`` (image,
caption: the picture in words), ``answers_gpt4.jsonl`` (question_id, text: the answer that others are rated beside),
``images/``.
"""

from pathlib import Path
from typing import Any

from jvlm_data.exam_records import IMAGES, picture
from jvlm_data.rows import below, read_rows, text, value
from jvlm_data.task_sets import TaskSet, read_questions

from jvlm.errors import DataError
from jvlm.eval.task_items import TaskItem
from jvlm.sample import ImageRef

LAYOUT = "questions_ja.jsonl, context_ja.jsonl, answers_gpt4.jsonl and images/ of Japanese-Heron-Bench"


def convert(source: Path, out: Path) -> dict[str, int]:
    """``out/test.jsonl`` and ``out/images/``. Raises DataError when nothing in `source` is usable."""
    found = TaskSet(source, LAYOUT)
    captions = _texts(source, "context_ja.jsonl", "image", "caption", found)
    answers = _texts(source, "answers_gpt4.jsonl", "question_id", "text", found)
    questions = read_questions(source, "questions_ja.jsonl", found.faults)
    found.add("test", questions, lambda place, row: _item(row, source, captions, answers, found))
    return found.write(out)


def _texts(source: Path, name: str, key: str, field: str, found: TaskSet) -> dict[str, str]:
    """One field by another, of a file beside the questions; empty, and a fault, without the file."""
    texts: dict[str, str] = {}
    paths = sorted(source.rglob(name))
    if len(paths) != 1:
        found.faults.append({"where": name, "error": f"{len(paths)} files of this name found"})
        return texts
    for place, row in read_rows(paths[0], source, found.faults):
        try:
            texts[str(value(row, key, str | int))] = text(row, field)
        except DataError as error:
            found.faults.append({"where": place, "error": error.what})
    return texts


def _item(
    row: dict[str, Any], source: Path, captions: dict[str, str], answers: dict[str, str], found: TaskSet
) -> TaskItem:
    identity, image = str(value(row, "question_id", int)), text(row, "image")
    if image not in captions:
        raise DataError(f"the picture {image} is not described in context_ja.jsonl")
    if identity not in answers:
        raise DataError("answers_gpt4.jsonl has no answer to it")
    folder = next(iter(sorted(source.rglob(IMAGES))), source / IMAGES)
    name, path = picture(below(folder, image))
    found.pictures[name] = path
    fields = {"question": text(row, "text"), "context": captions[image]}
    shown = [ImageRef(path=name)]
    return TaskItem(identity, image, text(row, "category"), fields, [], None, [answers[identity]], shown)
