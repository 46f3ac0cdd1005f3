"""LLaVA-Instruct-150K-JA as published (huggingface.co/datasets/turing-motors) and COCO's images → image shards.

Layout: one or more ``.json`` (a list) or ``.jsonl`` files of records with id, image and conversations, whose turns have
``from`` (human, gpt) and ``value``; where a turn has ``jp`` too, that is the Japanese and ``value`` the original.
Images are those of COCO: ``train2017/000000000009.jpg`` or ``train2014/COCO_train2014_000000000009.jpg``.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jvlm_data.image_sets import Entry, write_image_set
from jvlm_data.rows import Fault, below, read_document, read_rows, records, text, value

from jvlm.errors import DataError
from jvlm.sample import Message, Part

LAYOUT = "the published .json or .jsonl and COCO's train2017/ or train2014/"
_MARK = "<image>"
_ROLES = ("human", "gpt")


def convert(source: Path, out: Path) -> dict[str, int]:
    """One sample per conversation, split by the hash of its image. Counts per split, of `removed` and `errors`.

    Raises DataError when nothing in `source` is usable.
    """
    faults: list[Fault] = []
    return write_image_set(_entries(source, faults), faults, out, source, LAYOUT, "llava_instruct_ja")


def _entries(source: Path, faults: list[Fault]) -> Iterator[Entry]:
    for path in sorted(source.glob("*.json*")):
        if path.suffix == ".jsonl":
            rows = read_rows(path, source, faults)
        else:
            document = read_document(path, source, faults)
            rows = records(document, path.name, faults) if document is not None else iter(())
        for where, row in rows:
            try:
                messages = _messages(value(row, "conversations", list))
                # parts of one publication count their ids anew, and one image has several conversations
                entry_id = f"llava-{path.stem}-{where.rpartition(':')[2]}"
                meta = {"source": "llava_instruct_ja", "original_id": str(row.get("id"))}
                image = _image(source, text(row, "image"))
            except DataError as error:
                faults.append({"where": where, "error": error.what})
                continue
            said = json.dumps([message.text for message in messages], ensure_ascii=False)
            yield Entry(entry_id, where, image, messages, text=said, meta=meta)


def _image(source: Path, name: str) -> Path:
    places = [below(source, name), below(source / "train2017", name), below(source / "train2014", name)]
    places.append(below(source / "train2014", f"COCO_train2014_{name}"))
    for place in places:
        if place.is_file():
            return place
    raise DataError(f"image not found: {name}, neither in train2017/ nor in train2014/")


def _messages(turns: list[Any]) -> list[Message]:
    """human, gpt, human, gpt, …; the image stands where the first question marks it, else before the question."""
    if not turns or len(turns) % 2:
        raise DataError("the conversation does not end with an answer")
    messages = []
    for number, turn in enumerate(turns):
        if not isinstance(turn, dict) or turn.get("from") != _ROLES[number % 2]:
            raise DataError(f"turn {number + 1} is not of {_ROLES[number % 2]!r}")
        said = text(turn, "jp" if turn.get("jp") is not None else "value")
        if number == 0:
            messages.append(Message("user", _first_question(said)))
        elif _MARK in said:
            raise DataError(f"turn {number + 1} marks an image; only the first question may")
        else:
            messages.append(Message("assistant" if number % 2 else "user", [said]))
    return messages


def _first_question(said: str) -> list[Part]:
    before, mark, after = (part.strip() for part in said.partition(_MARK))
    if not mark:
        return [0, said]
    if _MARK in after:
        raise DataError("the first question marks more than one image")
    if not before + after:
        raise DataError("the first question has no text beside the image")
    return [part for part in (before, 0, after) if part != ""]
