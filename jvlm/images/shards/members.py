"""What stands in a tar that came from anywhere, and what must not stand there.

Nothing is extracted or decoded: only headers are read. WebDataset's grouping is kept: what stands before the first dot
of a member's file name is the sample's key, the rest the field.
"""

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, cast

MAX_MEMBER_BYTES = 64 * 2**20
PICKLES = ("pickle", "pkl", "pt", "pth", "pyd")

_NAME = re.compile(r"((?:.*/|)[^./]+)\.([^/]+)")


class Member(NamedTuple):
    """A file in a tar. `fault` says why it is refused; `offset` and `size` are those of its content, in bytes."""

    key: str
    field: str
    offset: int
    size: int
    fault: str | None = None


def members(path: Path, max_bytes: int = MAX_MEMBER_BYTES, file: BinaryIO | None = None) -> Iterator[Member]:
    """The files of a tar in order, each safe to read or with its fault; folders are passed over.

    Of `file` where it is given: the open tar, with `path` as its name.

    The last one names the tar itself, without key and field, when it is damaged from there on.
    """
    seen: set[tuple[str, str]] = set()
    closed: set[str] = set()  # keys whose members ended: webdataset would take later ones for another sample
    last = ""
    try:
        with tarfile.open(path, "r:", fileobj=file) as tar:
            length = cast(BinaryIO, tar.fileobj).seek(0, os.SEEK_END)
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header it has read
                if info.isdir():
                    continue
                key, field = _split(info.name)
                fault = _fault(info, key, max_bytes)
                if fault is None and info.offset_data + info.size > length:
                    fault = "cut short: the tar ends before its content does"
                if fault is None and (key, field) in seen:
                    fault = "the member stands twice"
                elif fault is None and key in closed:
                    fault = "the key stands twice"
                if last and key != last:
                    closed.add(last)
                    seen.clear()
                last = key
                seen.add((key, field))
                yield Member(key, field, info.offset_data, info.size, fault)
            # a broken header ends a tar for tarfile; a whole one ends with zeros
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
                yield Member("", "", 0, 0, "damaged from here on: bad header")
    except FileNotFoundError:
        yield Member("", "", 0, 0, "the shard is missing")
    except (tarfile.TarError, OSError, ValueError, EOFError, MemoryError, OverflowError) as error:
        yield Member("", "", 0, 0, f"damaged from here on: {error}")


def _split(name: str) -> tuple[str, str]:
    """Key and field of a member's name; a name without a dot is a key without a field."""
    match = _NAME.fullmatch(name)
    return (match[1], match[2].lower()) if match else (name, "")


def _fault(info: tarfile.TarInfo, key: str, max_bytes: int) -> str | None:
    if info.issym() or info.islnk():
        return "a link"
    if not info.isreg() or info.issparse():
        return "a device, a pipe or another kind that is no plain file"
    if info.name.startswith("/") or ".." in PurePosixPath(info.name).parts or "\0" in info.name:
        return "the name leads out of the folder"
    if not key.isprintable():
        return "the name is not printable text"
    if info.name.lower().rpartition(".")[2] in PICKLES:
        return "a pickle, which runs code when it is read"
    if info.size > max_bytes:
        return f"larger than {max_bytes / 2**20:g} MiB"
    return None
