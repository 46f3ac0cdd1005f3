"""`TaskItem`: one question of a benchmark, whatever it asks for, and the files and shards that hold them."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from jvlm.errors import DataError
from jvlm.files import sha256_bytes
from jvlm.images.shards import ShardReader
from jvlm.sample import ImageRef


@dataclass(frozen=True)
class TaskItem:
    """One question.

    Attributes:
        group_id: items of one group (a passage, a pair of captions) are not independent; an item's own id when alone.
        kind: what scores are told apart by (a subject, a type of question); "" where there is nothing.
        fields: the texts that a prompt may name; the answer is never among them.
        choices: the item's own choices; empty where the task's labels are the choices, or the answer is open.
        right: place of the right choice among `choices`, from 0; None without choices of its own.
        answers: accepted answers of an open question, all members where the answer is a set, or one label; of a
            conversation that is judged, the reference answers of its turns.
        images: pictures shown before the question; of a file that is written, paths relative to its folder.
    """

    id: str
    group_id: str
    kind: str
    fields: dict[str, str]
    choices: list[str]
    right: int | None
    answers: list[str]
    images: list[ImageRef] = field(default_factory=list)


def write_task_items(path: Path, items: list[TaskItem]) -> None:
    """One JSON line per item."""
    rows = (asdict(item) | {"images": [image.path for image in item.images]} for item in items)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def load_task_items(path: Path) -> list[TaskItem]:
    """Items of a JSONL file, in its order. Raises DataError with file:line for a broken line or a repeated id."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a text may hold other signs that end a line
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the task's questions: {error}", where=path) from None
    items: dict[str, TaskItem] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            item = _item(json.loads(line), path.parent)
        except ValueError as error:
            raise DataError(f"not a JSON line: {error}", where=where) from None
        except (KeyError, TypeError) as error:
            raise DataError(f"not a question of a task: {error}", where=where, fix="build the set again") from None
        if item.id in items:
            raise DataError(f"id {item.id!r} stands twice", where=where, fix="give every item its own id")
        items[item.id] = item
    return list(items.values())


def _item(record: Any, folder: Path) -> TaskItem:
    images = record.get("images", [])  # files of an older converter do not name them
    item = TaskItem(**{f.name: record[f.name] for f in fields(TaskItem) if f.name != "images"})
    texts = [item.id, item.group_id, item.kind, *item.fields.values(), *item.choices, *item.answers, *images]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("something is no text")
    if item.choices and (type(item.right) is not int or not 0 <= item.right < len(item.choices)):
        raise TypeError(f"right is {item.right!r}, which is no choice")
    return replace(item, images=[ImageRef(path=str(folder / name)) for name in images])


def load_picture_questions(folder: Path) -> list[TaskItem]:
    """Questions about one picture each out of shards: a user turn and its answer; `kind` is the meta's answer_type.

    Questions about the same picture are a group. Raises DataError for a sample of another form.
    """
    reader = ShardReader(folder)
    items = []
    for sample in map(reader.read, range(len(reader))):
        if [message.role for message in sample.messages] != ["user", "assistant"] or len(sample.images) != 1:
            raise DataError("not a question about one picture with its answer", where=f"{folder}: {sample.id}")
        question, answer = (message.text for message in sample.messages)
        group = sha256_bytes(sample.images[0].read())[:16]
        kind = str(sample.meta.get("answer_type") or "").strip().upper()
        items.append(TaskItem(sample.id, group, kind, {"question": question}, [], None, [answer], sample.images))
    return items
