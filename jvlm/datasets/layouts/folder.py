"""A folder of images with captions: `NAME.txt` beside `NAME.jpg`, or one listing of all.

Links to folders are followed, each folder once. A listing is `metadata.jsonl`, `metadata.csv` or `captions.csv` with
the columns file_name (or image) and text (or caption), as Hugging Face's imagefolder has it. Where there is one, it
alone says what belongs to the set.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jvlm.datasets.layouts.record import Item, caption_sample, image_of, parse_json, text_of
from jvlm.errors import DataError
from jvlm.files import names_below
from jvlm.images.load import SUFFIXES
from jvlm.sample import ImageRef, Sample

LISTINGS = ("metadata.jsonl", "metadata.csv", "captions.csv")


def items(source: Path, images: Path) -> Iterator[Item]:
    if not source.is_dir():
        raise DataError("not a folder", where=source, fix="name the folder that holds the images")
    listing = next((source / name for name in LISTINGS if (source / name).is_file()), None)
    if listing is not None:
        yield from _jsonl(listing) if listing.suffix == ".jsonl" else _csv(listing)
        return
    for path in sorted(source / name for name in names_below(source)):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            captioned = path.with_suffix(".txt").is_file()
            error = None if captioned else f"no caption: {path.with_suffix('.txt').name} is not beside it"
            yield Item(str(path), path.relative_to(source).as_posix(), error)


def sample(item: Item, source: Path, images: Path) -> Sample:
    if isinstance(item.content, str):
        path = source / item.content
        return caption_sample(item.content, ImageRef(path=str(path)), _caption(path.with_suffix(".txt")), {})
    number, row = item.content
    row = parse_json(row) if isinstance(row, bytes) else row
    if not isinstance(row, dict):
        raise DataError("not a JSON object")
    name = text_of(row.get("file_name") or row.get("image"), "file_name")
    caption = row.get("text") or row.get("caption")
    return caption_sample(f"{number:08d}/{name}", image_of(name, images), caption, {"file": name})


def _caption(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path.name}: not UTF-8") from None
    except OSError as error:
        raise DataError(f"{path.name}: cannot be read: {error.strerror}") from None


def _jsonl(listing: Path) -> Iterator[Item]:
    with open(listing, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield Item(f"{listing}:{number}", (number, line))


def _csv(listing: Path) -> Iterator[Item]:
    try:
        with open(listing, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = set(reader.fieldnames or [])
            if not columns & {"file_name", "image"} or not columns & {"text", "caption"}:
                fix = "the first line names the columns: file_name,text"
                raise DataError("no columns for file names and captions", where=listing, fix=fix)
            for number, row in enumerate(reader, 1):
                content: dict[str, Any] = {name: value for name, value in row.items() if name is not None}
                yield Item(f"{listing}:{reader.line_num}", (number, content))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"not a CSV file in UTF-8: {error}", where=listing) from None
