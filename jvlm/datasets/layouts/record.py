"""What the layouts share: the record, captions, and the text, tables and images that records are made of."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jvlm_data.rows import below

from jvlm.errors import DataError
from jvlm.sample import CAPTION_PROMPT, ImageRef, Message, Sample


@dataclass(frozen=True, slots=True)
class Item:
    """A record as it is listed. `where` is its file and line; `content` is the layout's own, small and picklable."""

    where: str
    content: Any = None
    error: str | None = None
    """Why it cannot be used, where that is seen at once."""


class Layout(Protocol):
    """`images` is the folder that names of image files are relative to."""

    def items(self, source: Path, images: Path) -> Iterator[Item]:
        """The records of a source, in order. Raises DataError when `source` does not have this layout."""

    def sample(self, item: Item, source: Path, images: Path) -> Sample:
        """What one record holds, its images not looked at. Raises DataError when it cannot be used."""


def caption_sample(identity: str, image: ImageRef, caption: object, meta: dict[str, Any]) -> Sample:
    """An image and what it shows."""
    messages = [Message("user", [0, CAPTION_PROMPT]), Message("assistant", [text_of(caption, "caption")])]
    return Sample(identity, messages, [image], meta=meta)


def text_of(value: object, name: str) -> str:
    """Raises DataError for what is no text, or has none."""
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"no text in {name!r}")
    return value.strip()


def image_of(value: object, images: Path) -> ImageRef:
    """An image as tables hold it: bytes, a file name, or a struct of both.

    Raises DataError for anything else, and a name that leads out of the folder.
    """
    if isinstance(value, dict):  # as `datasets` stores images
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return ImageRef(data=value)
    return ImageRef(path=str(below(images, text_of(value, "image"))))


def parse_json(data: bytes | str) -> Any:
    """Raises DataError for what is not JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise DataError("not JSON") from None


def read_document(source: Path, kind: type, what: str) -> Any:
    """A JSON file that is one list or object. Raises DataError when it is not `what`."""
    try:
        document = parse_json(source.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=source, fix=f"give {what}") from None
    except DataError as error:
        raise DataError(error.what, where=source, fix=f"give {what}") from None
    if not isinstance(document, kind):
        raise DataError(f"not {what}", where=source, fix="name another --layout")
    return document
