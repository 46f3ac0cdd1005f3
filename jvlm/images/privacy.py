"""What an image file says beside its pixels that may tell who is on it. A check, not a proof of anonymity."""

from io import BytesIO

from PIL import ExifTags, Image

from jvlm.images.dicom import is_dicom
from jvlm.images.dicom import privacy_findings as dicom_findings
from jvlm.images.load import FORMATS
from jvlm.images.source import DEFAULT_LIMITS, Limits, Source, read_source, refusals

# what describes the picture or the camera, and no person or place
_HARMLESS = {"Orientation", "XResolution", "YResolution", "ResolutionUnit", "YCbCrPositioning", "ExifOffset"}
_HARMLESS |= {"Software"}
_PERSONAL = {"ImageDescription", "Artist", "Copyright", "DocumentName", "HostComputer", "GPSInfo", "XMLPacket"}
_TECHNICAL = {"compression"}  # of what a reader tells as text without it being a text of the file


def privacy_findings(source: Source, *, limits: Limits = DEFAULT_LIMITS, where: object = None) -> list[str]:
    """Names of what is filled in, never values: elements of DICOM (`jvlm.images.dicom.privacy_findings`), EXIF tags
    but for those of geometry, texts of a PNG, XMP and comments. Pixels are not looked at.

    Raises DataError for what is no image.
    """
    data, where = read_source(source, limits, where)
    if is_dicom(data):
        return dicom_findings(data, limits=limits, where=where)
    with refusals(where):
        image = Image.open(BytesIO(data), formats=FORMATS)
        tags = [ExifTags.TAGS.get(tag, f"tag {tag}") for tag in image.getexif()]
        # all of a TIFF is such tags
        found = [f"EXIF {t}" for t in tags if (t in _PERSONAL if image.format == "TIFF" else t not in _HARMLESS)]
        found += [
            f"{image.format} {name}"
            for name, value in image.info.items()
            if name in ("xmp", "comment") or (isinstance(value, str) and name not in _TECHNICAL)
        ]
        return list(dict.fromkeys(found))
