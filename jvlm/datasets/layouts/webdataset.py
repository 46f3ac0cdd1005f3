"""Tars of webdataset's layout written by other programs: `KEY.jpg` beside `KEY.txt` or `KEY.json`.

The JSON may hold ``caption`` or ``text``, LLaVA's ``conversations``, or ``messages`` as in jvlm's own shards. Other
fields are passed over. A sample with a member that must not be there (a pickle, a link, a name that leads out of the
folder, …) is left out as a whole; nothing is extracted.
"""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from jvlm.datasets.layouts.llava import conversation
from jvlm.datasets.layouts.record import Item, caption_sample, parse_json
from jvlm.errors import DataError
from jvlm.files import names_below
from jvlm.images.load import SUFFIXES
from jvlm.images.shards.members import Member, members
from jvlm.sample import ImageRef, Sample

_TEXTS = ("txt", "caption", "text")


def items(source: Path, images: Path) -> Iterator[Item]:
    files = [source]
    if source.is_dir():
        files = sorted(source / name for name in names_below(source) if name.endswith(".tar"))
    if not files:
        raise DataError("no .tar file", where=source, fix="name another --layout")
    for path in files:
        for key, group in groupby(members(path), lambda member: member.key):
            yield from _items(path, key, list(group))


def _items(path: Path, key: str, group: list[Member]) -> Iterator[Item]:
    for member in group:
        if member.fault is not None:
            place = ":".join(part for part in (str(path), member.key, member.field) if part)
            yield Item(place, error=member.fault)
    fields = {member.field: (member.offset, member.size) for member in group if member.field}
    if fields and all(member.fault is None for member in group):
        yield Item(f"{path}:{key}", (str(path), key, fields))


def sample(item: Item, source: Path, images: Path) -> Sample:
    path, key, fields = item.content
    name = Path(path).relative_to(source).with_suffix("").as_posix() if source.is_dir() else Path(path).stem
    identity = f"{name}:{key}"
    pictures = [ImageRef(data=_read(path, *fields[field])) for field in sorted(fields, key=_number) if _is_image(field)]
    record = parse_json(_read(path, *fields["json"])) if "json" in fields else {}
    if not isinstance(record, dict):
        raise DataError("json: not a JSON object")
    if "conversations" in record:
        return conversation(identity, record["conversations"], pictures, {})
    if "messages" in record:
        return Sample.from_record({"meta": {}} | record | {"id": identity}, pictures)
    written = next((_text(_read(path, *fields[field])) for field in _TEXTS if field in fields), None)
    if len(pictures) != 1:
        raise DataError(f"a caption of {len(pictures)} images")
    return caption_sample(identity, pictures[0], written or record.get("caption") or record.get("text"), {})


def _is_image(field: str) -> bool:
    return f".{field.rpartition('.')[2]}" in SUFFIXES


def _number(field: str) -> tuple[int, str]:
    """`2.jpg` before `10.jpg`."""
    match = re.match(r"(\d+)\.", field)
    return (int(match[1]) if match else -1, field)


def _read(path: str, offset: int, size: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from None


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("txt: not UTF-8") from None
