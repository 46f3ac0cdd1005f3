"""DICOM against numpy on the raw values and pydicom's own pipeline, for files made here."""

import copy
import io
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jvlm.errors import DataError, UsageError
from jvlm.images.dicom import privacy_findings
from jvlm.images.load import Limits, image_size, load_frames, load_image
from jvlm.images.window import CT_WINDOWS
from jvlm.sample import ImageRef

pydicom = pytest.importorskip("pydicom", reason="the medical extra is not installed: pip install 'jvlm[medical]'")

from pydicom import uid  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut  # noqa: E402

H, W = 24, 32


def _dataset(pixels: np.ndarray | bytes, syntax: str = uid.ExplicitVRLittleEndian, **elements: Any) -> Dataset:
    """[H, W] or [H, W, 3] values, several frames of them with NumberOfFrames, or encapsulated bytes → a DICOM file."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = uid.SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.4"
    dataset.Rows, dataset.Columns = H, W
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.PixelRepresentation = 0
    if isinstance(pixels, np.ndarray):
        dataset.BitsAllocated = dataset.BitsStored = pixels.itemsize * 8
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        data = pixels.astype(pixels.dtype.newbyteorder(">")) if syntax == uid.ExplicitVRBigEndian else pixels
        dataset.PixelData = data.tobytes() + b"\0" * (data.nbytes % 2)
    else:
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.PixelData = pixels
        dataset["PixelData"].is_undefined_length = True
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.HighBit = dataset.BitsStored - 1
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
    return dataset


def _bytes(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def _file(pixels: np.ndarray | bytes, syntax: str = uid.ExplicitVRLittleEndian, **elements: Any) -> bytes:
    return _bytes(_dataset(pixels, syntax, **elements))


def _check(data: bytes, expected: np.ndarray, **options: Any) -> None:
    """`expected` is [H, W] or [H, W, 3] in 0 … 255, not rounded."""
    image = load_image(data, **options)
    assert image.mode == "RGB"
    assert image_size(data) == image.size == (W, H)
    if expected.ndim == 2:
        expected = np.repeat(expected[..., None], 3, 2)
    pixels = np.asarray(image).astype(float)
    assert pixels.shape == expected.shape
    assert expected.std() > 20  # a flat picture would prove nothing
    assert np.abs(pixels - expected).max() <= 1.0


def _linear(values: np.ndarray, center: float, width: float) -> np.ndarray:
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255


def _percentiles(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values.astype(np.float64), (0.5, 99.5))
    return np.clip((values - low) / (high - low), 0, 1) * 255


def _noise(low: int, high: int, kind: type, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape or (H, W)).astype(kind)


CT = _noise(0, 2500, np.uint16)  # stored; −1024 … 1475 HU
HU = CT.astype(float) - 1024
RESCALE = {"RescaleSlope": 1, "RescaleIntercept": -1024}
TAGS = {"WindowCenter": 40, "WindowWidth": 1500}

GREY: dict[str, tuple[bytes, np.ndarray]] = {
    "window of the tags": (_file(CT, BitsStored=12, **RESCALE, **TAGS), _linear(HU, 40, 1500)),
    "implicit VR": (_file(CT, uid.ImplicitVRLittleEndian, BitsStored=12, **RESCALE, **TAGS), _linear(HU, 40, 1500)),
    "big endian": (_file(CT, uid.ExplicitVRBigEndian, BitsStored=12, **RESCALE, **TAGS), _linear(HU, 40, 1500)),
    "big endian 8 bit": (
        _file(_noise(0, 256, np.uint8), uid.ExplicitVRBigEndian),
        _noise(0, 256, np.uint8).astype(float),
    ),
    "the first of several windows": (
        _file(CT, WindowCenter=[300, -600], WindowWidth=[800, 1500], **RESCALE),
        _linear(HU, 300, 800),
    ),
    "a slope": (
        _file(CT, RescaleSlope="0.25", RescaleIntercept="-100.5", WindowCenter=200, WindowWidth=300),
        _linear(CT / 4 - 100.5, 200, 300),
    ),
    "a negative slope": (
        _file(CT, RescaleSlope=-1, RescaleIntercept=0, WindowCenter=-1000, WindowWidth=2000),
        _linear(-CT.astype(float), -1000, 2000),
    ),
    "signed": (_file(_noise(-1000, 1500, np.int16), **TAGS), _linear(_noise(-1000, 1500, np.int16), 40, 1500)),
    "monochrome 1": (
        _file(CT, PhotometricInterpretation="MONOCHROME1", BitsStored=12, **RESCALE, **TAGS),
        255 - _linear(HU, 40, 1500),
    ),
    "monochrome 1 without a window": (
        _file(CT, PhotometricInterpretation="MONOCHROME1", BitsStored=12),
        255 - _percentiles(CT),
    ),
    "linear exact": (
        _file(CT, VOILUTFunction="LINEAR_EXACT", WindowCenter=40, WindowWidth=900, **RESCALE),
        np.clip((HU - 40) / 900 + 0.5, 0, 1) * 255,
    ),
    "sigmoid": (
        _file(CT, VOILUTFunction="SIGMOID", WindowCenter=40, WindowWidth=900, **RESCALE),
        255 / (1 + np.exp(-4 * (HU - 40) / 900)),
    ),
    "no window": (_file(CT, BitsStored=12, **RESCALE), _percentiles(CT)),
    "a window that the standard forbids": (
        _file(CT, BitsStored=12, WindowCenter=40, WindowWidth=0, **RESCALE),
        _percentiles(CT),
    ),
    "32 bit": (_file(CT.astype(np.uint32) * 70_000), _percentiles(CT)),
    "8 bit": (_file(_noise(30, 200, np.uint8)), _noise(30, 200, np.uint8).astype(float)),
    "6 of 8 bit": (_file(_noise(0, 64, np.uint8), BitsStored=6), _noise(0, 64, np.uint8) / 63 * 255),
    "8 bit with a rescale": (
        _file(_noise(30, 200, np.uint8), RescaleSlope=2, RescaleIntercept=1),
        _percentiles(_noise(30, 200, np.uint8)),
    ),
    "8 bit monochrome 1": (
        _file(_noise(30, 200, np.uint8), PhotometricInterpretation="MONOCHROME1"),
        255.0 - _noise(30, 200, np.uint8),
    ),
}
BY_PYDICOM = [name for name in GREY if "without" not in name and "no window" not in name and "forbids" not in name]


@pytest.mark.parametrize("name", GREY)
def test_greyscale(name: str) -> None:
    _check(*GREY[name])


@pytest.mark.parametrize("name", [name for name in BY_PYDICOM if "bit" not in name])
def test_greyscale_by_pydicoms_own_pipeline(name: str) -> None:
    dataset = pydicom.dcmread(io.BytesIO(GREY[name][0]))
    values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    # the range that pydicom maps a window to: that of the stored bits, after the rescale
    bits, signed = dataset.BitsStored, dataset.PixelRepresentation
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1]) if signed else np.array([0, 2**bits - 1])
    ends = ends * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
    grey = (values - ends[0]) / (ends[1] - ends[0]) * 255
    _check(GREY[name][0], 255 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey)


@pytest.mark.parametrize("signed", [False, True])
def test_unused_high_bits_are_no_part_of_the_value(signed: bool) -> None:
    """12 bits in 16: old scanners drew overlays into the other four."""
    values = _noise(-2048, 2048, np.int16) if signed else _noise(0, 4096, np.int16)
    dirt = _noise(0, 16, np.uint16, seed=1) << 12
    stored = (values.view(np.uint16) & 0x0FFF) | dirt
    data = _file(stored, BitsStored=12, PixelRepresentation=int(signed), WindowCenter=500, WindowWidth=2000)
    _check(data, _linear(values, 500, 2000))


def test_one_bit_an_image() -> None:
    mask = _noise(0, 2, np.uint8)
    packed = np.packbits(mask, bitorder="little")
    dataset = _dataset(packed, BitsAllocated=1, BitsStored=1)
    _check(_bytes(dataset), mask * 255.0)


@pytest.mark.parametrize("name", CT_WINDOWS)
def test_named_window_goes_before_the_tags(name: str) -> None:
    data = _file(CT, BitsStored=12, Modality="CT", **RESCALE, **TAGS)
    _check(data, _linear(HU, *CT_WINDOWS[name]), window=name)


def test_given_window_goes_before_the_tags() -> None:
    sigmoid = _file(CT, VOILUTFunction="SIGMOID", **RESCALE, **TAGS)
    _check(sigmoid, _linear(HU, -100, 700), window=(-100, 700))
    inverted = _file(CT, PhotometricInterpretation="MONOCHROME1", **RESCALE, **TAGS)
    _check(inverted, 255 - _linear(HU, -100, 700), window=(-100, 700))
    _check(_file(_noise(0, 256, np.uint8)), _linear(_noise(0, 256, np.uint8), 100, 90), window=(100, 90))


def test_windows_that_do_not_fit() -> None:
    with pytest.raises(DataError, match=r"'lung' is in Hounsfield units, the image is not \(modality MR\)"):
        load_image(_file(CT, Modality="MR"), window="lung")
    load_image(_file(CT, Modality="OT", RescaleType="HU", **RESCALE), window="lung")
    colour = _file(_noise(0, 256, np.uint8, H, W, 3), SamplesPerPixel=3, PhotometricInterpretation="RGB",
                   PlanarConfiguration=0)  # fmt: skip
    with pytest.raises(DataError, match="a window is for greyscale, this DICOM image is in colour"):
        load_image(colour, window=(40, 80))
    with pytest.raises(DataError, match="none of LINEAR, LINEAR_EXACT and SIGMOID"):
        load_image(_file(CT, VOILUTFunction="CUBIC", **TAGS))
    with pytest.raises(UsageError, match="unknown window 'lunge'"):
        load_image(_file(CT), window="lunge")


def _table(first: int, entries: np.ndarray, bits: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"  # as the pixels are
    item.LUTData = entries.astype(np.uint16).tobytes()
    item["LUTData"].VR = "OW"
    return item


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_tables(syntax: str) -> None:
    """A modality's table, then a VOI table; values outside a table take its ends."""
    curve = (np.linspace(0, 1, 2000) ** 2 * 4095).astype(np.uint16)
    modality = curve[np.clip(CT.astype(int) - 100, 0, 1999)]
    data = _file(CT, syntax, BitsStored=12, ModalityLUTSequence=[_table(100, curve, 16)], **TAGS)
    _check(data, _linear(modality.astype(float), 40, 1500))
    steep = (np.linspace(0, 1, 3000) ** 0.5 * 1023).astype(np.uint16)
    data = _file(CT, syntax, BitsStored=12, ModalityLUTSequence=[_table(100, curve, 16)],
                 VOILUTSequence=[_table(300, steep, 10)])  # fmt: skip
    _check(data, steep[np.clip(modality.astype(int) - 300, 0, 2999)] / 1023 * 255)
    signed = _noise(-32768, 32768, np.int16)
    data = _file(signed, syntax, ModalityLUTSequence=[_table(-30000, curve, 16)], **TAGS)
    _check(data, _linear(curve[np.clip(signed.astype(int) + 30000, 0, 1999)].astype(float), 40, 1500))
    wide = CT.astype(np.uint32) * 50  # up to 125,000: beyond what an index of 16 bits can hold
    data = _file(wide, syntax, VOILUTSequence=[_table(300, steep, 10)])
    _check(data, steep[np.clip(wide.astype(int) - 300, 0, 2999)] / 1023 * 255)
    data = _file(CT, syntax, VOILUTSequence=[_table(300, steep, 10)], **TAGS)
    _check(data, _linear(CT.astype(float), 40, 1500))  # a window is preferred


RGB = _noise(0, 256, np.uint8, H, W, 3)
COLOUR = {"SamplesPerPixel": 3, "PlanarConfiguration": 0}


def _ybr(rgb: np.ndarray) -> np.ndarray:
    """PS3.3 C.7.6.3.1.2."""
    r, g, b = np.moveaxis(rgb.astype(float), 2, 0)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    cb = -0.1687 * r - 0.3313 * g + 0.5 * b + 128
    cr = 0.5 * r - 0.4187 * g - 0.0813 * b + 128
    return np.clip(np.rint(np.stack([y, cb, cr], 2)), 0, 255).astype(np.uint8)


def _rgb(ybr: np.ndarray) -> np.ndarray:
    y, cb, cr = np.moveaxis(ybr.astype(float), 2, 0)
    red, blue = y + 1.402 * (cr - 128), y + 1.772 * (cb - 128)
    green = y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128)
    return np.clip(np.stack([red, green, blue], 2), 0, 255)


@pytest.mark.parametrize("planar", [0, 1])
def test_colour(planar: int) -> None:
    def planes(pixels: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.moveaxis(pixels, 2, 0)) if planar else pixels

    given = {"SamplesPerPixel": 3, "PlanarConfiguration": planar}
    _check(_file(planes(RGB), PhotometricInterpretation="RGB", **given), RGB.astype(float))
    ybr = _ybr(RGB)
    _check(_file(planes(ybr), PhotometricInterpretation="YBR_FULL", **given), _rgb(ybr))
    wide = RGB.astype(np.uint16) * 257
    _check(_file(planes(wide), PhotometricInterpretation="RGB", **given), RGB.astype(float))


def test_colour_with_half_the_chroma() -> None:
    """YBR_FULL_422: Y Y Cb Cr for two pixels side by side."""
    ybr = _ybr(RGB)
    ybr[:, 1::2, 1:] = ybr[:, ::2, 1:]
    packed = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], 2)
    _check(_file(packed, PhotometricInterpretation="YBR_FULL_422", **COLOUR), _rgb(ybr))


@pytest.mark.parametrize("bits", [8, 16])
def test_palette(bits: int) -> None:
    indices = _noise(0, 60, np.uint8)
    entries = _noise(0, 2**bits, np.uint16 if bits == 16 else np.uint8, 3, 50, seed=1)
    tables = {}
    for name, row in zip(("Red", "Green", "Blue"), entries, strict=True):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [50, 5, bits]
        tables[f"{name}PaletteColorLookupTableData"] = row.tobytes()
    data = _file(indices, PhotometricInterpretation="PALETTE COLOR", **tables)
    shown = entries[:, np.clip(indices.astype(int) - 5, 0, 49)]
    _check(data, np.moveaxis(shown, 0, 2) / (2**bits - 1) * 255)


def test_colours_that_cannot_be_shown() -> None:
    data = _file(_noise(0, 256, np.uint8, H, W, 3), PhotometricInterpretation="HSV", **COLOUR)
    with pytest.raises(DataError, match="DICOM pixels in HSV cannot be shown"):
        load_image(data)


def test_frames_are_a_list() -> None:
    volume = _noise(0, 2500, np.uint16, 5, H, W)
    data = _file(volume, NumberOfFrames=5, BitsStored=12, **RESCALE, **TAGS)
    frames = load_frames(data)
    assert len(frames) == 5
    for frame, values in zip(frames, volume, strict=True):
        assert np.abs(np.asarray(frame)[..., 0] - _linear(values - 1024.0, 40, 1500)).max() <= 1.0
    assert load_image(data).tobytes() == frames[0].tobytes()
    assert image_size(data) == (W, H)


def _group(name: str, **elements: Any) -> Dataset:
    inner, outer = Dataset(), Dataset()
    for keyword, value in elements.items():
        setattr(inner, keyword, value)
    setattr(outer, name, [inner])
    return outer


def test_enhanced_frames_have_their_own_rescale_and_window() -> None:
    volume = _noise(0, 2500, np.uint16, 3, H, W)
    per_frame = []
    for number in range(3):
        group = _group("PixelValueTransformationSequence", RescaleSlope=number + 1, RescaleIntercept=-1000 * number)
        group.update(_group("FrameVOILUTSequence", WindowCenter=500 * number + 100, WindowWidth=2000))
        per_frame.append(group)
    data = _file(volume, NumberOfFrames=3, PerFrameFunctionalGroupsSequence=per_frame, WindowCenter=0, WindowWidth=9)
    for number, frame in enumerate(load_frames(data)):
        expected = _linear(volume[number] * (number + 1.0) - 1000 * number, 500 * number + 100, 2000)
        assert np.abs(np.asarray(frame)[..., 0] - expected).max() <= 1.0
    shared = _group("PixelValueTransformationSequence", RescaleSlope=2, RescaleIntercept=5)
    data = _file(volume, NumberOfFrames=3, SharedFunctionalGroupsSequence=[shared], WindowCenter=2000, WindowWidth=3000)
    for frame, values in zip(load_frames(data), volume, strict=True):
        assert np.abs(np.asarray(frame)[..., 0] - _linear(values * 2.0 + 5, 2000, 3000)).max() <= 1.0


EXAMPLES = (
    "CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm",
    "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "examples_overlay.dcm", "examples_palette.dcm",
    "examples_ybr_color.dcm", "examples_jpeg2k.dcm", "SC_rgb_rle_16bit_2frame.dcm", "SC_rgb_jpeg_app14_dcmd.dcm",
    "rtdose_rle.dcm",
)  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_files_of_scanners(name: str) -> None:
    """The examples that come with pydicom, shown by its own pipeline."""
    path = pydicom.data.get_testdata_file(name, download=False)
    if path is None:
        pytest.skip("this pydicom comes without its examples")
    dataset = pydicom.dcmread(path)
    frames, stored = load_frames(path), dataset.pixel_array
    assert len(frames) == int(dataset.get("NumberOfFrames") or 1)
    for frame, pixels in zip(frames, stored if len(frames) > 1 else [stored], strict=True):
        bits = dataset.BitsStored
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            shown = apply_color_lut(pixels, dataset) / 257
        elif dataset.SamplesPerPixel == 3:
            shown = pixels / (2.0**bits - 1) * 255
        else:
            values = apply_voi_lut(apply_modality_lut(pixels, dataset), dataset).astype(float)
            if dataset.get("WindowWidth"):
                low, high = (
                    (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dataset.PixelRepresentation else (0, 2**bits - 1)
                )
                slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
                shown = (values - low * slope - intercept) / ((high - low) * slope) * 255
            else:
                shown = _percentiles(values)
            shown = np.repeat(shown[..., None], 3, 2)
        assert np.abs(np.asarray(frame) - shown).max() <= 1.0


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _smooth() -> np.ndarray:
    y, x = np.mgrid[0:H, 0:W]
    return np.stack([8 * x, 255 - 10 * y, 4 * (x + y)], 2).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("subsampling", [0, 1])
def test_jpeg_baseline_colour(subsampling: int) -> None:
    torch, vision = pytest.importorskip("torch"), pytest.importorskip("torchvision.io")
    jpeg = _encoded(Image.fromarray(_smooth()), "JPEG", quality=92, subsampling=subsampling)
    data = _file(
        encapsulate([jpeg]), uid.JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422",
        SamplesPerPixel=3, PlanarConfiguration=0,
    )  # fmt: skip
    decoded = vision.decode_jpeg(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8), mode="RGB")
    _check(data, decoded.permute(1, 2, 0).numpy().astype(float))


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit])
def test_jpeg_grey_frames(syntax: str) -> None:
    torch, vision = pytest.importorskip("torch"), pytest.importorskip("torchvision.io")
    stills = [_encoded(Image.fromarray(_smooth()[..., k]), "JPEG", quality=92) for k in range(3)]
    frames = load_frames(_file(encapsulate(stills), syntax, NumberOfFrames=3))
    assert len(frames) == 3
    for frame, jpeg in zip(frames, stills, strict=True):
        decoded = vision.decode_jpeg(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8))[0].numpy()
        assert np.abs(np.asarray(frame)[..., 0].astype(int) - decoded).max() <= 1


def test_jpeg_2000_and_rle_lose_nothing() -> None:
    grey = _encoded(Image.fromarray(CT), "JPEG2000", no_jp2=True)
    data = _file(encapsulate([grey]), uid.JPEG2000Lossless, BitsAllocated=16, BitsStored=16, **RESCALE, **TAGS)
    _check(data, _linear(HU, 40, 1500))
    colour = _encoded(Image.fromarray(RGB), "JPEG2000", no_jp2=True, mct=1)
    kinds = {"PhotometricInterpretation": "YBR_RCT", **COLOUR}
    _check(_file(encapsulate([colour]), uid.JPEG2000Lossless, **kinds), RGB.astype(float))
    for pixels, elements, expected in (
        (CT, {**RESCALE, **TAGS}, _linear(HU, 40, 1500)),
        (RGB, {"PhotometricInterpretation": "RGB", **COLOUR}, RGB.astype(float)),
    ):
        dataset = _dataset(pixels, **elements)
        dataset.compress(uid.RLELossless)
        _check(_bytes(dataset), expected)


@pytest.mark.parametrize("syntax", [
    uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.HTJ2KLossless, uid.DeflatedExplicitVRLittleEndian, uid.MPEG2MPML,
])  # fmt: skip
def test_other_transfer_syntaxes_are_named(syntax: uid.UID) -> None:
    data = _file(CT).replace(uid.ExplicitVRLittleEndian.encode() + b"\0", syntax.encode() + b"\0" * (len(syntax) % 2))
    old, new = len(uid.ExplicitVRLittleEndian) + 1, len(syntax) + len(syntax) % 2
    position = data.index(b"\x02\0\x10\0UI") + 6
    assert data[position] == old
    data = data[:position] + bytes([new]) + data[position + 1 :]
    for use in (load_image, load_frames, image_size, privacy_findings):
        with pytest.raises(DataError) as caught:
            use(data)
        assert syntax.name in str(caught.value)
        assert "gdcmconv" in str(caught.value)


def test_an_unknown_transfer_syntax_is_not_quoted() -> None:
    data = _file(CT).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.6.6.6\0")
    with pytest.raises(DataError, match="the transfer syntax 'unknown'"):
        load_image(data)


def test_twelve_bit_jpeg_is_refused_with_its_name() -> None:
    jpeg = _encoded(Image.fromarray(_smooth()[..., 0]), "JPEG")
    data = _file(encapsulate([jpeg]), uid.JPEGExtended12Bit, BitsAllocated=16, BitsStored=12)
    with pytest.raises(DataError, match=r"unsupported kind \(JPEG Extended"):
        load_image(data)


def _compressed() -> dict[str, bytes]:
    rle = _dataset(CT)
    rle.compress(uid.RLELossless)
    return {
        "native": _file(CT),
        "rle": _bytes(rle),
        "jpeg": _file(encapsulate([_encoded(Image.fromarray(_smooth()[..., 0]), "JPEG")]), uid.JPEGBaseline8Bit),
        "jpeg 2000": _file(encapsulate([_encoded(Image.fromarray(CT), "JPEG2000", no_jp2=True)]), uid.JPEG2000Lossless,
                           BitsAllocated=16, BitsStored=16),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["native", "rle", "jpeg", "jpeg 2000"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.filterwarnings("ignore:End of file reached", "ignore:.*fewer frames")
def test_truncated_files_are_refused(kind: str, share: float) -> None:
    data = _compressed()[kind]
    load_image(data)
    with pytest.raises(DataError):
        load_image(data[: int(len(data) * share)])


@pytest.mark.parametrize("kind", ["rle", "jpeg", "jpeg 2000"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_truncated_frames_in_a_whole_file_are_refused(kind: str, share: float) -> None:
    dataset = pydicom.dcmread(io.BytesIO(_compressed()[kind]))
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame[: int(len(frame) * share)]])
    with pytest.raises(DataError, match="truncated, damaged or of an unsupported kind"):
        load_image(_bytes(dataset))


@pytest.mark.parametrize("kind", ["native", "rle", "jpeg", "jpeg 2000"])
@pytest.mark.filterwarnings("ignore:The end of the encapsulated")
def test_frames_that_are_promised_must_be_there(kind: str) -> None:
    dataset = pydicom.dcmread(io.BytesIO(_compressed()[kind]))
    dataset.NumberOfFrames = 2
    with pytest.raises(DataError):
        load_frames(_bytes(dataset))


@pytest.mark.parametrize("change", [
    {"Rows": 8000, "Columns": 8000}, {"Rows": 20000, "Columns": 1}, {"NumberOfFrames": 70000},
])  # fmt: skip
@pytest.mark.parametrize("kind", ["native", "rle", "jpeg", "jpeg 2000"])
def test_sizes_are_checked_before_pixels(kind: str, change: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr("jvlm.images.dicom._decode", decode)
    dataset = pydicom.dcmread(io.BytesIO(_compressed()[kind]))
    for keyword, value in change.items():
        setattr(dataset, keyword, value)
    for use in (load_image, load_frames, image_size):
        with pytest.raises(DataError, match=r"pixels, allowed are 16384 a side and 50 million in all"):
            use(_bytes(dataset))


def test_a_frame_of_another_size_than_its_header_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    large = _encoded(Image.new("L", (3000, 3000)), "JPEG")
    data = _file(encapsulate([large]), uid.JPEGBaseline8Bit)
    monkeypatch.setattr("pydicom.pixels.decoders.pillow._decode_frame", None)
    with pytest.raises(DataError, match="another size than its header says"):
        load_image(data)
    segment = b"\x81\0" * 200_000  # 25 MB of zeros
    rle = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + segment
    with pytest.raises(DataError, match="another size than its header says"):
        load_image(_file(encapsulate([rle]), uid.RLELossless))


def test_files_that_hold_no_image() -> None:
    for absent in ("PixelData", "Rows", "Columns"):
        dataset = _dataset(CT)
        del dataset[absent]
        with pytest.raises(DataError, match="holds no image"):
            load_image(_bytes(dataset))
    with pytest.raises(DataError, match="without pixels"):
        load_image(_file(CT, Rows=0))
    with pytest.raises(DataError):
        load_image(bytes(128) + b"DICM")
    with pytest.raises(DataError, match="not a readable"):
        load_image(_file(CT)[132:])  # without its preamble


def test_sources_limits_and_names(tmp_path: Path) -> None:
    path = tmp_path / "胸部.dcm"
    path.write_bytes(GREY["window of the tags"][0])
    whole = load_image(path.read_bytes()).tobytes()
    for source in (path, str(path), ImageRef(path=str(path)), ImageRef(data=path.read_bytes())):
        assert load_image(source).tobytes() == whole
    with pytest.raises(DataError, match=r"胸部\.dcm: the image is 32 × 24 pixels, allowed are"):
        load_image(path, limits=Limits(max_pixels=700))
    with pytest.raises(DataError, match=r"^a\.tar:k:0: "):
        load_image(path.read_bytes()[:600], where="a.tar:k:0")


def test_without_pydicom_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "pydicom"]:
        monkeypatch.setitem(sys.modules, name, None)
    for use in (load_image, load_frames, image_size, privacy_findings):
        with pytest.raises(UsageError, match=r"pip install 'jvlm\[medical\]'"):
            use(GREY["8 bit"][0])
    load_image(_encoded(Image.fromarray(RGB), "PNG"))


def test_pydicom_is_loaded_for_dicom_alone() -> None:
    script = (
        "import io, sys\n"
        "from PIL import Image\n"
        "from jvlm.images.load import load_image\n"
        "file = io.BytesIO()\n"
        "Image.new('RGB', (4, 4)).save(file, 'PNG')\n"
        "load_image(file.getvalue())\n"
        "assert 'pydicom' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


SECRETS = ("YAMADA^Taro", "山田", "PID-4711", "19600101", "Kita Hospital")


def _patient(**elements: Any) -> Dataset:
    request = Dataset()
    request.AccessionNumber = "A-1"
    given: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192", "PatientName": "YAMADA^Taro=山田^太郎", "PatientID": "PID-4711",
        "PatientBirthDate": "19600101", "InstitutionName": "Kita Hospital", "ReferringPhysicianName": "",
        "RequestAttributesSequence": [request],
    }  # fmt: skip
    return _dataset(CT, **(given | elements))


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_privacy_names_elements_and_never_their_values(syntax: str) -> None:
    dataset = _patient()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.private_block(0x0099, "VENDOR", create=True).add_new(1, "LO", "YAMADA^Taro")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        findings = privacy_findings(_bytes(dataset))
    assert sorted(findings) == sorted([
        "PatientName", "PatientID", "PatientBirthDate", "InstitutionName", "RequestAttributesSequence.AccessionNumber",
        "private elements", "BurnedInAnnotation is absent",
    ])  # fmt: skip
    assert not [secret for secret in SECRETS if secret in str(findings)]


def test_privacy_of_clean_and_burned_in_files() -> None:
    assert privacy_findings(_file(CT, BurnedInAnnotation="NO", PatientName="", PatientID="  ")) == []
    assert privacy_findings(_file(CT, BurnedInAnnotation="YES")) == ["BurnedInAnnotation is YES"]
    assert privacy_findings(_file(CT, BurnedInAnnotation="")) == ["BurnedInAnnotation is absent"]
    with pytest.raises(DataError, match="not a DICOM file"):
        privacy_findings(_encoded(Image.fromarray(RGB), "PNG"))


def test_damaged_files_raise_only_data_errors_that_quote_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """300 files with bytes changed, cut or inserted: an image or a DataError, and no word of the patient anywhere."""
    files = [_bytes(_patient(**TAGS)), *_compressed().values()]
    rgb = _patient()
    rgb.update(copy.deepcopy(_dataset(RGB, PhotometricInterpretation="RGB", **COLOUR)))
    files.append(_bytes(rgb))
    rng = np.random.default_rng(9)
    errors = []
    for number in range(300):
        data = bytearray(files[number % len(files)])
        for _ in range(int(rng.integers(1, 8))):
            data[int(rng.integers(132, min(len(data), 1000)))] = int(rng.integers(256))
        if rng.random() < 0.3:
            place = int(rng.integers(132, len(data)))
            data[place:place] = rng.bytes(int(rng.integers(1, 40)))
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            for use in (load_frames, privacy_findings):
                try:
                    use(bytes(data))
                except DataError as error:
                    errors.append(str(error))
        said = "\n".join([str(warning.message) for warning in warned] + errors[-2:] + caplog.messages)
        assert not [secret for secret in SECRETS if secret in said], said
    assert len(errors) > 50
    assert not [error for error in errors if "0x" in error or "<" in error]
