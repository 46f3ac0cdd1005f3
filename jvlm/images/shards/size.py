"""Upright size of an image from its header."""

from io import BytesIO

from PIL import Image

from jvlm.errors import DataError
from jvlm.images.load import DEFAULT_LIMITS, FORMATS

_PNG_NOTES = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap the sides


def image_size(data: bytes, *, where: object = None) -> tuple[int, int]:
    """Upright (width, height) in pixels; no pixel is decoded. Raises DataError when the header is unreadable."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            (width, height), turned = image.size, _orientation(image, data) in _TURNED
    except Exception:
        raise DataError("not a readable PNG, JPEG, WebP, BMP, GIF or TIFF image", where=where) from None
    if max(width, height) > DEFAULT_LIMITS.max_side or width * height > DEFAULT_LIMITS.max_pixels:
        raise DataError(f"the image is {width} × {height} pixels, too many", where=where)
    return (height, width) if turned else (width, height)


def _orientation(image: Image.Image, data: bytes) -> int:
    """EXIF orientation 1 to 8; damaged EXIF data count as none."""
    if image.format == "PNG" and not any(note in data for note in _PNG_NOTES):
        return 1  # Pillow would decode every pixel to look for notes behind them
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:
        return 1
