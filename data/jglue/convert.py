"""JGLUE as published (github.com/yahoojapan/JGLUE) → questions per set and split.

Layout: ``datasets/NAME-v1.3/SPLIT-v1.3.json``, JSON lines but for JSQuAD, which is one document in SQuAD's format: data
is a list of pages (title, paragraphs), a paragraph has context ("題名 [SEP] 文章") and qas.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jvlm_data.rows import Fault, read_document, read_rows, records, text, value
from jvlm_data.task_sets import Place, TaskSet, labelled

from jvlm.errors import DataError
from jvlm.eval.task_items import TaskItem

LAYOUT = "a clone of github.com/yahoojapan/JGLUE: datasets/jcommonsenseqa-v1.3/test-v1.3.json …"
RELATIONS = ("entailment", "contradiction", "neutral")
CHOICES = 5


def convert(source: Path, out: Path) -> dict[str, int]:
    """``out/SET-SPLIT.jsonl`` of each file that is there. Raises DataError when nothing in `source` is usable."""
    found = TaskSet(source, LAYOUT)
    makers = {"jcommonsenseqa": _commonsense, "jnli": _relation, "jsts": _likeness}
    for path in sorted(source.glob("datasets/*-v*/*-v*.json")):
        name, split = path.parent.name.rpartition("-v")[0], path.name.partition("-v")[0]
        if name == "jsquad":
            found.add(f"{name}-{split}", _questions(path, source, found.faults), _extraction)
        elif name in makers:
            found.add(f"{name}-{split}", read_rows(path, source, found.faults), makers[name])
    return found.write(out)


def _commonsense(place: str, row: dict[str, Any]) -> TaskItem:
    identity = str(value(row, "q_id", int))
    right = value(row, "label", int)
    if not 0 <= right < CHOICES:
        raise DataError(f"label {right} is no choice")
    choices = [text(row, f"choice{i}") for i in range(CHOICES)]
    return TaskItem(identity, identity, "", {"question": text(row, "question")}, choices, right, [])


def _relation(place: str, row: dict[str, Any]) -> TaskItem:
    label = text(row, "label")
    return labelled(text(row, "sentence_pair_id"), label, RELATIONS, _sentences(row), group=_picture(row))


def _likeness(place: str, row: dict[str, Any]) -> TaskItem:
    likeness = value(row, "label", int | float)
    return TaskItem(text(row, "sentence_pair_id"), _picture(row), "", _sentences(row), [], None, [str(likeness)])


def _sentences(row: dict[str, Any]) -> dict[str, str]:
    return {"sentence1": text(row, "sentence1"), "sentence2": text(row, "sentence2")}


def _picture(row: dict[str, Any]) -> str:
    return text(row, "yjcaptions_id").partition("-")[0]  # picture-caption-caption


def _questions(path: Path, source: Path, faults: list[Fault]) -> Iterator[Place]:
    """The questions of a document, each with its page's title and its passage."""
    document = read_document(path, source, faults)
    if document is None:
        return
    pages = document.get("data") if isinstance(document, dict) else None
    for where, page in records(pages, str(path.relative_to(source)), faults):
        for place, paragraph in records(page.get("paragraphs"), where, faults):
            for spot, row in records(paragraph.get("qas"), place, faults):
                yield spot, row | {"title": page.get("title"), "context": paragraph.get("context"), "passage": place}


def _extraction(place: str, row: dict[str, Any]) -> TaskItem:
    answers = [text(answer, "text") for answer in value(row, "answers", list) if isinstance(answer, dict)]
    if not answers:
        raise DataError("the question has no answer")
    fields = {
        "title": text(row, "title"),
        "context": text(row, "context").partition("[SEP]")[2].strip() or text(row, "context"),
        "question": text(row, "question"),
    }
    return TaskItem(text(row, "id"), row["passage"], "", fields, [], None, list(dict.fromkeys(answers)))
