"""DICOM files → RGB frames of 8 bits, and a report of what in them names a patient. Needs pydicom (extra `medical`).

Greyscale goes the way of PS3.3 C.11: stored values → rescale slope and intercept, or the modality's table → window →
inverted where MONOCHROME1. The window is the first there is of: the one asked for; the file's first WindowCenter and
WindowWidth, by its VOI LUT function; the file's VOI table; none at all for 8 bits without rescale; the percentiles of
the frame, as for any other greyscale. Colour (RGB, YBR, palettes) is taken as it is. Rescale and window of an enhanced
multi-frame file are looked up per frame. Overlays are not drawn, padding is not hidden, nothing is flipped.
"""

from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from jvlm.errors import DataError, UsageError
from jvlm.images.source import DEFAULT_LIMITS, Limits, Source, check_size, read_source, refusals
from jvlm.images.window import CT_WINDOWS, Window, apply_window, percentile_window, to_uint8, valid_window

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

# transfer syntax → the decoder of pydicom's that reads it, named so that other installed decoders change no pixel
_DECODERS = {
    "1.2.840.10008.1.2": "",  # implicit VR little endian
    "1.2.840.10008.1.2.1": "",  # explicit VR little endian
    "1.2.840.10008.1.2.2": "",  # explicit VR big endian
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG baseline
    "1.2.840.10008.1.2.4.51": "pillow",  # JPEG extended: 8 bits alone
    "1.2.840.10008.1.2.4.90": "pillow",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91": "pillow",  # JPEG 2000
    "1.2.840.10008.1.2.5": "pydicom",  # RLE
}
_PREAMBLE, _PIXELS = 128, 0x7FE00008  # the first tag of pixel data of any kind

# all that is read for pixels: no value of another element is ever looked at
_PIXEL_TAGS = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation", "PixelData", "Modality"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue")),
    *(f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
)

# elements of PS3.15 table E.1-1 that name a person, a place or a record, as opposed to dates of studies, ages, settings
_IDENTIFYING = {
    "PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName",
    "PatientBirthDate", "PatientBirthTime", "PatientMotherBirthName", "PatientAddress", "PatientTelephoneNumbers",
    "PatientTelecomInformation", "MedicalRecordLocator", "MilitaryRank", "BranchOfService", "CountryOfResidence",
    "RegionOfResidence", "Occupation", "PatientReligiousPreference", "ResponsiblePerson", "ResponsibleOrganization",
    "PatientComments", "AdditionalPatientHistory", "AccessionNumber", "StudyID", "AdmissionID", "InstitutionName",
    "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "DeviceSerialNumber", "ReferringPhysicianName",
    "ReferringPhysicianAddress", "ReferringPhysicianTelephoneNumbers", "ConsultingPhysicianName",
    "PerformingPhysicianName", "NameOfPhysiciansReadingStudy", "PhysiciansOfRecord", "OperatorsName",
    "RequestingPhysician", "RequestingService", "ScheduledPerformingPhysicianName", "PersonName", "PersonAddress",
    "PersonTelephoneNumbers", "CurrentPatientLocation", "PatientInstitutionResidence",
}  # fmt: skip


def is_dicom(data: bytes) -> bool:
    """Whether the bytes have the preamble of a DICOM file (PS3.10 7.1)."""
    return data[_PREAMBLE : _PREAMBLE + 4] == b"DICM"


def dicom_size(data: bytes, limits: Limits) -> tuple[int, int]:
    """Width and height of the frames, from the header alone. Raises as `dicom_frames`, but for damaged pixel data."""
    return _open(data, limits)[0]


def dicom_frames(data: bytes, limits: Limits, window: Window | None, first_only: bool) -> list[Image.Image]:
    """The frames of a file, or the first one alone, in RGB.

    Raises:
        DataError: no image, above the limits, a kind that cannot be decoded, or a window that does not fit it; other
            exceptions may come from damaged files.
        UsageError: pydicom is not installed.
    """
    (width, height), count, dataset, syntax = _open(data, limits)
    wanted = 1 if first_only else count
    images: list[Image.Image] = []
    try:
        for stored, properties in islice(_decode(dataset, syntax, (width, height), count), wanted):
            images.append(_render(stored, properties, dataset, len(images), window))
    except DataError:
        raise
    except Exception:
        images = []
    if len(images) < wanted:
        raise DataError(f"the pixel data are truncated, damaged or of an unsupported kind ({syntax.name})")
    return images


def privacy_findings(source: Source, *, limits: Limits = DEFAULT_LIMITS, where: object = None) -> list[str]:
    """What in a DICOM file may tell who the patient is: names of elements that are filled in, never their values.

    Elements inside sequences are named with the sequence (`RequestAttributesSequence.AccessionNumber`); all private
    elements together are `private elements`. Pixels are not looked at: `BurnedInAnnotation is YES` and
    `BurnedInAnnotation is absent` say what the file tells about text in them. An empty list is no proof of anonymity.

    Raises:
        DataError: no DICOM file, or one that `load_image` refuses by its header.
        UsageError: pydicom is not installed.
    """
    data, where = read_source(source, limits, where)
    with refusals(where):
        if not is_dicom(data):
            raise DataError("not a DICOM file")
        dataset, _ = _parse(data, None)
        burned_in = str(dataset.get("BurnedInAnnotation") or "absent").upper()
        findings = list(dict.fromkeys(_filled_in(dataset, "")))
        if burned_in != "NO":
            findings.append(f"BurnedInAnnotation is {'YES' if burned_in == 'YES' else 'absent'}")
        return findings


def _parse(data: bytes, keywords: tuple[str, ...] | None) -> tuple["Dataset", "UID"]:
    """The elements named, or all but the pixels, and the transfer syntax.

    Not `dcmread`, which would inflate a deflated file to any size.
    """
    try:
        from pydicom.filereader import read_dataset
        from pydicom.tag import Tag
        from pydicom.uid import UID
    except ImportError:
        raise UsageError("reading DICOM needs pydicom", fix="pip install 'jvlm[medical]'") from None
    file = BytesIO(data)
    file.seek(_PREAMBLE + 4)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    syntax = UID(str(meta.get("TransferSyntaxUID") or ""))
    if syntax not in _DECODERS:
        named = syntax.name if syntax.type == "Transfer Syntax" else "unknown"
        raise DataError(
            f"DICOM with the transfer syntax '{named}' cannot be decoded",
            fix="convert the file to Explicit VR Little Endian, with gdcmconv --raw or dcmdjpeg",
        )
    encoding = (syntax.is_implicit_VR, syntax.is_little_endian)
    if keywords is None:
        return read_dataset(file, *encoding, stop_when=lambda tag, vr, length: tag >= _PIXELS), syntax
    return read_dataset(file, *encoding, specific_tags=[Tag(keyword) for keyword in keywords]), syntax


def _open(data: bytes, limits: Limits) -> tuple[tuple[int, int], int, "Dataset", "UID"]:
    """(width, height), number of frames, elements and transfer syntax of a file within the limits."""
    dataset, syntax = _parse(data, _PIXEL_TAGS)
    if not all(keyword in dataset for keyword in ("Rows", "Columns", "PixelData")):
        raise DataError("the DICOM file holds no image, or is truncated")
    width, height, frames = int(dataset.Columns), int(dataset.Rows), int(dataset.get("NumberOfFrames") or 1)
    if min(width, height, frames) < 1:
        raise DataError("the DICOM header gives an image without pixels")
    check_size(width, height, limits, frames)
    return (width, height), frames, dataset, syntax


def _decode(
    dataset: "Dataset", syntax: "UID", size: tuple[int, int], frames: int
) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Frames one after another: stored values [H, W] or RGB [H, W, 3], and what they are."""
    from pydicom.encaps import encapsulate, generate_frames
    from pydicom.pixels import as_pixel_options, get_decoder

    decoder = get_decoder(syntax)
    if not syntax.is_encapsulated:
        yield from decoder.iter_array(dataset, allow_excess_frames=False)
        return
    # frame by frame: over all of them, the decoder would search the file from its start for each, or give read-only
    # arrays that it then fails to correct the sign of
    plugin, options = _DECODERS[syntax], as_pixel_options(dataset, number_of_frames=1)
    for encoded in generate_frames(dataset.PixelData, number_of_frames=frames):
        _check_frame(encoded, dataset, syntax, size)
        yield decoder.as_array(encapsulate([encoded], has_bot=False), index=0, decoding_plugin=plugin, **options)


def _check_frame(encoded: bytes, dataset: "Dataset", syntax: "UID", size: tuple[int, int]) -> None:
    """A compressed frame must be of the size that the header promised, before memory is given to it."""
    if syntax.name.startswith("RLE"):
        segments = int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) // 8
        # two bytes for one is the worst that an encoder can do
        fits = len(encoded) <= 64 + segments * 2 * (size[0] * size[1] + 1)
    else:
        with Image.open(BytesIO(encoded), formats=("JPEG", "JPEG2000")) as frame:
            fits = frame.size == size
    if not fits:
        raise DataError("the DICOM file is damaged: its pixel data have another size than its header says")


def _render(
    stored: np.ndarray, properties: dict[str, Any], dataset: "Dataset", frame: int, window: Window | None
) -> Image.Image:
    """One frame as it is shown: [H, W] stored values or [H, W, 3] samples → RGB."""
    kind = str(properties["photometric_interpretation"])
    if kind in ("MONOCHROME1", "MONOCHROME2"):
        grey = _grey(stored, int(properties["bits_stored"]), dataset, frame, window)
        return Image.fromarray(255 - grey if kind == "MONOCHROME1" else grey).convert("RGB")
    if window is not None:
        raise DataError("a window is for greyscale, this DICOM image is in colour")
    if kind == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        stored, bits = apply_color_lut(stored, dataset), int(dataset.RedPaletteColorLookupTableDescriptor[2])
    elif kind == "RGB":
        bits = int(properties["bits_stored"])
    else:
        raise DataError(f"DICOM pixels in {kind} cannot be shown", fix="convert the file to RGB")
    pixels = stored if stored.dtype == np.uint8 and bits == 8 else to_uint8(stored / (2.0**bits - 1))
    return Image.fromarray(np.ascontiguousarray(pixels[..., :3]))


def _grey(stored: np.ndarray, bits: int, dataset: "Dataset", frame: int, window: Window | None) -> np.ndarray:
    """Stored values [H, W] → uint8, before MONOCHROME1 is inverted."""
    from pydicom.pixels import apply_voi

    scopes = _scopes(dataset, frame)
    values = _rescale(stored, scopes)
    if isinstance(window, str):
        _check_hounsfield(window, scopes)
        window = CT_WINDOWS[window]
    if window is not None:
        return apply_window(values, *window)
    for scope in scopes:
        center, width = _number(scope, "WindowCenter"), _number(scope, "WindowWidth")
        function = str(scope.get("VOILUTFunction") or "LINEAR").upper()
        if center is not None and width is not None and valid_window(center, width, function):
            return apply_window(values, center, width, function)
    if dataset.get("VOILUTSequence"):
        _, first, table_bits = dataset.VOILUTSequence[0].LUTDescriptor
        indices = np.clip(np.rint(values), first, first + 2**16 - 1).astype(np.int32)
        return to_uint8(apply_voi(indices, dataset) / (2.0**table_bits - 1))
    if values is stored and stored.dtype.kind == "u" and bits <= 8:
        return to_uint8(stored / (2.0**bits - 1))
    return percentile_window(values)


def _rescale(stored: np.ndarray, scopes: list["Dataset"]) -> np.ndarray:
    """Stored values in the unit of the modality; the very same array where the file has none."""
    from pydicom.pixels import apply_modality_lut

    if scopes[-1].get("ModalityLUTSequence"):
        return apply_modality_lut(stored.astype(np.int32), scopes[-1])  # 16 bits would overflow in it
    for scope in scopes:
        slope, intercept = _number(scope, "RescaleSlope"), _number(scope, "RescaleIntercept")
        if slope is not None:
            return stored if (slope, intercept or 0.0) == (1.0, 0.0) else stored * slope + (intercept or 0.0)
    return stored


def _scopes(dataset: "Dataset", frame: int) -> list["Dataset"]:
    """Where the rescale and window of a frame may stand (PS3.3 C.7.6.16): nearest first, the whole file last."""
    scopes = []
    for keyword, number in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        groups = dataset.get(keyword) or []
        if number < len(groups):
            for group in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                scopes += list(groups[number].get(group) or [])[:1]
    return [*scopes, dataset]


def _number(scope: "Dataset", keyword: str) -> float | None:
    """A number of the header, the first where there are several; None where it is absent or empty."""
    value = scope.get(keyword)
    if value is not None and not isinstance(value, str | int | float):
        value = value[0] if len(value) else None
    return None if value is None or value == "" else float(value)


def _check_hounsfield(window: str, scopes: list["Dataset"]) -> None:
    units = {str(scope.get("RescaleType") or "").upper() for scope in scopes}
    modality = str(scopes[-1].get("Modality") or "CT")
    if "HU" not in units and modality != "CT":
        raise DataError(f"the window '{window}' is in Hounsfield units, the image is not (modality {modality})")


def _filled_in(dataset: "Dataset", prefix: str) -> Iterator[str]:
    """Names of elements that are not empty; values are looked at raw, so that no warning can quote them."""
    from pydicom.datadict import dictionary_VR, keyword_for_tag

    for tag in dataset.keys():  # noqa: SIM118  # iterating over the dataset itself gives its values
        keyword, element = keyword_for_tag(tag), dataset.get_item(tag)
        if tag.is_private:
            if element.value:
                yield "private elements"
        elif keyword and dictionary_VR(tag) == "SQ":
            for item in dataset[tag].value or ():
                yield from _filled_in(item, f"{prefix}{keyword}.")
        elif keyword in _IDENTIFYING:
            value = element.value
            if value.strip(b" \0") if isinstance(value, bytes) else value:
                yield prefix + keyword
