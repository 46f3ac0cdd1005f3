"""LLaVA's JSON: a list of ``{"image": name, "conversations": [{"from": "human", "value": "<image>\\n…"}, …]}``.

``image`` may be a list of names, or missing. The marks `<image>` become structure, an image's number among the parts of
a message; no text keeps one. Images that no mark stands for come before the first question.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jvlm.datasets.layouts.record import Item, image_of, read_document
from jvlm.errors import DataError
from jvlm.sample import ImageRef, Message, Part, Role, Sample

MARK = "<image>"
_ROLES: dict[str, Role] = {"system": "system", "human": "user", "gpt": "assistant"}


def items(source: Path, images: Path) -> Iterator[Item]:
    for number, record in enumerate(read_document(source, list, "a list of LLaVA's records"), 1):
        yield Item(f"{source}:{number}", (number, record))


def sample(item: Item, source: Path, images: Path) -> Sample:
    number, record = item.content
    if not isinstance(record, dict):
        raise DataError("not a JSON object")
    named = record.get("image")
    names = named if isinstance(named, list) else [named] if named is not None else []
    references = [image_of(name, images) for name in names]
    meta = {"original_id": str(record["id"])} if "id" in record else {}
    return conversation(f"{source.stem}-{number:08d}", record.get("conversations"), references, meta)


def conversation(identity: str, turns: Any, images: list[ImageRef], meta: dict[str, Any]) -> Sample:
    """A sample of LLaVA's turns. Raises DataError when they do not alternate, or mark other images than there are."""
    if not isinstance(turns, list) or not turns:
        raise DataError("no conversations")
    messages: list[Message] = []
    marked = 0
    for number, turn in enumerate(turns, 1):
        role = _ROLES.get(str(turn.get("from"))) if isinstance(turn, dict) else None
        said = turn.get("value") if isinstance(turn, dict) else None
        if role is None or not isinstance(said, str):
            raise DataError(f"turn {number} is not of human or gpt, or has no text")
        expected = "assistant" if messages and messages[-1].role == "user" else "user"
        if role != expected and not (role == "system" and not messages):
            raise DataError(f"turn {number} is not the {expected}'s")
        if role != "user" and MARK in said:
            raise DataError(f"turn {number} marks an image; only questions may")
        parts = _parts(said, marked)
        marked += sum(isinstance(part, int) for part in parts)
        messages.append(Message(role, parts))
    if messages[-1].role != "assistant":
        raise DataError("the conversation does not end with an answer")
    if marked not in (0, len(images)):
        raise DataError(f"the conversation marks {marked} images and has {len(images)}")
    if not marked:
        first = next(message for message in messages if message.role == "user")
        first.content[:0] = range(len(images))
    return Sample(identity, messages, images, meta=meta)


def _parts(said: str, first: int) -> list[Part]:
    """Text between marks, without the spaces around it, and the numbers of the images, from `first` on."""
    parts: list[Part] = []
    for number, text in enumerate(said.split(MARK)):
        if number:
            parts.append(first + number - 1)
        if text.strip():
            parts.append(text.strip())
    return parts
