"""Rows of a table as samples: a column image or images, and one of text, caption or conversations."""

from pathlib import Path
from typing import Any

from jvlm.datasets.layouts.llava import conversation
from jvlm.datasets.layouts.record import caption_sample, image_of
from jvlm.errors import DataError
from jvlm.sample import Sample

_IMAGES, _TEXTS = ("image", "images"), ("conversations", "caption", "text")
COLUMNS = (*_IMAGES, *_TEXTS)


def check_columns(names: list[str], where: Path) -> None:
    """Raises DataError for a table that has no column of text, or several, or captions without images."""
    texts, pictures = [name for name in _TEXTS if name in names], [name for name in _IMAGES if name in names]
    if len(texts) == 1 and len(pictures) <= 1 and (pictures or texts == ["conversations"]):
        return
    fix = "there must be one column of image or images, and one of text, caption or conversations"
    raise DataError(f"columns are {', '.join(names)}", where=where, fix=fix)


def row_sample(row: dict[str, Any], identity: str, images: Path) -> Sample:
    """Raises DataError for a row that holds no caption of one image, and no conversation."""
    value = row.get("images", row.get("image"))
    values = value if isinstance(value, list) else [value] if value is not None else []
    references = [image_of(value, images) for value in values]
    if "conversations" in row:
        return conversation(identity, row["conversations"], references, {})
    if len(references) != 1:
        raise DataError(f"a caption of {len(references)} images")
    return caption_sample(identity, references[0], row.get("caption", row.get("text")), {})
