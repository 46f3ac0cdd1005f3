"""Files of an input, here or elsewhere: a path of this machine, or an address that fsspec reads."""

import os
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar, cast

from jvlm.errors import DataError, JvlmError
from jvlm.files import names_below
from jvlm.images.load import DEFAULT_LIMITS, Limits
from jvlm.images.shards import download as transport
from jvlm.images.source import read_source

T = TypeVar("T")


def files_of(source: str) -> tuple[str, list[str]]:
    """A folder and the names below it, sorted: of all its files, of those of a glob, or of one file.

    Files and folders whose names begin with a dot are passed over, links to folders followed (`names_below`). Raises
    DataError when `source` does not exist.
    """
    if transport.scheme_of(source) is not None:
        return _remote_files(source)
    path = Path(source)
    if path.is_dir():
        return source, names_below(path)
    if path.is_file():
        return str(path.parent), [path.name]
    if not has_magic(source):
        raise DataError("file or folder not found", where=source, fix="name a folder, a glob, or a file of images")
    parts = path.parts
    fixed = next(number for number, part in enumerate(parts) if has_magic(part))
    root, pattern = Path(*parts[:fixed]), parts[fixed:]
    if "**" in pattern:  # Python's own goes round and round where links lead up
        return str(root), [name for name in names_below(root) if _matches(PurePosixPath(name).parts, pattern)]
    found = glob(str(Path(*pattern)), root_dir=root)
    return str(root), _shown(name for name in found if (root / name).is_file())


def absolute(location: str) -> str:
    """An address as it is, a path from the root on: a job's other processes may have another working folder."""
    return location if transport.scheme_of(location) else os.path.abspath(location)


def join(root: str, name: str) -> str:
    """The address of a name below `root`. Raises DataError for a name that leads out of it."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "://" in name or "\0" in name:
        raise DataError(f"file name {name!r} leads out of the folder")
    return "/".join([root.rstrip("/") or "/", *parts]) if transport.scheme_of(root) else str(Path(root, *parts))


def open_file(address: str) -> BinaryIO:
    """To read from any place in it. Raises DataError."""
    if transport.scheme_of(address) is None:
        try:
            return open(address, "rb")
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=address) from None
    return cast(BinaryIO, _remote(address, lambda files, path: files.open(path, "rb")))


def reading(address: str, read: Callable[[], T]) -> T:
    """What `read` makes of a file; of one elsewhere it is called several times, should it fail. Raises DataError."""
    return read() if transport.scheme_of(address) is None else _remote(address, lambda *_: read())


def read_file(address: str, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """A whole file. Raises ImageTooLarge for one above the limits, DataError for one that is empty or not to be had."""
    if transport.scheme_of(address) is None:
        return read_source(Path(address), limits, address)[0]
    data = _remote(address, lambda files, path: files.cat_file(path, start=0, end=limits.max_bytes + 1))
    return read_source(data, limits, address)[0]


def read_range(address: str, offset: int, size: int) -> bytes:
    """A part of a file, in bytes. Raises DataError when it is not all there."""
    if transport.scheme_of(address) is None:
        with open_file(address) as file:
            file.seek(offset)
            data = file.read(size)
    else:
        data = _remote(address, lambda files, path: files.cat_file(path, start=offset, end=offset + size))
    if len(data) != size:
        raise DataError("the file is shorter than when the job was planned", where=address)
    return data


def _remote(address: str, read: Callable[[Any, str], T]) -> T:
    """Tried several times, with growing pauses: what is not there is not there, but a network may come back."""
    for attempt in range(transport.ATTEMPTS):
        if attempt:
            time.sleep(transport.FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            return read(*transport.file_system(address))
        except JvlmError:
            raise
        except FileNotFoundError:
            raise DataError("no such file", where=address) from None
        except Exception as error:  # a network fails in the ways of every library below fsspec
            fault = str(error) or type(error).__name__
    raise DataError(f"cannot be fetched: {fault} ({transport.ATTEMPTS} attempts)", where=address)


def _remote_files(source: str) -> tuple[str, list[str]]:
    def listed(files: Any, path: str) -> tuple[str, list[str]]:
        pattern = has_magic(path)
        if not pattern and (source.startswith("http") or not files.isdir(path)):
            return source.rpartition("/")[0], [path.rpartition("/")[2]]
        root = _before_magic(path) if pattern else path
        found = [name for name in files.glob(path) if files.isfile(name)] if pattern else files.find(path)
        names = [str(name)[len(root) :].lstrip("/") for name in found]
        return str(files.unstrip_protocol(root)), _shown(names)

    return _remote(source, listed)


def _before_magic(path: str) -> str:
    """`bucket/a` of `bucket/a/*/b.jpg`."""
    parts = path.split("/")
    return "/".join(parts[: next(number for number, part in enumerate(parts) if has_magic(part))])


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a name is one of a glob's; `**` stands for any number of folders, none included."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _shown(names: Any) -> list[str]:
    return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))
