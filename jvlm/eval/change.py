"""A model before and after a training: both are asked, and by how much each benchmark's own figure changed is told.

The report of what was forgotten (general benchmarks) and gained (exams of the field). Any metric will do; its interval
comes from redrawing questions in pairs. Of two models that have been asked already `jvlm.eval.paired` tells which is
more often right.
"""

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np

from jvlm.errors import UsageError
from jvlm.eval.exams import evaluate_exam_set
from jvlm.eval.ledger import FILE, Record
from jvlm.eval.metrics import METRICS, question_rows
from jvlm.eval.paired import Said, compare_exams
from jvlm.eval.statistics import DRAWS
from jvlm.eval.task import load_task, prepare
from jvlm.eval.text_scores import read_record
from jvlm.eval.text_tasks import evaluate_task
from jvlm.files import read_json_lines
from jvlm.infer.types import Model, TextModel

Named = tuple[TextModel, str]
"""A model and what tells its weights from all others."""


def change_on_task(
    name: str, data: Path, out: Path, before: Named, after: Named, *, limit: int | None = None, seed: int = 0
) -> Record:
    """`before`, `after` and `change` of the task's own metric, `n`, and the 95 % interval of the change.

    The interval comes from redrawing whole groups of questions, the same for both models. Raises DataError when the
    questions are not there, UsageError for a task that only a judge can score.
    """
    task = load_task(name)
    if not task.metrics:
        raise UsageError(f"the answers of {name} have no figure without a judge", fix="compare on another benchmark")
    results = [evaluate_task(model, task, data, out, name=weights, limit=limit) for model, weights in (before, after)]
    items, _ = prepare(task, data, limit)
    metric = next(iter(results[0]["metrics"]))
    kind = "accuracy" if task.request == "choices" else metric
    rows = []
    for result in results:
        known = {record["id"]: record for record in read_json_lines(out / result["records"] / FILE)}
        rows.append(question_rows(kind, task, items, [read_record(task, item, known[item.id]) for item in items]))
    groups = [getattr(item, task.group) for item in items]
    values = [float(METRICS[kind].value(row.sum(0))) for row in rows]
    return {
        "metric": metric,
        "n": len(items),
        "before": values[0],
        "after": values[1],
        "change": values[1] - values[0],
        "interval": _interval(kind, rows[0], rows[1], groups, seed),
    }


def _interval(
    kind: str, before: np.ndarray, after: np.ndarray, groups: Sequence[Hashable], seed: int, draws: int = DRAWS
) -> list[float]:
    order: dict[Hashable, int] = {}
    index = np.array([order.setdefault(group, len(order)) for group in groups])
    sums = np.zeros((2, len(order), before.shape[1]))  # [model, group, summands]
    np.add.at(sums[0], index, before)
    np.add.at(sums[1], index, after)
    generator, number = np.random.default_rng([seed, len(order)]), len(order)
    counts = generator.multinomial(number, np.full(number, 1 / number), draws)
    changes = METRICS[kind].value(counts @ sums[1]) - METRICS[kind].value(counts @ sums[0])
    low, high = np.percentile(changes, [2.5, 97.5])
    return [float(low), float(high)]


def change_on_exam(
    folder: Path, out: Path, before: tuple[Model, str], after: tuple[Model, str], seed: int = 0
) -> dict[str, Record]:
    """The same of each exam in ``folder/items.jsonl``, its questions as printed; McNemar's test besides.

    Raises DataError when the records are missing.
    """
    for model, weights in (before, after):
        evaluate_exam_set(model, folder, out, name=weights, seed=seed, arms=())
    return {
        exam: {
            "metric": "accuracy",
            "n": pair["n"],
            "before": pair["second"],
            "after": pair["first"],
            "change": pair["difference"],
            "interval": pair["interval"],
            "mcnemar_p": pair["mcnemar_p"],
        }
        for exam, pair in compare_exams(folder, Said(out, after[1]), Said(out, before[1]), seed).items()
    }
