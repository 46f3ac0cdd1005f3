"""`ExamItem`: one question of a national-style exam, and how it is put to a model."""

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from jvlm.errors import DataError
from jvlm.eval.exam_prompts import PLAIN, ExamPrompt
from jvlm.sample import ImageRef, Message, Part, Sample

AnswerType = Literal["mcq_single", "mcq_multi", "numeric", "open"]
Excluded = Literal["none", "all", "if_wrong"]

_MARK = re.compile(r"<image (\d+)>")


@dataclass(frozen=True)
class Option:
    """One choice: its label (a, b, …), its text, and the path of its picture when the choice is a picture."""

    label: str
    text: str
    image: str | None = None

    @property
    def words(self) -> str:
        """What an answer says to choose it: its text, or its label where it is a picture alone."""
        return self.text or self.label


@dataclass(frozen=True)
class ExamItem:
    """One exam question.

    Attributes:
        section: the block (A to F); `group_id`: the linked case the item belongs to (items of a group share
            `shared_text`), or its own id.
        n_select: how many options are to be marked, as the question says (1 for single and numeric).
        accept: the accepted answers, each a list of labels (or of one number, or one free answer, as text).
        stem, options: a mark `<image 2>` in a text is where the second of `pictures` stands; others stand in front.
        excluded: "all": removed for everybody; "if_wrong": removed for those who answered it wrong.
        points: 1 or 3; `required`: belongs to the 必修 block; `kinki`: labels whose choice is taboo.
        source, sha256: where the item comes from and the hash of its content, as written by its converter.
        images: absolute or JSONL-relative paths resolved to files by `load_items`.
    """

    id: str
    exam: str
    section: str
    number: int
    group_id: str
    stem: str
    shared_text: str
    options: list[Option]
    images: list[str]
    answer_type: AnswerType
    n_select: int
    accept: list[list[str]]
    excluded: Excluded
    points: int
    required: bool
    kinki: list[str]
    source: str
    sha256: str
    tags: list[str]

    @property
    def labels(self) -> list[str]:
        return [option.label for option in self.options]

    @property
    def pictures(self) -> list[str]:
        """The question's images, then those that stand for options."""
        return self.images + [option.image for option in self.options if option.image]


def load_items(path: Path) -> list[ExamItem]:
    """Items of a JSONL file; image names are taken relative to its folder.

    Raises DataError with file:line for a broken line, a wrong field, a missing image or a repeated id.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a text may hold other signs that end a line
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the exam: {error}", where=path, fix="build it with `jvlm data build`") from None
    items: dict[str, ExamItem] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"not a JSON line: {error}", where=where) from None
        item = _item(record, path.parent, where)
        if item.id in items:
            raise DataError(f"id {item.id!r} stands twice", where=where, fix="give every item its own id")
        items[item.id] = item
    return list(items.values())


def exam_sample(item: ExamItem, with_image: bool = True, prompt: ExamPrompt = PLAIN) -> Sample:
    """The question as a sample ending in the user turn; by default in the one format of training and evaluation.

    Content: image indices, then the text as `prompt` puts it, but for images whose place the text marks. With
    `with_image=False` there is no image and no index: no image tokens at all; a mark stays as it is written.
    """
    images = [ImageRef(path=picture) for picture in item.pictures] if with_image else []
    options = [(option.label, option.text) for option in item.options]
    text = prompt.text(item.shared_text + item.stem, options, item.n_select)
    content = place_images(text, len(images))
    meta: dict[str, Any] = {"set": item.exam, "kind": item.answer_type, "gold": exam_answer(item)}
    meta |= {"accept": item.accept, "labels": item.labels, "n_select": item.n_select}
    return Sample(item.id, [Message("user", content)], images, None, meta)


def place_images(text: str, count: int) -> list[Part]:
    """The text with `count` images at their marks `<image N>` (N from 1, each once); those without one in front."""
    parts: list[Part] = []
    placed: set[int] = set()
    end = 0
    for mark in _MARK.finditer(text):
        number = int(mark.group(1)) - 1
        if 0 <= number < count and number not in placed:
            parts += [*([text[end : mark.start()]] if mark.start() > end else []), number]
            placed.add(number)
            end = mark.end()
    front: list[Part] = [number for number in range(count) if number not in placed]
    return [*front, *parts, *([text[end:]] if text[end:] or not parts else [])]


def exam_answer(item: ExamItem) -> str:
    """The assistant's turn for the first accepted answer: choices joined by 、 in label order, or what is written."""
    if not item.options:
        return item.accept[0][0]
    return "、".join(option.words for option in item.options if option.label in item.accept[0])


def _item(record: Any, folder: Path, where: str) -> ExamItem:
    if not isinstance(record, dict):
        raise DataError("an item must be a JSON object", where=where)
    names = [field.name for field in fields(ExamItem)]
    missing = [name for name in names if name not in record]
    if missing:
        raise DataError(f"fields missing: {', '.join(missing)}", where=where)
    values = {name: record[name] for name in names}
    for name in ("id", "exam", "section", "group_id", "stem", "shared_text", "source", "sha256"):
        _expect(isinstance(values[name], str), f"{name} must be text", where)
    for name in ("number", "n_select", "points"):
        _expect(type(values[name]) is int and values[name] >= 0, f"{name} must be a whole number", where)
    _expect(isinstance(values["required"], bool), "required must be true or false", where)
    for name in ("images", "kinki", "tags"):
        _expect(_texts(values[name]), f"{name} must be a list of texts", where)
    _expect(values["answer_type"] in get_args(AnswerType), f"unknown answer_type {values['answer_type']!r}", where)
    _expect(values["excluded"] in get_args(Excluded), f"unknown excluded {values['excluded']!r}", where)
    values["options"] = _options(values["options"], folder, where)
    values["images"] = [_image(name, folder, where) for name in values["images"]]
    item = ExamItem(**values)
    _check_answers(item, where)
    return item


def _options(value: Any, folder: Path, where: str) -> list[Option]:
    _expect(isinstance(value, list) and all(isinstance(o, dict) for o in value), "options must be a list", where)
    options = []
    for option in value:
        label, text, image = option.get("label"), option.get("text"), option.get("image")
        _expect(isinstance(label, str) and isinstance(text, str), "an option needs a label and a text", where)
        options.append(Option(label, text, _image(image, folder, where) if image else None))
    _expect(len({o.label for o in options}) == len(options), "two options have the same label", where)
    return options


def _check_answers(item: ExamItem, where: str) -> None:
    accept = item.accept
    _expect(
        isinstance(accept, list) and bool(accept) and all(_texts(a) and a for a in accept), "accept is empty", where
    )
    if item.answer_type in ("numeric", "open"):
        _expect(not item.options, f"a question of the kind {item.answer_type} has no options", where)
        _expect(all(len(answer) == 1 for answer in accept), "an item without options accepts one text at a time", where)
        return
    _expect(1 <= item.n_select <= len(item.options), f"n_select {item.n_select} does not fit the options", where)
    _expect(item.answer_type == "mcq_multi" or item.n_select == 1, "a single choice must have n_select 1", where)
    labels = set(item.labels)
    named = {label for answer in accept for label in answer} | set(item.kinki)
    _expect(named <= labels, f"labels {sorted(named - labels)} are no option's", where)
    _expect(
        all(len(set(a)) == item.n_select for a in accept), "an accepted answer has another length than n_select", where
    )


def _image(name: Any, folder: Path, where: str) -> str:
    _expect(isinstance(name, str), "an image must be a file name", where)
    path = folder / name
    _expect(path.is_file(), f"image not found: {name}", where)
    return str(path)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _expect(holds: bool, what: str, where: str) -> None:
    if not holds:
        raise DataError(what, where=where)
