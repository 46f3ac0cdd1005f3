"""NIILC-QA as published (github.com/mynlp/niilc-qa) → questions of dev and test.

Layout: ``data/NIILC-ECQA2015_SPLIT.xml``: ``<question id><text/><answers><answer/>…``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jvlm_data.rows import Fault
from jvlm_data.task_sets import Place, TaskSet, column

from jvlm.errors import DataError
from jvlm.eval.task_items import TaskItem

LAYOUT = "a clone of github.com/mynlp/niilc-qa: data/NIILC-ECQA2015_dev.xml, data/NIILC-ECQA2015_test.xml"


def convert(source: Path, out: Path) -> dict[str, int]:
    """``out/dev.jsonl`` and ``out/test.jsonl``. Raises DataError when nothing in `source` is usable."""
    found = TaskSet(source, LAYOUT)
    for path in sorted(source.glob("data/NIILC-ECQA2015_*.xml")):
        found.add(path.stem.rpartition("_")[2], _questions(path, source, found.faults), _item)
    return found.write(out)


def _questions(path: Path, source: Path, faults: list[Fault]) -> Iterator[Place]:
    name = str(path.relative_to(source))
    text = path.read_bytes()
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:  # a file may ask a parser to write the same text a billion times
        faults.append({"where": name, "error": "declares entities, which the published files do not"})
        return
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        faults.append({"where": name, "error": f"not readable as XML: {error}"})
        return
    for number, question in enumerate(root.iter("question"), 1):
        answers = [(answer.text or "").strip() for answer in question.iter("answer")]
        row = {"id": question.get("id"), "text": question.findtext("text"), "answers": [a for a in answers if a]}
        yield f"{name}:{number}", row


def _item(place: str, row: dict[str, Any]) -> TaskItem:
    identity, answers = column(row, "id"), list(dict.fromkeys(row["answers"]))
    if not answers:
        raise DataError("the question has no answer")
    return TaskItem(identity, identity, "", {"question": column(row, "text")}, [], None, answers)
