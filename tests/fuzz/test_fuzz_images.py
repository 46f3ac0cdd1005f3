"""Mutated images of every allowed format, and files made to do harm: an image or a typed error, quickly."""

import importlib.util
import io
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
from hammer import hammer
from mutations import leak, mutated
from PIL import Image
from tally import times

from jvlm.errors import DataError
from jvlm.images.load import image_size, load_frames, load_image

MEMORY_MIB = 400
"""What decoding may add to the process: a picture at the limit of 50 million pixels takes 150 MiB and its copies."""


def _encoded(mode: str, kind: str, **settings: object) -> bytes:
    pixels = np.random.default_rng(len(mode) + len(kind)).integers(0, 256, (24, 31, 4), np.uint8)
    image = Image.fromarray(pixels, "RGBA").convert("RGB").convert(mode) if mode != "RGBA" else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


def _seeds() -> list[bytes]:
    deep = Image.fromarray(np.arange(24 * 31, dtype=np.uint16).reshape(24, 31) * 80)
    stream = io.BytesIO()
    deep.save(stream, "PNG")
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "green", "blue")]
    animated = io.BytesIO()
    frames[0].save(animated, "GIF", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[274] = 6
    found = [_encoded(mode, "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1")]
    found += [stream.getvalue(), animated.getvalue()]
    found += [_encoded(mode, "JPEG") for mode in ("RGB", "L", "CMYK")]
    found += [_encoded("RGB", "JPEG", exif=exif), _encoded("RGB", "JPEG", progressive=True)]
    found += [_encoded(mode, "TIFF") for mode in ("RGB", "L", "CMYK")]
    found += [_encoded("RGB", "TIFF", compression="tiff_lzw"), _encoded("RGB", "BMP"), _encoded("L", "BMP")]
    found += [_encoded("RGB", "WEBP"), _encoded("RGBA", "WEBP", lossless=True), *_dicom()]
    return found


def _dicom() -> list[bytes]:
    """Seeds that only the extra `medical` can read."""
    if importlib.util.find_spec("pydicom") is None:
        return []
    from dicom_files import dicom_file

    return [dicom_file(np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 80)]


def _png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


HOSTILE: dict[str, Callable[[], bytes]] = {
    "a bomb of pixels": lambda: _png(60_000, 60_000, zlib.compress(bytes(1000))),
    "a bomb within the sides": lambda: _png(16_000, 16_000, zlib.compress(bytes(10_000_000))),
    "a bomb in a text chunk": lambda: _png(4, 4, zlib.compress(bytes(52)))[:33]
    + struct.pack(">I", 60) + b"zTXt" + b"k\0\0" + zlib.compress(bytes(50_000_000))[:57] + b"\0\0\0\0",
    "no pixel": lambda: _png(0, 0, b""),
    "a polyglot of GIF and script": lambda: b"GIF89a/*" + b"\x00" * 20 + b"*/=1;alert(1)",
    "an archive behind a picture": lambda: _encoded("RGB", "JPEG") + b"PK\x03\x04" + bytes(100),
    "SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "PostScript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
    "PDF": lambda: b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "XPM": lambda: b'/* XPM */\nstatic char *x[] = {"1 1 1 1", "a c red", "a"};\n',
    "nothing": lambda: b"",
    "zeros": lambda: bytes(1000),
}  # fmt: skip


def test_mutated_images(tally) -> None:
    seeds = _seeds()

    def attack(number: int) -> str | None:
        data = mutated(seeds[number % len(seeds)], number)
        use = (load_image, load_frames, image_size)[number // len(seeds) % 3]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                use(data)
            except DataError as error:
                return leak(str(error))
        return None

    count = times(5_000, 100_000)
    outcome = hammer(attack, count)
    tally |= {
        "images_mutated": count,
        "image_crashes": len(outcome.crashes),
        "image_hangs": len(outcome.hangs) + len(outcome.slow),
        "image_untyped_errors": len(outcome.faults),
        "image_peak_mib": outcome.peak_mib,
    }
    assert (outcome.crashes, outcome.hangs, outcome.slow, outcome.faults) == ([], [], [], [])
    assert outcome.peak_mib < MEMORY_MIB


def test_files_made_to_do_harm(tally) -> None:
    files = [make() for make in HOSTILE.values()]

    def attack(number: int) -> str | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load_image(files[number])
            except DataError as error:
                return leak(str(error))
        name = list(HOSTILE)[number]
        return None if name == "an archive behind a picture" else f"{name} was read as an image"

    outcome = hammer(attack, len(files))
    tally["image_hostile_files"] = len(files)
    assert (outcome.crashes, outcome.hangs, outcome.slow, outcome.faults) == ([], [], [], [])
    assert outcome.peak_mib < MEMORY_MIB
