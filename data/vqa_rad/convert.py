"""VQA-RAD as published (osf.io/89kps) → image shards.

Layout: ``VQA_RAD Dataset Public.json``, a list of records with qid, image_name, question, answer, answer_type and
phrase_type (freeform, para; of the test set test_freeform, test_para), and ``VQA_RAD Image Folder/``.

The official test questions are about images that nearly all have training questions too. Two divisions hold no such
image: the official test set, with those training questions removed; and one by images alone, which keeps every question
and most of the training set.
"""

from collections.abc import Iterator
from pathlib import Path

from jvlm_data.image_sets import Entry, write_image_set
from jvlm_data.rows import Fault, below, read_document, records, text, value

from jvlm.errors import DataError
from jvlm.sample import Message

FILE, FOLDER = "VQA_RAD Dataset Public.json", "VQA_RAD Image Folder"
RESPLIT = {"test": 0.2}
"""Share of the images, and so about of the questions, that are the test set of the division by images."""


def convert(source: Path, out: Path) -> dict[str, int]:
    """One sample per question: ``train``, ``test`` (the official one), ``disjoint_train``, ``disjoint_test``; and
    ``splits.json``: how many images of each test set have questions in its training set, as published and here.

    Returns counts per split, of `removed` and `errors`. Raises DataError when nothing in `source` is usable.
    """
    faults: list[Fault] = []
    layout = f"'{FILE}' and '{FOLDER}/'"
    return write_image_set(_entries(source, faults), faults, out, source, layout, "vqa_rad", RESPLIT)


def _entries(source: Path, faults: list[Fault]) -> Iterator[Entry]:
    document = read_document(source / FILE, source, faults)
    for where, row in records(document, FILE, faults) if document is not None else ():
        try:
            if isinstance(row.get("answer"), int | float):  # counts and sizes stand as numbers
                row["answer"] = str(row["answer"])
            question, answer = text(row, "question"), text(row, "answer")
            split = "test" if text(row, "phrase_type").startswith("test") else "train"
            image = below(source / FOLDER, text(row, "image_name"))
            entry_id = f"vqa_rad-{value(row, 'qid', int | str)}"
        except DataError as error:
            faults.append({"where": where, "error": error.what})
            continue
        messages = [Message("user", [0, question]), Message("assistant", [answer])]
        meta = {name: row.get(name) for name in ("answer_type", "question_type", "image_organ", "phrase_type")}
        yield Entry(entry_id, where, image, messages, split, meta={"source": "vqa_rad"} | meta)
