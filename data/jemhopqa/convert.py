"""JEMHopQA as published (github.com/aiishii/JEMHopQA) → questions of train and dev, with their derivations.

Layout: ``corpus_ver1.2/dev_ver1.2.json`` and ``corpus/train.json``, lists of qid, type, question, answer and
derivations ``[[subject, relation, [object, …]], …]``; the newest version of each split is taken.
"""

from pathlib import Path
from typing import Any

from jvlm_data.rows import read_document, records, text, value
from jvlm_data.task_sets import TaskSet

from jvlm.errors import DataError
from jvlm.eval.task_items import TaskItem

LAYOUT = "a clone of github.com/aiishii/JEMHopQA: corpus_ver1.2/dev_ver1.2.json, corpus/train.json"
VERSIONS = ("corpus_ver1.2/{}_ver1.2.json", "corpus_ver1.1/{}_ver1.1.json", "corpus/{}.json")


def convert(source: Path, out: Path) -> dict[str, int]:
    """``out/train.jsonl`` and ``out/dev.jsonl``. Raises DataError when nothing in `source` is usable."""
    found = TaskSet(source, LAYOUT)
    for split in ("train", "dev"):
        path = next((p for version in VERSIONS if (p := source / version.format(split)).is_file()), None)
        if path is not None:
            document = read_document(path, source, found.faults)
            found.add(split, records(document, str(path.relative_to(source)), found.faults), _item)
    return found.write(out)


def _item(place: str, row: dict[str, Any]) -> TaskItem:
    identity = text(row, "qid")
    fields = {"question": text(row, "question"), "derivations": _derivations(row)}
    return TaskItem(identity, identity, text(row, "type"), fields, [], None, [text(row, "answer")])


def _derivations(row: dict[str, Any]) -> str:
    lines = []
    for triple in value(row, "derivations", list):
        if not isinstance(triple, list) or len(triple) != 3 or not isinstance(triple[2], list):
            raise DataError("a derivation is no triple")
        lines.append(f"({triple[0]}, {triple[1]}, {'、'.join(map(str, triple[2]))})")
    return "\n".join(lines)
