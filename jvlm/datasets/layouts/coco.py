"""Captions in COCO's JSON, STAIR Captions among them: ``{"images": [{"id", "file_name"}], "annotations": [{"image_id",
"caption"}]}``.

An image becomes one sample, taught by its first caption; all of its captions are kept in ``meta["captions"]``. A sample
per caption would store every picture five times over, and put the same picture several times into one batch of CLIP,
where the others' captions count as wrong answers although they are right.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jvlm.datasets.layouts.record import Item, caption_sample, image_of, read_document
from jvlm.errors import DataError
from jvlm.sample import Sample


def items(source: Path, images: Path) -> Iterator[Item]:
    document = read_document(source, dict, "captions in COCO's format")
    pictures, annotations = document.get("images"), document.get("annotations")
    if not isinstance(pictures, list) or not isinstance(annotations, list):
        raise DataError("no images or no annotations", where=source, fix="name another --layout")
    captions: dict[Any, list[str]] = {}
    for number, row in enumerate(annotations, 1):
        caption = row.get("caption") if isinstance(row, dict) else None
        if isinstance(caption, str) and caption.strip() and isinstance(row.get("image_id"), int | str):
            captions.setdefault(row["image_id"], []).append(caption.strip())
        else:
            yield Item(f"{source}:annotations:{number}", error="no image_id or no caption")
    seen: set[Any] = set()
    for number, row in enumerate(pictures, 1):
        where = f"{source}:images:{number}"
        identity = row.get("id") if isinstance(row, dict) else None
        if not isinstance(identity, int | str):
            yield Item(where, error="no id")
        elif identity in seen:
            yield Item(where, error=f"the id {identity} stands twice; the first one was kept")
        elif identity not in captions:
            yield Item(where, error="the image has no caption")
        else:
            yield Item(where, (identity, row.get("file_name"), captions[identity]))
        seen.add(identity if isinstance(identity, int | str) else None)
    for identity in captions:
        if identity not in seen:
            yield Item(f"{source}:annotations", error=f"captions of image {identity}, which is not among the images")


def sample(item: Item, source: Path, images: Path) -> Sample:
    identity, name, captions = item.content
    meta = {"image_id": identity, "file": name, "captions": captions}
    return caption_sample(f"{source.stem}-{identity}", image_of(name, images), captions[0], meta)
