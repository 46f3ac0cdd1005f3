"""JMMLU as published (github.com/nlp-waseda/JMMLU) → questions of all subjects.

Layout: ``JMMLU/SUBJECT.csv`` without a head line: question, four choices, the right letter; ``JMMLU_NC_ND`` likewise.
"""

from pathlib import Path
from typing import Any

from jvlm_data.task_sets import TaskSet, column, read_table

from jvlm.errors import DataError
from jvlm.eval.task_items import TaskItem

LAYOUT = "a clone of github.com/nlp-waseda/JMMLU: JMMLU/SUBJECT.csv"
LETTERS = "ABCD"
FOLDERS = {"test": "JMMLU", "test_nc_nd": "JMMLU_NC_ND"}


def convert(source: Path, out: Path) -> dict[str, int]:
    """``out/test.jsonl``, and of the other licence ``out/test_nc_nd.jsonl``; DataError when nothing is usable."""
    found = TaskSet(source, LAYOUT)
    header = ["question", *LETTERS, "answer"]
    for split, folder in FOLDERS.items():
        for path in sorted((source / folder).glob("*.csv")):
            found.add(split, read_table(path, source, found.faults, header=header), _item)
    return found.write(out)


def _item(place: str, row: dict[str, Any]) -> TaskItem:
    subject = place.rpartition("/")[2].partition(".csv")[0]
    identity, answer = f"{subject}-{place.rpartition(':')[2]}", column(row, "answer")
    if answer not in LETTERS:
        raise DataError(f"the answer {answer!r} is none of {', '.join(LETTERS)}")
    choices = [column(row, letter) for letter in LETTERS]
    return TaskItem(
        identity, identity, subject, {"question": column(row, "question")}, choices, LETTERS.index(answer), []
    )
