"""JAMP as published (github.com/tomo-ut/temporalNLI_dataset) → pairs of train and test.

Layout: ``dataset/test_2.tsv`` and ``dataset/train.tsv``; without it a smaller table.
"""

from pathlib import Path
from typing import Any

from jvlm_data.task_sets import TaskSet, column, labelled, read_table

from jvlm.eval.task_items import TaskItem

LAYOUT = "a clone of github.com/tomo-ut/temporalNLI_dataset: dataset/test_2.tsv, dataset/train.tsv"
RELATIONS = ("entailment", "contradiction", "neutral")
FILES = {"train": ("train.tsv", "train_custom-timeformat-hard.tsv"), "test": ("test_2.tsv",)}


def convert(source: Path, out: Path) -> dict[str, int]:
    """``out/train.jsonl`` and ``out/test.jsonl``. Raises DataError when nothing in `source` is usable."""
    found = TaskSet(source, LAYOUT)
    for split, names in FILES.items():
        path = next((p for name in names if (p := source / "dataset" / name).is_file()), None)
        if path is not None:
            found.add(split, read_table(path, source, found.faults, delimiter="\t"), _item)
    return found.write(out)


def _item(place: str, row: dict[str, Any]) -> TaskItem:
    fields = {"premise": column(row, "premise"), "hypothesis": column(row, "hypothesis")}
    return labelled(column(row, "num"), column(row, "gold_label"), RELATIONS, fields, kind=column(row, "category"))
