"""The one way from an encoded image to pixels, used by training, evaluation, jobs, server and app alike.

Policy: the header is checked before any pixel is decoded; EXIF orientation is applied; transparency is laid on
white; only the first frame of an animation is read; a truncated file is refused; colour profiles are not applied;
nothing is flipped or cropped. Greyscale of more than 8 bits (X-ray, CT, microscopy) is windowed between its 0.5
and 99.5 percentiles, because a plain conversion turns almost all of it white.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image, ImageFile

from jvlm.errors import DataError
from jvlm.sample import ImageRef

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
WINDOW_PERCENTILES = (0.5, 99.5)

_EXIF_ORIENTATION, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 0x0112, 262, 0
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Limits:
    """What an image may be at most; a larger one is refused before its pixels are decoded."""

    max_pixels: int = 50_000_000
    max_side: int = 16_384
    max_bytes: int = 20 * 2**20


DEFAULT_LIMITS = Limits()


def load_image(
    source: bytes | str | Path | ImageRef, *, limits: Limits = DEFAULT_LIMITS, where: object = None
) -> Image.Image:
    """Decode `source` to an upright RGB image of 8 bits a channel.

    Args:
        source: encoded bytes, the path of a file, or a sample's image reference.
        limits: largest size accepted.
        where: name of the source for error messages; a path names itself.

    Raises:
        DataError: for anything that is not a whole image of an allowed format and size.
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
        raise DataError(_too_many_bytes(limits), where=where)
    if not data:
        raise DataError("the image is empty", where=where)
    try:
        return _to_rgb(_open(data, limits))
    except DataError as error:
        raise DataError(error.what, where=where) from None
    except Exception as error:  # decoders raise anything from SyntaxError to struct.error on damaged files
        _refuse(error, where)


def _read_file(path: Path, limits: Limits, where: object) -> bytes:
    try:
        if not path.is_file():  # a pipe or a device would be read for ever
            raise DataError("no such file" if not path.exists() else "not a plain file", where=where)
        with open(path, "rb") as file:
            return file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a file name"  # ValueError: a name with a NUL
        raise DataError(f"cannot read the image: {reason}", where=where) from None


def _open(data: bytes, limits: Limits) -> Image.Image:
    """Header → limits → pixels of the first frame, still in the file's own mode."""
    # another library may have allowed half images for the whole process
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    image = Image.open(BytesIO(data), formats=FORMATS)
    width, height = image.size
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise DataError(f"the image is {width} × {height} pixels, {_allowed(limits)}")
    image.load()
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        pixels = _window(np.asarray(image))
        tags = getattr(image, "tag_v2", {})
        if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:  # the decoder inverts it up to 8 bits, not above
            pixels = 255 - pixels
        rgb = Image.fromarray(pixels).convert("RGB")
    elif image.has_transparency_data:
        layer = image.convert("LA") if image.mode == "La" else image
        layer = layer.convert("RGBA")
        rgb = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    elif image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        # the decoder takes every CMYK JPEG for Adobe's inverted kind; one without Adobe's mark is not
        inverted = 255 - np.asarray(image)
        rgb = Image.frombytes("CMYK", image.size, inverted.tobytes()).convert("RGB")
    else:
        rgb = image.convert("RGB")
    turn = _UPRIGHT.get(_orientation(image))
    return rgb.transpose(turn) if turn is not None else rgb


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; damaged EXIF data count as none, as in every viewer."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:
        return 1


def _window(values: np.ndarray) -> np.ndarray:
    """[H, W] integers or floats → uint8, linear between robust percentiles; a flat image becomes mid-grey."""
    values = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise DataError("no pixel has a finite value")
    low, high = map(float, np.percentile(finite, WINDOW_PERCENTILES))
    if high <= low:  # nearly all pixels alike, as in a mask
        low, high = float(finite.min()), float(finite.max())
    if high <= low:
        return np.full(values.shape, 128, np.uint8)
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    scaled = (np.clip(values, low, high) - low) / (high - low)
    return np.rint(scaled * 255).astype(np.uint8)


def _refuse(error: Exception, where: object) -> NoReturn:
    """Raise a DataError in our own words: a decoder's message may hold object addresses and paths."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        what = "the image has far too many pixels"
    elif isinstance(error, Image.UnidentifiedImageError):
        what = "not a readable PNG, JPEG, WebP, BMP, GIF or TIFF image"
    elif isinstance(error, MemoryError):
        what = "not enough memory to decode the image"
    elif isinstance(error, OSError) and "truncated" in str(error):
        what = "the image file is truncated"
    else:
        what = "the image is damaged or of an unsupported kind"
    raise DataError(what, where=where) from None


def _too_many_bytes(limits: Limits) -> str:
    return f"the image file is larger than {limits.max_bytes / 2**20:g} MiB"


def _allowed(limits: Limits) -> str:
    return f"allowed are {limits.max_side} a side and {limits.max_pixels / 1e6:g} million in all"
