"""`load_image` against decoders that share no code with it: torchvision's (PNG, JPEG, GIF, WebP), and numpy."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jvlm.images.load import image_size, load_image

torch = pytest.importorskip("torch")
vision = pytest.importorskip("torchvision.io", reason="torchvision cannot be imported here")

H, W = 40, 56
EXIF_ORIENTATION = 0x0112


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _photo(seed: int = 0) -> np.ndarray:
    """[40, 56, 3] uint8: slopes, an edge and some noise, as a photograph has."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:H, 0:W]
    planes = [120 + 100 * np.sin(x / (7 + k) + y / (11 - k) + seed) for k in range(3)]
    image = np.stack(planes, 2) + rng.normal(0, 4, (H, W, 3)) - 60 * (x > y)[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def _independent(data: bytes, decode: str, **options: Any) -> np.ndarray:
    """What torchvision makes of the file: [H, W, channels]."""
    pixels = getattr(vision, decode)(torch.frombuffer(bytearray(data), dtype=torch.uint8), **options)
    while pixels.ndim > 3:  # frames of an animation
        pixels = pixels[0]
    return pixels.permute(1, 2, 0).numpy()


def _over_white(pixels: np.ndarray) -> np.ndarray:
    share = pixels[..., 3:] / 255
    return pixels[..., :3] * share + 255 * (1 - share)


def _check(data: bytes, expected: np.ndarray) -> None:
    image = load_image(data)
    pixels = np.asarray(image).astype(float)
    assert pixels.shape == expected.shape
    assert expected.std() > 20  # a flat picture would prove nothing
    assert np.abs(pixels - expected).max() <= 1.0
    assert image_size(data) == image.size


def _png(pixels: np.ndarray, colour_type: int, depth: int) -> bytes:
    """A PNG written without any library: rows of filter 0."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_sixteen_bit_grey_png(bits: int) -> None:
    values = (_photo()[..., 0].astype(np.uint16) << (bits - 8)) + np.random.default_rng(1).integers(0, 4, (H, W))
    data = _png(values, 0, 16)
    decoded = _independent(data, "decode_png")[..., 0].astype(np.float64)
    assert decoded.max() > 255  # torchvision kept all bits
    low, high = np.percentile(decoded, (0.5, 99.5))
    grey = np.clip((decoded - low) / (high - low), 0, 1) * 255
    _check(data, np.repeat(grey[..., None], 3, 2))


def test_sixteen_bit_colour_png() -> None:
    data = _png(_photo().astype(np.uint16) * 256 + _photo(1), 2, 16)
    _check(data, _independent(data, "decode_png") / 257)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "P alpha"])
def test_png(mode: str) -> None:
    colour = Image.fromarray(_photo())
    alpha = Image.fromarray(_photo(2)[..., 0])
    options: dict[str, Any] = {}
    if mode in ("RGBA", "LA"):
        image = colour.convert(mode.removesuffix("A"))
        image.putalpha(alpha)
    elif mode.startswith("P"):
        image = colour.quantize(64)
        if mode == "P alpha":
            options = {"transparency": bytes(np.random.default_rng(3).integers(0, 256, 64, np.uint8))}
    else:
        image = colour.convert(mode)
    data = _encode(image, "PNG", **options)
    if mode == "P":  # torchvision makes up an alpha for it
        _check(data, _independent(data, "decode_png", mode="RGB").astype(float))
    else:
        _check(data, _over_white(_independent(data, "decode_png", mode="RGB_ALPHA")))


@pytest.mark.parametrize(
    "options",
    [{"quality": 95, "subsampling": 0}, {"quality": 90}, {"quality": 50}, {"progressive": True}, {"optimize": True}],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg(mode: str, options: dict[str, Any]) -> None:
    data = _encode(Image.fromarray(_photo()).convert(mode), "JPEG", **options)
    _check(data, _independent(data, "decode_jpeg", mode="RGB").astype(float))


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_jpeg(adobe: bool) -> None:
    """Adobe's files store 255 - ink, others ink; ink on paper multiplies."""
    cmyk = np.dstack([_photo(), _photo(4)[..., 0]])
    data = _encode(Image.fromarray(cmyk, "CMYK"), "JPEG", quality=95)
    if not adobe:
        start = data.index(b"\xff\xee")
        data = data[:start] + data[start + 2 + struct.unpack(">H", data[start + 2 : start + 4])[0] :]
    stored = _independent(data, "decode_jpeg") / 255
    assert stored.shape[2] == 4
    light = stored if adobe else 1 - stored
    _check(data, 255 * light[..., :3] * light[..., 3:])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    data = _encode(Image.fromarray(_photo()), kind, exif=exif)
    decoded = _independent(data, f"decode_{kind.lower()}", apply_exif_orientation=True)
    assert decoded.shape[:2] == ((W, H) if orientation >= 5 else (H, W))
    _check(data, decoded.astype(float))


@pytest.mark.parametrize("frames", [1, 3])
def test_gif(frames: int) -> None:
    pictures = [Image.fromarray(_photo(k)).quantize(32) for k in range(frames)]
    data = _encode(pictures[0], "GIF", save_all=True, append_images=pictures[1:])
    _check(data, _independent(data, "decode_gif").astype(float))


@pytest.mark.parametrize("options", [{"lossless": True, "exact": True}, {"quality": 80}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp(mode: str, options: dict[str, Any]) -> None:
    image = Image.fromarray(_photo())
    if mode == "RGBA":
        image.putalpha(Image.fromarray(_photo(2)[..., 0]))
    data = _encode(image, "WEBP", **options)
    decoded = _independent(data, "decode_webp").astype(float)
    _check(data, _over_white(decoded) if decoded.shape[2] == 4 else decoded)
