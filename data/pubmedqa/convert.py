"""PubMedQA as published (github.com/pubmedqa/pubmedqa) → questions of train and test.

Layout: ``data/ori_pqal.json`` (id → QUESTION, CONTEXTS, final_decision) and ``data/test_ground_truth.json`` (id →
decision), which says what is test.
"""

from pathlib import Path
from typing import Any

from jvlm_data.rows import read_document, text, texts
from jvlm_data.task_sets import TaskSet, labelled

from jvlm.errors import DataError
from jvlm.eval.task_items import TaskItem

LAYOUT = "a clone of github.com/pubmedqa/pubmedqa: data/ori_pqal.json, data/test_ground_truth.json"
DECISIONS = ("yes", "no", "maybe")


def convert(source: Path, out: Path) -> dict[str, int]:
    """``out/train.jsonl`` and ``out/test.jsonl``. Raises DataError when nothing in `source` is usable."""
    found = TaskSet(source, LAYOUT)
    questions = read_document(source / "data/ori_pqal.json", source, found.faults)
    truth = read_document(source / "data/test_ground_truth.json", source, found.faults)
    if isinstance(questions, dict) and isinstance(truth, dict):
        rows = [(f"data/ori_pqal.json:{i}", {"id": i} | row) for i, row in questions.items() if isinstance(row, dict)]
        for row in rows:
            row[1]["truth"] = truth.get(row[1]["id"])
        found.add("test", (row for row in rows if row[1]["truth"] is not None), _item)
        found.add("train", (row for row in rows if row[1]["truth"] is None), _item)
    return found.write(out)


def _item(place: str, row: dict[str, Any]) -> TaskItem:
    decision = text(row, "final_decision")
    if row["truth"] not in (None, decision):
        raise DataError(f"the decision is {decision!r}, in the truth of the test {row['truth']!r}")
    fields = {"context": "\n".join(texts(row, "CONTEXTS")), "question": text(row, "QUESTION")}
    return labelled(row["id"], decision, DECISIONS, fields)
