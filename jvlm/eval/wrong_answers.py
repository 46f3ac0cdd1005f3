"""The wrong answers of an evaluation, with their pictures, for a person to look at: the first ones, not chosen."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jvlm.eval.exam import is_correct
from jvlm.eval.exam_task import read_marks
from jvlm.eval.exams import load_exam
from jvlm.eval.items import exam_answer, exam_sample
from jvlm.eval.ledger import FILE, Record
from jvlm.eval.paired import Said
from jvlm.eval.task import Task
from jvlm.eval.task_items import TaskItem
from jvlm.eval.text_scores import right_flags
from jvlm.eval.text_tasks import ANSWER
from jvlm.eval.thumbnails import thumbnail_name
from jvlm.files import read_json_lines
from jvlm.sample import ImageRef

SHOWN = 20
"""Wrong answers of a task."""
_END = 400
"""Characters of a prompt that are shown: its end, where the question stands behind the examples."""


@dataclass(frozen=True)
class Wrong:
    """One wrong answer. `said` is what the model wrote or preferred, `gold` a right answer."""

    id: str
    question: str
    said: str
    gold: str
    pictures: list[ImageRef] = field(default_factory=list)


def wrong_in_task(task: Task, items: Sequence[TaskItem], folder: Path) -> list[Wrong]:
    """Of a text benchmark, from the folder of its records; none of one whose answers are not simply right or wrong."""
    rows = {row["id"]: row for row in read_json_lines(folder / FILE) if row["arm"] == ANSWER and "error" not in row}
    asked = [(item, rows[item.id]) for item in items if item.id in rows]
    right = right_flags(task, asked) or {}
    missed = [(item, row) for item, row in asked if not right.get(item.id, True)]
    return [_wrong(row, item.images) for item, row in missed[:SHOWN]]


def wrong_in_exams(folder: Path, said: Said) -> dict[str, list[Wrong]]:
    """By exam of a set, of the questions as printed."""
    rows = {row["id"]: row for row in _rows(said) if row["task"] == folder.name}
    found: dict[str, list[Wrong]] = {}
    for item in load_exam(folder):
        row = rows.get(item.id)
        known = found.setdefault(item.exam, [])
        if row is None or item.excluded == "all" or len(known) == SHOWN:
            continue
        if not is_correct(item, read_marks(item, row).answer):
            known.append(_wrong(row | {"gold": exam_answer(item)}, exam_sample(item).images))
    return found


def wrong_in_toyworld(said: Said, tasks: Collection[str]) -> dict[str, list[Wrong]]:
    """By task of the toy world; pictures of those of which the evaluation kept one."""
    found: dict[str, list[Wrong]] = {}
    for row in (row for row in _rows(said) if row["task"] in tasks):
        known = found.setdefault(row["task"], [])
        if row.get("correct") is False and len(known) < SHOWN:
            kept = said.folder / "images" / thumbnail_name(row["id"])
            known.append(_wrong(row, [ImageRef(path=str(kept))] if kept.is_file() else []))
    return found


def _rows(said: Said) -> Iterable[Record]:
    asked = {"model": said.name, "arm": "image"}
    rows = read_json_lines(said.folder / FILE)
    return (row for row in rows if "error" not in row and all(row.get(k) == v for k, v in asked.items()))


def _wrong(row: Record, pictures: list[ImageRef]) -> Wrong:
    answer = row.get("output", row.get("answer"))
    return Wrong(row["id"], row["question"][-_END:], str(answer), str(row.get("gold")), pictures)
