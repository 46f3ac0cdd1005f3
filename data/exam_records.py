"""What the converters of published exams share: from printed questions to records that `jvlm.eval.items` reads.

How many options are to be marked is read from the question, never from the key: a prompt that says more than the
paper does would leak the answer's length.
"""

import hashlib
import json
import re
import shutil
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jvlm.errors import DataError
from jvlm.files import new_folder
from jvlm.images.load import load_image

LABELS = "abcdefgh"
IMAGES = "images"
REQUIRED_BLOCKS = ("B", "E")
"""必修 blocks of the physicians' exam since its 112th round."""

_COUNTS = {"二": 2, "三": 3, "四": 4, "五": 5}
_SELECT = re.compile(r"([2-9二三四五])\s*つ(?:を|だけ)?\s*選(?:べ|び|択)")
_HEAD = re.compile(r"次の文(?:を読み|により)[、,]?\s*(?:(\d+)\s*[、,〜～~-]\s*(\d+)|以下)\s*の問いに答えよ")
_ASKED = re.compile(r"どれか|どこか|何か|求めよ")


@dataclass(frozen=True)
class Case:
    """A linked case (連問): the id of its first question and the text its questions share."""

    first_id: str
    text: str


@dataclass(frozen=True)
class Entry:
    """One record and its pictures: name below the record's folder → published file."""

    record: dict[str, Any]
    pictures: dict[str, Path]


def fold(text: str) -> str:
    """NFKC (zenkaku → hankaku), lower case, without spaces around: how labels and answers are compared."""
    return unicodedata.normalize("NFKC", text).strip().lower()


def select_count(question: str) -> int:
    """How many options the question asks for (「2つ選べ」, 「２つ選べ」, 「三つ選べ」); 1 when it says nothing."""
    found = _SELECT.findall(unicodedata.normalize("NFKC", question))
    if not found:
        return 1
    return _COUNTS.get(found[-1]) or int(found[-1])


def physician_points(section: str, number: int) -> int:
    """Official points of the physicians' exam since round 112: the second half of the 必修 blocks counts 3."""
    return 3 if section in REQUIRED_BLOCKS and number > 25 else 1


def linked_cases(block: Sequence[tuple[str, int, str]]) -> dict[str, Case]:
    """Case by question id, for a block whose linked questions print their case in the first of them alone.

    Args:
        block: (id, number, text) of the block's questions.

    The first says which questions belong to the case (「40、41の問いに答えよ」, 「51〜53の問い…」). Later papers say
    「以下の問いに答えよ」: then it lasts until the next case begins, and the last one is as long as the one before,
    as the cases of a block are. Where nothing can be seen, questions stay alone.
    """
    ids = {number: question_id for question_id, number, _ in block}
    heads = [(number, text, found) for _, number, text in block if (found := _HEAD.search(text))]
    cases: dict[str, Case] = {}
    length = 0
    for i, (number, text, found) in enumerate(heads):
        if found.group(1):
            first, last = int(found.group(1)), int(found.group(2))
        else:
            length = heads[i + 1][0] - number if i + 1 < len(heads) else length
            first, last = number, number + length - 1
        shared = text[: question_start(text)]
        if first != number or last <= first or not shared.strip():
            continue
        cases |= {ids[n]: Case(ids[first], shared) for n in range(first, last + 1) if n in ids}
    return cases


def question_start(text: str) -> int:
    """Where the sentence that asks begins: after the case, before a table that may follow. 0 when none asks."""
    asked = [found.start() for found in _ASKED.finditer(text)]
    return max(text.rfind("。", 0, asked[-1]), text.rfind("\n", 0, asked[-1])) + 1 if asked else 0


def picture(path: Path) -> tuple[str, Path]:
    """(name in the record, file) of a published picture. Raises DataError when it is missing or unreadable."""
    if not path.is_file():
        raise DataError(f"image not found: {path.name}")
    load_image(path)
    return f"{IMAGES}/{path.name}", path


def finish(record: dict[str, Any], pictures: dict[str, Path], without_options: str = "numeric") -> Entry:
    """Check a record, fill what follows from the rest (answer type, hash). Raises DataError when it is unusable.

    Args:
        without_options: the answer type of a question that has none, "numeric" or "open".

    `record` holds every field of `jvlm.eval.items.ExamItem` but `answer_type` and `sha256`. The hash covers all
    other fields and the pictures' bytes.
    """
    labels = [option["label"] for option in record["options"]]
    many = "mcq_multi" if record["n_select"] > 1 else "mcq_single"
    record = record | {"answer_type": many if labels else without_options}
    _check(record, labels)
    try:
        digest = hashlib.sha256(json.dumps(record, ensure_ascii=False, sort_keys=True).encode())
    except UnicodeEncodeError:
        raise DataError("the text is not valid Unicode: it holds half a surrogate pair") from None
    for name in sorted(pictures):
        digest.update(pictures[name].read_bytes())
    return Entry(record | {"sha256": digest.hexdigest()}, pictures)


def write_exam(out: Path, entries: Sequence[Entry], faults: list[dict[str, str]], source: Path) -> dict[str, int]:
    """`out/items.jsonl`, `out/images/` and `out/errors.jsonl`, all or nothing; a repeated id is a fault.

    Raises DataError when no question is usable.
    """
    kept: dict[str, Entry] = {}
    for entry in entries:
        name = entry.record["id"]
        if name in kept:
            faults.append({"where": name, "error": "the id stands twice; the first one was kept"})
        kept.setdefault(name, entry)
    if not kept:
        first = f"{faults[0]['where']}: {faults[0]['error']}" if faults else "the files are empty"
        raise DataError("no usable question", where=source, fix=f"the first fault is: {first}")
    pictures: dict[str, Path] = {}
    for entry in kept.values():
        for name, path in entry.pictures.items():
            if pictures.setdefault(name, path) != path:
                raise DataError("two pictures have the same file name", where=path, fix="give each its own name")
    with new_folder(out) as folder:
        (folder / IMAGES).mkdir()
        for name, path in pictures.items():
            shutil.copyfile(path, folder / name)
        _write_rows(folder / "items.jsonl", [entry.record for entry in kept.values()])
        _write_rows(folder / "errors.jsonl", faults)
    return {"items": len(kept), "images": len(pictures), "errors": len(faults)}


def _check(record: dict[str, Any], labels: list[str]) -> None:
    accept, n_select = record["accept"], record["n_select"]
    if not record["stem"].strip():
        raise DataError("nothing is asked: the question has no text of its own")
    if not accept or not all(accept):
        raise DataError("the key names no answer")
    if not labels:
        numeric = record["answer_type"] == "numeric"
        if numeric and not all(re.fullmatch(r"-?\d+(\.\d+)?", number) for answer in accept for number in answer):
            raise DataError("no choices, and the answer is no number")
        return
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise DataError(f"the choices are labelled {labels}")
    for option in record["options"]:
        if not option["text"] and not option["image"]:
            raise DataError(f"choice {option['label']!r} has neither text nor picture")
    unknown = {label for answer in accept for label in answer} - set(labels)
    if unknown:
        raise DataError(f"the key accepts {sorted(unknown)}, which is no choice")
    if any(len(set(answer)) != n_select for answer in accept):
        raise DataError(f"the question asks for {n_select}, the key gives {accept}")
    if set(record["kinki"]) - set(labels) or any(set(record["kinki"]) & set(answer) for answer in accept):
        raise DataError(f"taboo options {record['kinki']} are no choices, or accepted ones")


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
