"""The one way from an encoded image to pixels, used by training, evaluation, jobs, server and app alike.

Policy: the header is checked before any pixel is decoded; EXIF orientation is applied; transparency is laid on
white; only the first frame of an animation is read; a truncated file is refused; colour profiles are not applied;
nothing is flipped or cropped. Greyscale of more than 8 bits (X-ray, CT, microscopy) is windowed between its 0.5
and 99.5 percentiles, because a plain conversion turns almost all of it white; a window can be given instead.
DICOM files, known by their preamble, come through the same door (`jvlm.images.dicom` has their policy).
"""

import struct
from io import BytesIO

import numpy as np
from PIL import Image, ImageFile

from jvlm.errors import DataError
from jvlm.images.dicom import dicom_frames, dicom_size, is_dicom
from jvlm.images.source import DEFAULT_LIMITS, Limits, Source, check_size, read_source, refusals
from jvlm.images.window import Window, apply_window, check_window, percentile_window

__all__ = ["DEFAULT_LIMITS", "FORMATS", "SUFFIXES", "Limits", "image_size", "load_frames", "load_image"]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".dcm")
"""By which files of a folder are taken for images; what they are is known by their content alone."""

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


def load_image(
    source: Source, *, limits: Limits = DEFAULT_LIMITS, where: object = None, window: Window | None = None
) -> Image.Image:
    """Decode `source` to an upright RGB image of 8 bits a channel: the first frame where there are several.

    Args:
        source: encoded bytes, the path of a file, or a sample's image reference.
        limits: largest size accepted.
        where: name of the source for error messages; a path names itself.
        window: (centre, width) for greyscale of more than 8 bits, in the values of the file, and for greyscale DICOM,
            in values after rescale; or the name of a window for CT (`jvlm.images.window.CT_WINDOWS`).

    Raises:
        DataError: for anything that is not a whole image of an allowed format and size, or a window that does not
            fit the image.
        UsageError: for a window that does not exist, or DICOM without pydicom.
    """
    return _load(source, limits, where, window, first_only=True)[0]


def load_frames(
    source: Source, *, limits: Limits = DEFAULT_LIMITS, where: object = None, window: Window | None = None
) -> list[Image.Image]:
    """All frames of a DICOM file, in order; of any other image the one that `load_image` gives. As `load_image`."""
    return _load(source, limits, where, window, first_only=False)


def image_size(source: Source, *, limits: Limits = DEFAULT_LIMITS, where: object = None) -> tuple[int, int]:
    """Width and height, in pixels, of what `load_image` gives; no pixel is decoded.

    Raises what `load_image` raises, but for damage that only decoding shows.
    """
    data, where = read_source(source, limits, where)
    with refusals(where):
        if is_dicom(data):
            return dicom_size(data, limits)
        return _upright_size(*_open(data, limits))


def _load(source: Source, limits: Limits, where: object, window: Window | None, first_only: bool) -> list[Image.Image]:
    check_window(window)
    data, where = read_source(source, limits, where)
    with refusals(where):
        # another library may have allowed half images for the whole process
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        if is_dicom(data):
            return dicom_frames(data, limits, window, first_only)
        image, orientation = _open(data, limits)
        image.load()
        rgb = _to_rgb(image, window)
        return [rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb]


def _open(data: bytes, limits: Limits) -> tuple[Image.Image, int]:
    """The first frame, not yet decoded, of a size within the limits, and its orientation of 1 to 8."""
    image = Image.open(BytesIO(data), formats=FORMATS)
    check_size(*image.size, limits)
    if image.format == "TIFF":
        # this decoder turns by the EXIF tag itself, which its size already tells; it would also turn by XMP
        image.info.pop("xmp", None)
        return image, 1
    return image, _orientation(_png_exif(data) if image.format == "PNG" else image.info.get("exif"))


def _upright_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if orientation >= 5 else (width, height)


def _orientation(exif: bytes | None) -> int:
    """EXIF orientation 1 to 8; damaged EXIF data count as none, as in every viewer."""
    if not exif:
        return 1
    try:
        tags = Image.Exif()
        tags.load(exif)
        value = int(tags.get(_EXIF_ORIENTATION, 1))
    except Exception:
        return 1
    return value if value in _UPRIGHT else 1


def _png_exif(data: bytes) -> bytes | None:
    """The eXIf chunk of a PNG wherever it stands; Pillow sees one behind the pixels only after decoding them."""
    position, kind = 8, b""
    while position + 8 <= len(data) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"eXIf":
            return data[position + 8 : position + 8 + length]
        position += length + 12
    return None


def _to_rgb(image: Image.Image, window: Window | None) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return Image.fromarray(_to_grey(image, window)).convert("RGB")
    if window is not None:
        raise DataError(f"a window is for greyscale of more than 8 bits, this image is {image.mode}")
    if image.has_transparency_data:
        layer = image.convert("LA") if image.mode == "La" else image
        layer = layer.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        # the decoder takes every CMYK JPEG for Adobe's inverted kind; one without Adobe's mark is not
        inverted = 255 - np.asarray(image)
        return Image.frombytes("CMYK", image.size, inverted.tobytes()).convert("RGB")
    return image.convert("RGB")


def _to_grey(image: Image.Image, window: Window | None) -> np.ndarray:
    """[H, W] uint8 from an image of more than 8 bits."""
    values = np.asarray(image)
    if isinstance(window, str):
        raise DataError(
            f"the window '{window}' is in Hounsfield units, which only DICOM tells",
            fix="give centre and width in the values of the image",
        )
    if window is None:
        pixels = percentile_window(values)
    else:
        pixels = apply_window(values, *window, "LINEAR" if values.dtype.kind in "iu" else "LINEAR_EXACT")
    if getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        return 255 - pixels  # the decoder inverts it up to 8 bits, not above
    return pixels
