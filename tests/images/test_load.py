"""Every kind of image against an expectation computed with numpy alone."""

import io
import os
import struct
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from jvlm.errors import DataError, UsageError
from jvlm.images.load import DEFAULT_LIMITS, Limits, image_size, load_frames, load_image
from jvlm.sample import ImageRef

H, W = 16, 24


def _encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _noise(*channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (H, W, *channels), np.uint8)


def _blocks() -> np.ndarray:
    """[16, 24, 3] flat 8 × 8 blocks, which JPEG keeps to within rounding."""
    colours = np.random.default_rng(1).integers(0, 256, (2, 3, 3), np.uint8)
    return colours.repeat(8, 0).repeat(8, 1)


def _grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, 2)


def _over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return rgb * share + 255 * (1 - share)


def _from_cmyk(cmyk: np.ndarray) -> np.ndarray:
    ink = cmyk / 255
    return 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])


def _windowed(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values.astype(np.float64), (0.5, 99.5))
    return _grey((np.clip(values, low, high) - low) / (high - low) * 255)


def _check(data: bytes, expected: np.ndarray) -> np.ndarray:
    image = load_image(data)
    assert image.mode == "RGB"
    pixels = np.asarray(image).astype(float)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).max() <= 1.0
    assert image_size(data) == image.size
    assert [frame.tobytes() for frame in load_frames(data)] == [image.tobytes()]
    return pixels


def _palette(alpha: bool) -> tuple[bytes, np.ndarray]:
    rng = np.random.default_rng(2)
    indices, colours = rng.integers(0, 8, (H, W), np.uint8), rng.integers(0, 256, (8, 3), np.uint8)
    image = Image.frombytes("P", (W, H), indices.tobytes())
    image.putpalette(colours.tobytes())
    alphas = rng.integers(0, 256, 8, np.uint8) if alpha else np.full(8, 255, np.uint8)
    data = _encode(image, transparency=alphas.tobytes()) if alpha else _encode(image)
    return data, _over_white(colours[indices], alphas[indices])


RGB, GREY, ALPHA = _noise(3), _noise(seed=3), _noise(seed=4)
BITS = _noise(seed=5) > 127
TWELVE_BIT = np.random.default_rng(6).integers(0, 4096, (H, W)).astype(np.uint16)
COLOUR_KEY = np.where(BITS[..., None], np.array([1, 2, 3], np.uint8), RGB)

GOLDEN: dict[str, tuple[bytes, np.ndarray]] = {
    "png rgb": (_encode(Image.fromarray(RGB)), RGB),
    "png grey": (_encode(Image.fromarray(GREY)), _grey(GREY)),
    "png 1 bit": (_encode(Image.fromarray(BITS)), _grey(BITS * 255)),
    "png rgba": (_encode(Image.fromarray(np.dstack([RGB, ALPHA]))), _over_white(RGB, ALPHA)),
    "png grey alpha": (_encode(Image.fromarray(np.dstack([GREY, ALPHA]), "LA")), _over_white(_grey(GREY), ALPHA)),
    "png palette": _palette(alpha=False),
    "png palette alpha": _palette(alpha=True),
    "png colour key": (
        _encode(Image.fromarray(COLOUR_KEY), transparency=(1, 2, 3)),
        np.where(BITS[..., None], 255, RGB),
    ),
    "png transparent black": (_encode(Image.new("RGBA", (W, H), (0, 0, 0, 0))), np.full((H, W, 3), 255)),
    "png 12 of 16 bit": (_encode(Image.fromarray(TWELVE_BIT)), _windowed(TWELVE_BIT)),
    "png 16 bit": (_encode(Image.fromarray(TWELVE_BIT * 16)), _windowed(TWELVE_BIT)),
    "tiff 16 bit": (_encode(Image.fromarray(TWELVE_BIT), "TIFF"), _windowed(TWELVE_BIT)),
    "tiff 16 bit white is zero": (
        _encode(Image.fromarray(TWELVE_BIT), "TIFF", tiffinfo={262: 0}),
        255 - _windowed(TWELVE_BIT),
    ),
    "tiff 32 bit": (
        _encode(Image.fromarray(TWELVE_BIT.astype(np.int32) + 2_000_000_000), "TIFF"),
        _windowed(TWELVE_BIT),
    ),
    "tiff negative": (_encode(Image.fromarray(TWELVE_BIT.astype(np.int32) - 1024), "TIFF"), _windowed(TWELVE_BIT)),
    "tiff float": (_encode(Image.fromarray((TWELVE_BIT / 4096).astype(np.float32)), "TIFF"), _windowed(TWELVE_BIT)),
    "tiff cmyk": (_encode(Image.fromarray(_noise(4), "CMYK"), "TIFF"), _from_cmyk(_noise(4))),
    "tiff rgba lzw": (
        _encode(Image.fromarray(np.dstack([RGB, ALPHA])), "TIFF", compression="tiff_lzw"),
        _over_white(RGB, ALPHA),
    ),
    "bmp": (_encode(Image.fromarray(RGB), "BMP"), RGB),
    "webp": (_encode(Image.fromarray(RGB), "WEBP", lossless=True), RGB),
    "webp alpha": (
        _encode(Image.fromarray(np.dstack([RGB, ALPHA])), "WEBP", lossless=True, exact=True),
        _over_white(RGB, ALPHA),
    ),
    "gif": (_encode(Image.fromarray(GREY), "GIF"), _grey(GREY)),
    "jpeg": (_encode(Image.fromarray(_blocks()), "JPEG", quality=100, subsampling=0), _blocks()),
    "jpeg grey": (
        _encode(Image.fromarray(_blocks()[..., 0]), "JPEG", quality=100),
        _grey(_blocks()[..., 0]),
    ),
    "gif animation": (
        _encode(Image.fromarray(GREY), "GIF", save_all=True, append_images=[Image.fromarray(255 - GREY)]),
        _grey(GREY),
    ),
    "webp animation": (
        _encode(Image.fromarray(RGB), "WEBP", save_all=True, append_images=[Image.fromarray(255 - RGB)], lossless=True),
        RGB,
    ),
    "png animation": (
        _encode(Image.fromarray(RGB), save_all=True, append_images=[Image.fromarray(255 - RGB)]),
        RGB,
    ),
    "tiff pages": (
        _encode(Image.fromarray(RGB), "TIFF", save_all=True, append_images=[Image.fromarray(255 - RGB)]),
        RGB,
    ),
    "jpeg of a camera with two pictures": (
        _encode(Image.fromarray(_blocks()), "MPO", save_all=True, append_images=[Image.new("RGB", (W, H))], quality=100,
                subsampling=0),
        _blocks(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    _check(*GOLDEN[name])


def _cmyk_blocks() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (2, 3, 4), np.uint8).repeat(8, 0).repeat(8, 1)


def test_cmyk_jpeg_of_adobe_is_stored_inverted_and_a_plain_one_is_not() -> None:
    cmyk = _cmyk_blocks()
    adobe = _encode(Image.fromarray(cmyk, "CMYK"), "JPEG", quality=100, subsampling=0)
    start = adobe.index(b"\xff\xeeAdobe"[:2])
    length = struct.unpack(">H", adobe[start + 2 : start + 4])[0]
    assert adobe[start + 4 : start + 9] == b"Adobe"
    _check(adobe, _from_cmyk(cmyk))
    _check(adobe[:start] + adobe[start + 2 + length :], _from_cmyk(255 - cmyk))


def test_sixteen_bit_is_not_saturated() -> None:
    """Pillow's own conversion turns 12-bit values almost wholly white; ours uses the whole range evenly."""
    pixels = _check(*GOLDEN["png 12 of 16 bit"])
    assert (pixels == 255).mean() < 0.02
    assert (pixels == 0).mean() < 0.02
    assert abs(pixels.mean() - 127.5) < 10


def test_one_hot_pixel_does_not_set_the_window() -> None:
    values = TWELVE_BIT.copy()
    values[0, 0] = 65535
    pixels = np.asarray(load_image(_encode(Image.fromarray(values))))
    assert pixels.std() > 60


@pytest.mark.parametrize("value", [0, 700, 65535])
def test_flat_sixteen_bit_image_is_mid_grey(value: int) -> None:
    data = _encode(Image.fromarray(np.full((H, W), value, np.uint16)))
    assert set(np.asarray(load_image(data)).ravel()) == {128}


def test_sparse_mask_keeps_its_few_pixels() -> None:
    values = np.zeros((H, W), np.uint16)
    values[3, 4] = 1000
    pixels = np.asarray(load_image(_encode(Image.fromarray(values))))[..., 0]
    assert pixels[3, 4] == 255
    assert pixels.sum() == 255


def test_float_with_nan_and_infinity() -> None:
    values = (TWELVE_BIT / 4096).astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = np.asarray(load_image(_encode(Image.fromarray(values), "TIFF")))[..., 0]
        assert pixels[0, :3].tolist() == [0, 255, 0]
        with pytest.raises(DataError, match="no pixel has a finite value"):
            load_image(_encode(Image.fromarray(np.full((H, W), np.nan, np.float32)), "TIFF"))


def test_given_window() -> None:
    """Centre and width in the values of the file; integers by PS3.3 C.11.2.1.2, floats from edge to edge."""
    values = TWELVE_BIT.astype(np.int32) - 1024
    expected = _grey(np.clip((values - 39.5) / 399 + 0.5, 0, 1) * 255)
    for kind, shift in (("PNG", 1024), ("TIFF", 1024), ("TIFF", 0)):
        stored = values + shift
        image = Image.fromarray(stored.astype(np.uint16) if shift else stored)
        pixels = np.asarray(load_image(_encode(image, kind), window=(40 + shift, 400))).astype(float)
        assert np.abs(pixels - expected).max() <= 1.0
    exact = _grey(np.clip((values / 1000 - 0.04) / 0.4 + 0.5, 0, 1) * 255)
    data = _encode(Image.fromarray((values / 1000).astype(np.float32)), "TIFF")
    assert np.abs(np.asarray(load_image(data, window=(0.04, 0.4))) - exact).max() <= 1.0
    data = _encode(Image.fromarray(TWELVE_BIT), "TIFF", tiffinfo={262: 0})  # white is zero
    pixels = np.asarray(load_image(data, window=(1064, 400))).astype(float)
    assert np.abs(pixels - (255 - expected)).max() <= 1.0


def test_window_that_does_not_fit() -> None:
    for name in ("png rgb", "png grey", "png palette", "jpeg"):
        with pytest.raises(DataError, match="a window is for greyscale of more than 8 bits, this image is"):
            load_image(GOLDEN[name][0], window=(100, 50))
    with pytest.raises(DataError, match=r"'lung' is in Hounsfield units.*give centre and width"):
        load_image(GOLDEN["png 16 bit"][0], window="lung")
    with pytest.raises(DataError, match="at least 1 wide"):
        load_image(GOLDEN["png 16 bit"][0], window=(100, 0.5))
    for window in ("lunge", (100, 0), (float("nan"), 1)):
        with pytest.raises(UsageError):
            load_frames(GOLDEN["png 16 bit"][0], window=window)


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF 2.32, tag 0x0112: where row 0 and column 0 stand
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF LZW"])
def test_exif_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    if kind == "TIFF LZW":
        options = {"compression": "tiff_lzw"}
    stored = Image.fromarray(_blocks())
    _check(_encode(stored, kind.split()[0], exif=exif, **options), UPRIGHT[orientation](_blocks()))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_meaningless_orientation_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    _check(_encode(Image.fromarray(RGB), exif=exif), RGB)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def test_exif_behind_the_pixels_of_a_png() -> None:
    """Pillow shows it only once all pixels are decoded; the size must know of it before."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = _encode(Image.fromarray(RGB))
    late = data[:-12] + _chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + data[-12:]
    assert image_size(late) == (H, W)
    _check(late, UPRIGHT[6](RGB))
    behind_the_end = data + _chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    _check(behind_the_end, RGB)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF LZW"])
def test_an_orientation_in_xmp_is_not_exif(kind: str) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    options: dict[str, Any] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    if kind.startswith("TIFF"):
        options = {"tiffinfo": {700: xmp}, "compression": "tiff_lzw" if kind == "TIFF LZW" else None}
    elif kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        options = {"pnginfo": text}
    else:
        options["xmp"] = xmp
    _check(_encode(Image.fromarray(_blocks()), kind.split()[0], **options), _blocks())


def test_damaged_exif_does_not_refuse_the_image() -> None:
    broken = b"Exif\0\0II*\0\xff\xff\xff\xff"
    data = _encode(Image.fromarray(_blocks()), "JPEG", quality=100, subsampling=0, exif=broken)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _check(data, _blocks())


def _png_header(width: int, height: int) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(bytes(10**6))) + _chunk(b"IEND", b"")


def _other_headers(width: int, height: int) -> dict[str, bytes]:
    """Headers of the other formats that promise this size, written by hand."""
    return {
        "gif": b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0,\0\0\0\0"
        + struct.pack("<HHB", width, height, 0) + b"\x08\0;",
        "bmp": b"BM" + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6),
        "jpeg": b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width)
        + b"\3\1\x11\0\2\x11\0\3\x11\0\xff\xda\0\x0c\3\1\0\2\0\3\0\0\x3f\0",
        "webp": b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8L" + struct.pack("<I", 18)
        + b"\x2f" + struct.pack("<I", (width - 1) % 2**14 | (height - 1) % 2**14 << 14) + bytes(13),
        "tiff": b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 7) + b"".join(
            struct.pack("<HHII", tag, 4, 1, value)
            for tag, value in ((256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (279, 8))
        ) + bytes(4),
    }  # fmt: skip


@pytest.mark.parametrize("kind", _other_headers(1, 1))
def test_every_formats_size_is_checked_before_its_pixels(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """16,000 × 16,000 is under the limit of a side and above that of pixels; no decoder may start."""

    def decode(*_: object, **__: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    for use in (load_image, image_size):
        with pytest.raises(DataError, match=r"16000 × 16000 pixels|far too many pixels"):
            use(_other_headers(16000, 16000)[kind])


def test_size_alone_decodes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object, **__: object) -> None:
        raise AssertionError("pixels were decoded")

    sizes = {name: load_image(data).size for name, (data, _) in GOLDEN.items()}
    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    assert {name: image_size(data) for name, (data, _) in GOLDEN.items()} == sizes


@pytest.mark.parametrize(
    ("size", "fault"),
    [
        ((7072, 7072), "7072 × 7072 pixels, allowed are"),
        ((16385, 1), "16385 × 1 pixels"),
        ((60000, 60000), "far too many pixels"),
        ((2**31 - 1, 2**31 - 1), "image"),
    ],
)
def test_bomb_is_refused_by_its_header(size: tuple[int, int], fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object, **__: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    start = time.perf_counter()
    for use in (load_image, image_size):
        with pytest.raises(DataError, match=fault):
            use(_png_header(*size))
    assert time.perf_counter() - start < 1.0


def test_bomb_is_refused_when_pillows_own_guard_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(DataError, match="60000 × 60000 pixels"):
        load_image(_png_header(60000, 60000))


def test_file_size_is_limited_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "big.png"
    with open(path, "wb") as file:
        file.truncate(10**12)  # sparse: reading it whole would not end
    with pytest.raises(DataError, match=r"big\.png: the image file is larger than 20 MiB"):
        load_image(path)
    with pytest.raises(DataError, match="larger than"):
        load_image(GOLDEN["png rgb"][0], limits=Limits(max_bytes=100))
    limits = DEFAULT_LIMITS
    assert (limits.max_pixels, limits.max_side, limits.max_bytes) == (50_000_000, 16_384, 20 * 2**20)


@pytest.mark.parametrize("name", ["png rgb", "jpeg", "webp", "bmp", "gif", "tiff 16 bit", "tiff rgba lzw"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_truncated_is_refused(name: str, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as other libraries do for the whole process
    data = GOLDEN[name][0]
    with pytest.raises(DataError):
        load_image(data[: int(len(data) * share)])


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff", b"not an image", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_other_bytes_are_refused(data: bytes) -> None:
    for use in (load_image, load_frames, image_size):
        with pytest.raises(DataError, match=r"^image: "):
            use(data)


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "PDF", "JPEG2000", "PCX"])
def test_other_formats_are_refused(kind: str) -> None:
    try:
        data = _encode(Image.fromarray(RGB), kind)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow writes no {kind}")
    for use in (load_image, image_size):
        with pytest.raises(DataError, match="not a readable PNG, JPEG, WebP, BMP, GIF, TIFF or DICOM"):
            use(data)


def test_sources_and_their_names(tmp_path: Path) -> None:
    path = tmp_path / "絵.png"
    path.write_bytes(GOLDEN["png rgb"][0])
    for source in (path, str(path), ImageRef(path=str(path)), ImageRef(data=path.read_bytes())):
        assert np.array_equal(np.asarray(load_image(source)), RGB)
    path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"絵\.png: not a readable"):
        load_image(ImageRef(path=str(path)))
    with pytest.raises(DataError, match=r"^a\.tar:k:0: not a readable"):
        load_image(b"x", where="a.tar:k:0")
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    refused = (("no.png", "no such file"), ("", "not a plain file"), ("pipe", "not a plain file"))
    for use in (load_image, load_frames, image_size):
        for name, fault in refused:
            with pytest.raises(DataError, match=fault):
                use(tmp_path / name)
    with pytest.raises(DataError):
        load_image("a\0b")
    with pytest.raises(DataError, match="the image is empty"):
        load_image(ImageRef())


def test_mutated_files_raise_only_data_errors() -> None:
    """300 files with random bytes changed, cut or inserted: an image or a DataError without internals."""
    rng = np.random.default_rng(8)
    names = sorted(GOLDEN)
    messages = []
    for number in range(300):
        data = bytearray(GOLDEN[names[number % len(names)]][0])
        for _ in range(int(rng.integers(1, 8))):
            data[int(rng.integers(len(data) if rng.random() < 0.5 else min(len(data), 64)))] = int(rng.integers(256))
        if rng.random() < 0.2:
            place = int(rng.integers(len(data)))
            data[place:place] = rng.bytes(int(rng.integers(1, 40)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert load_image(bytes(data)).mode == "RGB"
            except DataError as error:
                messages.append(str(error))
    assert len(messages) > 50
    assert not [message for message in messages if "0x" in message or "<" in message]
