"""What an item holds: its fields, and where its images are."""

import json
import re
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from jvlm.errors import DataError
from jvlm.images.load import SUFFIXES
from jvlm.images.parquet import ParquetRows
from jvlm.images.shards.download import scheme_of
from jvlm.infer.caption.inputs import Item
from jvlm.infer.caption.places import join, open_file, read_file, read_range, reading

IMAGES = ("images", "image", "file_name")
"""Columns that name images or hold them, the first that is there counts; `images` is a list."""
_PARQUET = ParquetRows(open_file)
_NUMBERED = re.compile(r"(\d+)\.")


Place = bytes | str | tuple[str, int, int]
"""An image: its bytes, its address, or the address of a file it is a part of, with offset and size."""


class Content(NamedTuple):
    """`fields` are what a prompt can name."""

    fields: dict[str, Any]
    images: list[Place]


def content(item: Item, images: str | None = None) -> Content:
    """Read an item, its images aside.

    Args:
        item: one of those `list_items` gave.
        images: the folder that names of images in a table are relative to; None: that of the table.

    Raises:
        DataError: the row cannot be used: it is not what it was, it is no row, it has no image or one whose name leads
            out of the folder.
    """
    kind, *at = item.at
    if kind == "fault":
        raise DataError(str(at[0]))
    if kind == "file":
        return Content(_named(item.id, item.id), [at[0]])
    if kind == "tar":
        return _of_tar(item, *at)
    row = _json_row(*at) if kind == "jsonl" else _parquet_row(*at)
    return _of_row(item, row, images or str(at[0]).rpartition("/")[0] or ".")


def image_bytes(image: Place) -> bytes:
    """Raises ImageTooLarge, DataError."""
    if isinstance(image, tuple):
        return read_range(*image)
    return image if isinstance(image, bytes) else read_file(image)


def _named(identity: str, name: str) -> dict[str, Any]:
    path = PurePosixPath(name)
    return {"id": identity, "name": path.stem, "directory": "" if str(path.parent) == "." else str(path.parent)}


def _of_tar(item: Item, address: str, members: dict[str, list[int]]) -> Content:
    fields: dict[str, Any] = {}
    if "json" in members:
        record = _parsed(read_range(address, *members["json"]))
        meta = record.get("meta")
        fields = (meta if isinstance(meta, dict) else {}) | record
    pictures = sorted((field for field in members if _is_image(field)), key=_number)
    for field in members.keys() - set(pictures) - {"json"}:
        try:
            fields[field] = read_range(address, *members[field]).decode("utf-8-sig")
        except UnicodeDecodeError:
            continue  # no text, and nothing a prompt could name
    if not pictures:
        raise DataError("no image in the sample")
    fields = _named(item.id, item.id.rpartition(":")[2]) | fields | {"id": item.id}
    return Content(fields, [(address, members[field][0], members[field][1]) for field in pictures])


def _of_row(item: Item, row: dict[str, Any], root: str) -> Content:
    column = next((name for name in IMAGES if row.get(name) is not None), None)
    value = row[column] if column is not None else []
    values = value if isinstance(value, list) else [value]
    if not values:
        raise DataError(f"no image in the row: one of the columns {', '.join(IMAGES)} must have it")
    images: list[Place] = []
    name = item.id
    for value in values:
        if isinstance(value, dict):  # as `datasets` stores images
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str) and value:
            name = value if name == item.id else name
            value = join(root, value)
        if not isinstance(value, bytes | str):
            raise DataError("an image in the row is neither bytes nor a file name")
        images.append(value)
    fields = {key: value for key, value in row.items() if key not in IMAGES}
    return Content(_named(item.id, name) | fields | {"id": item.id}, images)


def _json_row(address: str, offset: int, size: int) -> dict[str, Any]:
    return _parsed(read_range(address, offset, size))


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        raise DataError("not JSON") from None
    if not isinstance(record, dict):
        raise DataError("not a JSON object")
    return record


def _parquet_row(address: str, group: int, row: int) -> dict[str, Any]:
    elsewhere = scheme_of(address) is not None
    return reading(address, lambda: _PARQUET.row(address, group, row, may_pass=elsewhere))


def _is_image(field: str) -> bool:
    return f".{field.rpartition('.')[2]}" in SUFFIXES


def _number(field: str) -> tuple[int, str]:
    """`2.jpg` before `10.jpg`."""
    match = _NUMBERED.match(field)
    return (int(match[1]) if match else -1, field)
