"""Two models that have been asked: which is more often right, tested question by question, out of their records alone.

Nothing is asked here. Answers are read by today's rules and are right or wrong; McNemar's test counts those where one
model alone is right. By how much any figure changed by a training `jvlm.eval.change` tells, which asks both models.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jvlm.eval.audits import paired_test
from jvlm.eval.exam import is_correct
from jvlm.eval.exam_task import read_marks
from jvlm.eval.exams import load_exam
from jvlm.eval.items import ExamItem
from jvlm.eval.ledger import FILE, Record
from jvlm.eval.task import Task
from jvlm.eval.task_items import TaskItem
from jvlm.eval.text_scores import groups_of, right_flags
from jvlm.eval.text_tasks import ANSWER
from jvlm.files import read_json_lines


class Said(NamedTuple):
    """Where the records of a model lie: the folder of its `samples.jsonl`, and its name there."""

    folder: Path
    name: str


def compare_task(task: Task, items: Sequence[TaskItem], first: Path, second: Path, seed: int = 0) -> Record | None:
    """The paired test of a text benchmark, from the folders of both models' records of it.

    None for one whose answers are not simply right or wrong. Raises DataError when one was not asked what the other
    was.
    """
    flags = []
    for folder in (first, second):
        rows = {row["id"]: row for row in read_json_lines(folder / FILE) if row["arm"] == ANSWER}
        flags.append(right_flags(task, [(item, rows[item.id]) for item in items if item.id in rows]))
    if flags[0] is None or flags[1] is None:
        return None
    return paired_test(flags[0], flags[1], groups_of(task, items), seed)


def compare_exams(folder: Path, first: Said, second: Said, seed: int = 0) -> dict[str, Record]:
    """Per exam of a set the paired test of the questions as printed, with their images.

    Raises DataError when one of the models was not asked what the other was.
    """
    items = {item.id: item for item in load_exam(folder)}
    right = [_right_marks(items, folder.name, said) for said in (first, second)]
    groups = {item.id: item.group_id for item in items.values()}
    results = {}
    for exam in sorted({item.exam for item in items.values()}):
        one, other = (
            {i: flag for i, flag in flags.items() if items[i].exam == exam and items[i].excluded != "all"}
            for flags in right
        )
        results[exam] = paired_test(one, other, groups, seed)
    return results


def _right_marks(items: dict[str, ExamItem], task: str, said: Said) -> dict[str, bool]:
    asked = {"model": said.name, "task": task, "arm": "image"}
    right = {}
    for record in read_json_lines(said.folder / FILE):
        if record["id"] in items and all(record.get(key) == value for key, value in asked.items()):
            item = items[record["id"]]
            right[item.id] = is_correct(item, read_marks(item, record).answer)
    return right


def paired_table(paired: dict[str, dict[str, Record]]) -> list[list[str]]:
    """A table, its head first, of {PAIR: {TASK: test}}."""
    rows = [["models", "task", "n", "right alone: first", "second", "difference", "95 %", "McNemar p"]]
    for pair, tests in paired.items():
        for task, test in tests.items():
            interval = "{:+.1%} – {:+.1%}".format(*test["interval"])
            counts = [str(test[key]) for key in ("n", "only_first", "only_second")]
            rows.append([pair, task, *counts, f"{test['difference']:+.1%}", interval, f"{test['mcnemar_p']:.2g}"])
    return rows
