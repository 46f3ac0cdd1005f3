"""JaQuAD as published (github.com/SkelterLabsInc/JaQuAD) → text per split.

Layout: ``data/train/jaquad_train_0000.json`` … and ``data/dev/jaquad_dev_0000.json`` … in SQuAD's format: data is a
list of articles (title, paragraphs), a paragraph has context and qas, a question has question, id and answers.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jvlm_data.rows import Fault, read_document, records, text, value
from jvlm_data.text_sets import TextEntry, write_text_set

from jvlm.errors import DataError

NAME, LICENCE = "jaquad", "CC-BY-SA-3.0"
LAYOUT = "a clone of github.com/SkelterLabsInc/JaQuAD: data/train/jaquad_train_0000.json …, data/dev/"


def convert(source: Path, out: Path) -> dict[str, int]:
    """One document per passage: the passage, then its questions, each with its answer; dev becomes val.

    A question without text or answer is recorded and left out, its passage stays. Counts per split, of `removed` and
    `errors`. Raises DataError when nothing in `source` is usable.
    """
    return write_text_set(lambda faults: _entries(source, faults), NAME, out, source, LAYOUT)


def _entries(source: Path, faults: list[Fault]) -> Iterator[TextEntry]:
    for published, split in (("train", "train"), ("dev", "val")):
        for path in sorted(source.glob(f"data/{published}/*.json")):
            name = str(path.relative_to(source))
            document = read_document(path, source, faults)
            articles = document.get("data") if isinstance(document, dict) else None
            if document is None:
                continue
            for where, article in records(articles, name, faults):
                for place, paragraph in records(article.get("paragraphs"), where, faults):
                    try:
                        context = text(paragraph, "context")
                    except DataError as error:
                        faults.append({"where": place, "error": error.what})
                        continue
                    body = "\n".join([context, "", *_questions(paragraph, place, faults)]).strip()
                    entry_id = f"{NAME}/{place.removeprefix('data/')}"
                    yield TextEntry(entry_id, place, body, LICENCE, split, content=context)


def _questions(paragraph: dict[str, Any], where: str, faults: list[Fault]) -> Iterator[str]:
    for place, row in records(paragraph.get("qas"), where, faults):
        try:
            answers = value(row, "answers", list)
            if not answers or not isinstance(answers[0], dict):
                raise DataError("the question has no answer")
            yield f"質問: {text(row, 'question')}\n答え: {text(answers[0], 'text')}"
        except DataError as error:
            faults.append({"where": place, "error": error.what})
