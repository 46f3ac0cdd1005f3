"""The pictures that a report shows: small copies beside the records of what was said of them."""

from io import BytesIO
from pathlib import Path

from jvlm import files
from jvlm.images.load import load_image
from jvlm.sample import ImageRef, Sample

SIDE = 192
"""Longest side of a picture in the report, in pixels."""


def thumbnail_name(sample_id: str) -> str:
    """File name of a sample's image in `images/`."""
    return sample_id.replace("/", "_") + ".png"


def write_thumbnail(sample: Sample, folder: Path) -> None:
    """The sample's first image as PNG in `folder`."""
    files.write_bytes(folder / thumbnail_name(sample.id), thumbnail(sample.images[0]))


def thumbnail(picture: ImageRef) -> bytes:
    """A small copy as PNG."""
    image, buffer = load_image(picture), BytesIO()
    image.thumbnail((SIDE, SIDE))
    image.save(buffer, "PNG")
    return buffer.getvalue()
