"""JaNLI as published (github.com/verypluming/JaNLI) → pairs of train and test; one table ``janli.tsv``."""

from pathlib import Path
from typing import Any

from jvlm_data.task_sets import TaskSet, column, labelled, read_table

from jvlm.eval.task_items import TaskItem

LAYOUT = "a clone of github.com/verypluming/JaNLI: janli.tsv"
RELATIONS = ("entailment", "non-entailment")


def convert(source: Path, out: Path) -> dict[str, int]:
    """``out/train.jsonl`` and ``out/test.jsonl``. Raises DataError when nothing in `source` is usable."""
    found = TaskSet(source, LAYOUT)
    rows = list(read_table(source / "janli.tsv", source, found.faults, delimiter="\t"))
    for split in ("train", "test"):
        found.add(split, ((place, row) for place, row in rows if row.get("split") == split), _item)
    return found.write(out)


def _item(place: str, row: dict[str, Any]) -> TaskItem:
    fields = {"premise": column(row, "sentence_A_Ja"), "hypothesis": column(row, "sentence_B_Ja")}
    label, kind = column(row, "entailment_label_Ja"), column(row, "heuristics")
    return labelled(column(row, ""), label, RELATIONS, fields, kind=kind)
