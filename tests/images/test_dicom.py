"""DICOM against numpy on the raw values and pydicom's own pipeline, for files made here."""

import io
from typing import Any

import numpy as np
import pytest
from dicom_files import (
    COLOUR,
    CT,
    RESCALE,
    RGB,
    TAGS,
    H,
    W,
    dicom_bytes,
    dicom_dataset,
    dicom_file,
    encoded,
    noise,
    pydicom,
    smooth,
)
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

from jvlm.errors import DataError, UsageError
from jvlm.images.load import image_size, load_frames, load_image
from jvlm.images.window import CT_WINDOWS


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


HU = CT.astype(float) - 1024

GREY: dict[str, tuple[bytes, np.ndarray]] = {
    "window of the tags": (dicom_file(CT, BitsStored=12, **RESCALE, **TAGS), _linear(HU, 40, 1500)),
    "implicit VR": (
        dicom_file(CT, uid.ImplicitVRLittleEndian, BitsStored=12, **RESCALE, **TAGS),
        _linear(HU, 40, 1500),
    ),
    "big endian": (dicom_file(CT, uid.ExplicitVRBigEndian, BitsStored=12, **RESCALE, **TAGS), _linear(HU, 40, 1500)),
    "big endian 8 bit": (
        dicom_file(noise(0, 256, np.uint8), uid.ExplicitVRBigEndian),
        noise(0, 256, np.uint8).astype(float),
    ),
    "the first of several windows": (
        dicom_file(CT, WindowCenter=[300, -600], WindowWidth=[800, 1500], **RESCALE),
        _linear(HU, 300, 800),
    ),
    "a slope": (
        dicom_file(CT, RescaleSlope="0.25", RescaleIntercept="-100.5", WindowCenter=200, WindowWidth=300),
        _linear(CT / 4 - 100.5, 200, 300),
    ),
    "a negative slope": (
        dicom_file(CT, RescaleSlope=-1, RescaleIntercept=0, WindowCenter=-1000, WindowWidth=2000),
        _linear(-CT.astype(float), -1000, 2000),
    ),
    "signed": (dicom_file(noise(-1000, 1500, np.int16), **TAGS), _linear(noise(-1000, 1500, np.int16), 40, 1500)),
    "monochrome 1": (
        dicom_file(CT, PhotometricInterpretation="MONOCHROME1", BitsStored=12, **RESCALE, **TAGS),
        255 - _linear(HU, 40, 1500),
    ),
    "monochrome 1 without a window": (
        dicom_file(CT, PhotometricInterpretation="MONOCHROME1", BitsStored=12),
        255 - _percentiles(CT),
    ),
    "linear exact": (
        dicom_file(CT, VOILUTFunction="LINEAR_EXACT", WindowCenter=40, WindowWidth=900, **RESCALE),
        np.clip((HU - 40) / 900 + 0.5, 0, 1) * 255,
    ),
    "sigmoid": (
        dicom_file(CT, VOILUTFunction="SIGMOID", WindowCenter=40, WindowWidth=900, **RESCALE),
        255 / (1 + np.exp(-4 * (HU - 40) / 900)),
    ),
    "no window": (dicom_file(CT, BitsStored=12, **RESCALE), _percentiles(CT)),
    "a window that the standard forbids": (
        dicom_file(CT, BitsStored=12, WindowCenter=40, WindowWidth=0, **RESCALE),
        _percentiles(CT),
    ),
    "32 bit": (dicom_file(CT.astype(np.uint32) * 70_000), _percentiles(CT)),
    "8 bit": (dicom_file(noise(30, 200, np.uint8)), noise(30, 200, np.uint8).astype(float)),
    "6 of 8 bit": (dicom_file(noise(0, 64, np.uint8), BitsStored=6), noise(0, 64, np.uint8) / 63 * 255),
    "8 bit with a rescale": (
        dicom_file(noise(30, 200, np.uint8), RescaleSlope=2, RescaleIntercept=1),
        _percentiles(noise(30, 200, np.uint8)),
    ),
    "8 bit monochrome 1": (
        dicom_file(noise(30, 200, np.uint8), PhotometricInterpretation="MONOCHROME1"),
        255.0 - noise(30, 200, np.uint8),
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
    values = noise(-2048, 2048, np.int16) if signed else noise(0, 4096, np.int16)
    dirt = noise(0, 16, np.uint16, seed=1) << 12
    stored = (values.view(np.uint16) & 0x0FFF) | dirt
    data = dicom_file(stored, BitsStored=12, PixelRepresentation=int(signed), WindowCenter=500, WindowWidth=2000)
    _check(data, _linear(values, 500, 2000))


def test_one_bit_an_image() -> None:
    mask = noise(0, 2, np.uint8)
    packed = np.packbits(mask, bitorder="little")
    dataset = dicom_dataset(packed, BitsAllocated=1, BitsStored=1)
    _check(dicom_bytes(dataset), mask * 255.0)


@pytest.mark.parametrize("name", CT_WINDOWS)
def test_named_window_goes_before_the_tags(name: str) -> None:
    data = dicom_file(CT, BitsStored=12, Modality="CT", **RESCALE, **TAGS)
    _check(data, _linear(HU, *CT_WINDOWS[name]), window=name)


def test_given_window_goes_before_the_tags() -> None:
    sigmoid = dicom_file(CT, VOILUTFunction="SIGMOID", **RESCALE, **TAGS)
    _check(sigmoid, _linear(HU, -100, 700), window=(-100, 700))
    inverted = dicom_file(CT, PhotometricInterpretation="MONOCHROME1", **RESCALE, **TAGS)
    _check(inverted, 255 - _linear(HU, -100, 700), window=(-100, 700))
    _check(dicom_file(noise(0, 256, np.uint8)), _linear(noise(0, 256, np.uint8), 100, 90), window=(100, 90))


def test_windows_that_do_not_fit() -> None:
    with pytest.raises(DataError, match=r"'lung' is in Hounsfield units, the image is not \(modality MR\)"):
        load_image(dicom_file(CT, Modality="MR"), window="lung")
    load_image(dicom_file(CT, Modality="OT", RescaleType="HU", **RESCALE), window="lung")
    colour = dicom_file(noise(0, 256, np.uint8, H, W, 3), SamplesPerPixel=3, PhotometricInterpretation="RGB",
                   PlanarConfiguration=0)  # fmt: skip
    with pytest.raises(DataError, match="a window is for greyscale, this DICOM image is in colour"):
        load_image(colour, window=(40, 80))
    with pytest.raises(DataError, match="none of LINEAR, LINEAR_EXACT and SIGMOID"):
        load_image(dicom_file(CT, VOILUTFunction="CUBIC", **TAGS))
    with pytest.raises(UsageError, match="unknown window 'lunge'"):
        load_image(dicom_file(CT), window="lunge")


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
    data = dicom_file(CT, syntax, BitsStored=12, ModalityLUTSequence=[_table(100, curve, 16)], **TAGS)
    _check(data, _linear(modality.astype(float), 40, 1500))
    steep = (np.linspace(0, 1, 3000) ** 0.5 * 1023).astype(np.uint16)
    data = dicom_file(CT, syntax, BitsStored=12, ModalityLUTSequence=[_table(100, curve, 16)],
                 VOILUTSequence=[_table(300, steep, 10)])  # fmt: skip
    _check(data, steep[np.clip(modality.astype(int) - 300, 0, 2999)] / 1023 * 255)
    signed = noise(-32768, 32768, np.int16)
    data = dicom_file(signed, syntax, ModalityLUTSequence=[_table(-30000, curve, 16)], **TAGS)
    _check(data, _linear(curve[np.clip(signed.astype(int) + 30000, 0, 1999)].astype(float), 40, 1500))
    wide = CT.astype(np.uint32) * 50  # up to 125,000: beyond what an index of 16 bits can hold
    data = dicom_file(wide, syntax, VOILUTSequence=[_table(300, steep, 10)])
    _check(data, steep[np.clip(wide.astype(int) - 300, 0, 2999)] / 1023 * 255)
    data = dicom_file(CT, syntax, VOILUTSequence=[_table(300, steep, 10)], **TAGS)
    _check(data, _linear(CT.astype(float), 40, 1500))  # a window is preferred


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
    _check(dicom_file(planes(RGB), PhotometricInterpretation="RGB", **given), RGB.astype(float))
    ybr = _ybr(RGB)
    _check(dicom_file(planes(ybr), PhotometricInterpretation="YBR_FULL", **given), _rgb(ybr))
    wide = RGB.astype(np.uint16) * 257
    _check(dicom_file(planes(wide), PhotometricInterpretation="RGB", **given), RGB.astype(float))


def test_colour_with_half_the_chroma() -> None:
    """YBR_FULL_422: Y Y Cb Cr for two pixels side by side."""
    ybr = _ybr(RGB)
    ybr[:, 1::2, 1:] = ybr[:, ::2, 1:]
    packed = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], 2)
    _check(dicom_file(packed, PhotometricInterpretation="YBR_FULL_422", **COLOUR), _rgb(ybr))


@pytest.mark.parametrize("bits", [8, 16])
def test_palette(bits: int) -> None:
    indices = noise(0, 60, np.uint8)
    entries = noise(0, 2**bits, np.uint16 if bits == 16 else np.uint8, 3, 50, seed=1)
    tables = {}
    for name, row in zip(("Red", "Green", "Blue"), entries, strict=True):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [50, 5, bits]
        tables[f"{name}PaletteColorLookupTableData"] = row.tobytes()
    data = dicom_file(indices, PhotometricInterpretation="PALETTE COLOR", **tables)
    shown = entries[:, np.clip(indices.astype(int) - 5, 0, 49)]
    _check(data, np.moveaxis(shown, 0, 2) / (2**bits - 1) * 255)


def test_colours_that_cannot_be_shown() -> None:
    data = dicom_file(noise(0, 256, np.uint8, H, W, 3), PhotometricInterpretation="HSV", **COLOUR)
    with pytest.raises(DataError, match="DICOM pixels in HSV cannot be shown"):
        load_image(data)


def test_frames_are_a_list() -> None:
    volume = noise(0, 2500, np.uint16, 5, H, W)
    data = dicom_file(volume, NumberOfFrames=5, BitsStored=12, **RESCALE, **TAGS)
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
    volume = noise(0, 2500, np.uint16, 3, H, W)
    per_frame = []
    for number in range(3):
        group = _group("PixelValueTransformationSequence", RescaleSlope=number + 1, RescaleIntercept=-1000 * number)
        group.update(_group("FrameVOILUTSequence", WindowCenter=500 * number + 100, WindowWidth=2000))
        per_frame.append(group)
    window = {"WindowCenter": 0, "WindowWidth": 9}
    data = dicom_file(volume, NumberOfFrames=3, PerFrameFunctionalGroupsSequence=per_frame, **window)
    for number, frame in enumerate(load_frames(data)):
        expected = _linear(volume[number] * (number + 1.0) - 1000 * number, 500 * number + 100, 2000)
        assert np.abs(np.asarray(frame)[..., 0] - expected).max() <= 1.0
    shared = _group("PixelValueTransformationSequence", RescaleSlope=2, RescaleIntercept=5)
    window = {"WindowCenter": 2000, "WindowWidth": 3000}
    data = dicom_file(volume, NumberOfFrames=3, SharedFunctionalGroupsSequence=[shared], **window)
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


@pytest.mark.parametrize("subsampling", [0, 1])
def test_jpeg_baseline_colour(subsampling: int) -> None:
    torch, vision = pytest.importorskip("torch"), pytest.importorskip("torchvision.io")
    jpeg = encoded(Image.fromarray(smooth()), "JPEG", quality=92, subsampling=subsampling)
    data = dicom_file(
        encapsulate([jpeg]), uid.JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422",
        SamplesPerPixel=3, PlanarConfiguration=0,
    )  # fmt: skip
    decoded = vision.decode_jpeg(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8), mode="RGB")
    _check(data, decoded.permute(1, 2, 0).numpy().astype(float))


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit])
def test_jpeg_grey_frames(syntax: str) -> None:
    torch, vision = pytest.importorskip("torch"), pytest.importorskip("torchvision.io")
    stills = [encoded(Image.fromarray(smooth()[..., k]), "JPEG", quality=92) for k in range(3)]
    frames = load_frames(dicom_file(encapsulate(stills), syntax, NumberOfFrames=3))
    assert len(frames) == 3
    for frame, jpeg in zip(frames, stills, strict=True):
        decoded = vision.decode_jpeg(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8))[0].numpy()
        assert np.abs(np.asarray(frame)[..., 0].astype(int) - decoded).max() <= 1


def test_jpeg_2000_and_rle_lose_nothing() -> None:
    grey = encoded(Image.fromarray(CT), "JPEG2000", no_jp2=True)
    data = dicom_file(encapsulate([grey]), uid.JPEG2000Lossless, BitsAllocated=16, BitsStored=16, **RESCALE, **TAGS)
    _check(data, _linear(HU, 40, 1500))
    colour = encoded(Image.fromarray(RGB), "JPEG2000", no_jp2=True, mct=1)
    kinds = {"PhotometricInterpretation": "YBR_RCT", **COLOUR}
    _check(dicom_file(encapsulate([colour]), uid.JPEG2000Lossless, **kinds), RGB.astype(float))
    for pixels, elements, expected in (
        (CT, {**RESCALE, **TAGS}, _linear(HU, 40, 1500)),
        (RGB, {"PhotometricInterpretation": "RGB", **COLOUR}, RGB.astype(float)),
    ):
        dataset = dicom_dataset(pixels, **elements)
        dataset.compress(uid.RLELossless)
        _check(dicom_bytes(dataset), expected)
