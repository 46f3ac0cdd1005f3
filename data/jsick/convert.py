"""JSICK as published (github.com/verypluming/JSICK) → pairs of train and test; tables ``jsick/SPLIT.tsv``."""

from pathlib import Path
from typing import Any

from jvlm_data.task_sets import TaskSet, column, labelled, read_table

from jvlm.eval.task_items import TaskItem

LAYOUT = "a clone of github.com/verypluming/JSICK: jsick/train.tsv, jsick/test.tsv"
RELATIONS = ("entailment", "contradiction", "neutral")


def convert(source: Path, out: Path) -> dict[str, int]:
    """``out/train.jsonl`` and ``out/test.jsonl``. Raises DataError when nothing in `source` is usable."""
    found = TaskSet(source, LAYOUT)
    for split in ("train", "test"):
        if (path := source / "jsick" / f"{split}.tsv").is_file():
            found.add(split, read_table(path, source, found.faults, delimiter="\t"), _item)
    return found.write(out)


def _item(place: str, row: dict[str, Any]) -> TaskItem:
    fields = {"premise": column(row, "sentence_A_Ja"), "hypothesis": column(row, "sentence_B_Ja")}
    picture = str(row.get("image_ID") or "").strip()
    return labelled(column(row, "pair_ID"), column(row, "entailment_label_Ja"), RELATIONS, fields, group=picture)
