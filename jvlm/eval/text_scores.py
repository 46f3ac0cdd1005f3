"""Figures of a text benchmark out of its records, by today's rules."""

from collections.abc import Sequence

from jvlm.eval.answers import VERSION as PARSER
from jvlm.eval.answers import Read, read_answer
from jvlm.eval.audits import image_removal_audit
from jvlm.eval.calibration import calibration
from jvlm.eval.exam import choose
from jvlm.eval.ledger import Record
from jvlm.eval.metrics import RIGHT_OR_WRONG, is_right, label_figures, measure
from jvlm.eval.task import Task
from jvlm.eval.task_items import TaskItem

NORMS = {"sum": "accuracy", "character": "accuracy_per_character", "token": "accuracy_per_token"}


def score(task: Task, items: Sequence[TaskItem], records: Sequence[Record]) -> Record:
    """The figures of records, one per item, by today's rules."""
    not_asked = {item.id: r["error"] for item, r in zip(items, records, strict=True) if "error" in r}
    result: Record = {"parser": PARSER, "not_asked": not_asked}
    put = [record for record in records if "error" not in record]
    answers = [read_record(task, item, record) for item, record in zip(items, records, strict=True)]
    if task.metrics:
        result["metrics"] = figures_of(task, items, records)
    kinds = sorted({item.kind for item in items})
    if task.metrics and len(kinds) > 1 and task.parser != "triples":  # of them `kind` says what training knows
        rows = list(zip(items, records, strict=True))
        own = {kind: [row for row in rows if row[0].kind == kind] for kind in kinds}
        result["kinds"] = {kind: figures_of(task, *zip(*part, strict=True)) for kind, part in own.items()}
    if task.labels:
        result["labels"] = label_figures(task, items, answers)
    if task.request == "choices":
        asked = [(item, record) for item, record in zip(items, records, strict=True) if "error" not in record]
        right = [{place} for item, _ in asked if (place := task.right(item)) is not None]
        groups = [getattr(item, task.group) for item, _ in asked]
        result["calibration"] = calibration([record["scores"] for _, record in asked], right, groups)
        ties = sum(most_likely(task, item, record, task.norm)[1] for item, record in asked)
        return result | {"parse_failures": 0.0, "cut_off": 0.0, "ties": ties}
    unread = sum(a is None for a, r in zip(answers, records, strict=True) if "error" not in r)
    cut = sum(record.get("finish_reason") == "length" for record in put)
    return result | {"parse_failures": unread / max(1, len(put)), "cut_off": cut / max(1, len(put)), "ties": 0}


def read_record(task: Task, item: TaskItem, record: Record) -> Read | None:
    """The answer of a record; None for one that cannot be read, or was not given."""
    if "error" in record:
        return None
    if task.request == "choices":
        return most_likely(task, item, record, task.norm)[0]
    return read_answer(task, item, record["output"])


def figures_of(task: Task, items: Sequence[TaskItem], records: Sequence[Record]) -> Record:
    """Every metric, of choices the accuracy by every norm; the task's own first."""
    rows = list(zip(items, records, strict=True))
    if task.request == "generate":
        answers = [read_record(task, item, record) for item, record in rows]
        return {name: measure(name, task, items, answers) for name in task.metrics}
    by_norm = {
        norm: [None if "error" in record else most_likely(task, item, record, norm)[0] for item, record in rows]
        for norm in (task.norm, *NORMS)
    }
    return {NORMS[norm]: measure("accuracy", task, items, chosen) for norm, chosen in by_norm.items()}


def most_likely(task: Task, item: TaskItem, record: Record, norm: str) -> tuple[int, bool]:
    """The most likely choice, the first of equals, and whether there were any. Raises JvlmError as `choose`."""
    lengths = {
        "sum": [1] * len(record["scores"]),
        "character": [max(1, len(said)) for said in task.said(item)],
        "token": record["tokens"],
    }
    scores = [total / length for total, length in zip(record["scores"], lengths[norm], strict=True)]
    (place,), tied = choose(scores, range(len(scores)), 1)
    return place, tied


def removal_audit(
    task: Task, items: Sequence[TaskItem], seen: Sequence[Record], blind: Sequence[Record]
) -> Record | None:
    """What the pictures changed of the questions that could be asked both ways; None where there are none."""
    both = [i for i in range(len(items)) if "error" not in seen[i] and "error" not in blind[i]]
    first, second = (right_flags(task, [(items[i], records[i]) for i in both]) for records in (seen, blind))
    if not first or not second:
        return None
    return image_removal_audit(first, second, groups_of(task, items))


def right_flags(task: Task, rows: Sequence[tuple[TaskItem, Record]]) -> dict[str, bool] | None:
    """Whether each answer is right, by id; None for a task whose first metric does not say so."""
    metric = "accuracy" if task.request == "choices" else next(iter(task.metrics), "")
    if metric not in RIGHT_OR_WRONG:
        return None
    return {item.id: is_right(metric, task, item, read_record(task, item, record)) for item, record in rows}


def groups_of(task: Task, items: Sequence[TaskItem]) -> dict[str, str]:
    """By id what is redrawn together."""
    return {item.id: getattr(item, task.group) for item in items}
