"""Images in a ZIP that somebody uploaded: nothing is unpacked to disk, no member is read beyond its limit."""

from io import BytesIO
from lzma import LZMAError
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError

from jvlm.errors import DataError
from jvlm.images.load import SUFFIXES
from jvlm.images.source import DEFAULT_LIMITS, Limits


def images_in_zip(
    data: bytes, most: int, *, limits: Limits = DEFAULT_LIMITS, where: object = None
) -> list[tuple[str, bytes]]:
    """Names and encoded bytes of the members that are named like images, in order of their names.

    Members are read to the limit of an image file, whatever size the archive says, so that a bomb stays small.
    Raises DataError for no ZIP, an encrypted or damaged one, and above `most` images.
    """
    try:
        with ZipFile(BytesIO(data)) as archive:
            names = sorted(m.filename for m in archive.infolist() if not m.is_dir() and _is_image(m.filename))
            if len(names) > most:
                raise DataError(f"{len(names)} images in it, at most {most} are taken", where=where)
            return [(name, _member(archive, name, limits)) for name in names]
    except (BadZipFile, ZlibError, LZMAError, RuntimeError, NotImplementedError, OSError, EOFError, ValueError):
        raise DataError("not a readable ZIP", where=where) from None


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith("__MACOSX/")


def _member(archive: ZipFile, name: str, limits: Limits) -> bytes:
    with archive.open(name) as member:
        return member.read(limits.max_bytes + 1)  # one more than allowed: `load_image` then refuses it
