"""What may be read as an image: its bytes, its limits, and refusals in our own words."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from jvlm.errors import DataError, JvlmError
from jvlm.sample import ImageRef

Source = bytes | str | Path | ImageRef
"""Encoded bytes, the path of a file, or a sample's image reference."""


@dataclass(frozen=True)
class Limits:
    """What an image may be at most; a larger one is refused before its pixels are decoded.

    `max_pixels` counts the pixels of all frames together.
    """

    max_pixels: int = 50_000_000
    max_side: int = 16_384
    max_bytes: int = 20 * 2**20


DEFAULT_LIMITS = Limits()


class ImageTooLarge(DataError):
    """An image above the limits, refused before its pixels are decoded."""


def read_source(source: Source, limits: Limits, where: object) -> tuple[bytes, object]:
    """The encoded bytes of `source`, and its name for error messages: a path names itself.

    Raises:
        ImageTooLarge: more bytes than the limit.
        DataError: no bytes, or no plain file.
    """
    if isinstance(source, ImageRef):
        source = source.data if source.data is not None else source.path or b""
    if isinstance(source, bytes):
        where = "image" if where is None else where
        data = source
    else:
        where = source if where is None else where
        data = _read_file(Path(source), limits, where)
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"the image file is larger than {limits.max_bytes / 2**20:g} MiB", where=where)
    if not data:
        raise DataError("the image is empty", where=where)
    return data, where


def check_size(width: int, height: int, limits: Limits, frames: int = 1) -> None:
    """Raises ImageTooLarge when an image of this size, in pixels, is above the limits."""
    if max(width, height) > limits.max_side or width * height * frames > limits.max_pixels:
        several = f"{frames} frames of " if frames > 1 else ""
        allowed = f"allowed are {limits.max_side} a side and {limits.max_pixels / 1e6:g} million in all"
        raise ImageTooLarge(f"the image is {several}{width} × {height} pixels, {allowed}")


@contextmanager
def refusals(where: object) -> Iterator[None]:
    """Turns whatever a decoder raises into a DataError that names `where`; other mistakes of users pass as they are.

    The messages are our own: a decoder's may hold object addresses, paths, or what a medical file says of its patient.
    """
    try:
        yield
    except DataError as error:
        raise type(error)(error.what, where=where, fix=error.fix) from None
    except JvlmError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageTooLarge("the image has far too many pixels", where=where) from None
    except Exception as error:  # decoders raise anything from SyntaxError to struct.error on damaged files
        raise DataError(_reason(error), where=where) from None


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a readable PNG, JPEG, WebP, BMP, GIF, TIFF or DICOM image"
    if isinstance(error, MemoryError):
        return "not enough memory to decode the image"
    if isinstance(error, OSError) and "truncated" in str(error):
        return "the image file is truncated"
    return "the image is damaged or of an unsupported kind"


def _read_file(path: Path, limits: Limits, where: object) -> bytes:
    try:
        if not path.is_file():  # a pipe or a device would be read for ever
            raise DataError("no such file" if not path.exists() else "not a plain file", where=where)
        with open(path, "rb") as file:
            return file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a file name"  # ValueError: a name with a NUL
        raise DataError(f"cannot read the image: {reason}", where=where) from None
