"""How anything reaches the disk: temporary name → sync → hash → rename, one writer at a time.

A reader therefore sees a whole file or none. Ledgers are append-only JSON lines whose last line may be torn
by a kill; reading drops that line and appending repairs it.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from jvlm.errors import DataError, JvlmError

MANIFEST = "hashes.json"


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Fill a file aside and commit it by rename. When the body raises, `path` is untouched and nothing is left."""
    path = Path(path)
    # with the machine's name: on a shared disk another machine's process may have this number
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> str:
    """Commit `data` to `path` atomically; returns its sha256. Nothing half-written is ever left under `path`."""
    with new_file(path) as file:
        file.write(data)
    return sha256_bytes(data)


def write_text(path: Path, text: str) -> str:
    return write_bytes(path, text.encode())


def write_json(path: Path, value: Any, indent: int | None = 1) -> str:
    return write_text(path, json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=False) + "\n")


def read_json(path: Path) -> Any:
    """Parsed JSON. Raises DataError naming the file when it is missing or not JSON."""
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise DataError("file not found", where=path) from None
    except (ValueError, OSError) as error:
        raise DataError(f"not readable as JSON: {error}", where=path) from None


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder aside and commit it by rename, with `hashes.json` written last; replaces an older one.

    Yields the temporary folder. When the body raises, the temporary folder is removed and `path` is untouched.
    """
    path = Path(path)
    temporary, old = path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if old.exists() and not path.exists():  # a kill came between the two renames below
            os.rename(old, path)
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        names = sorted(str(p.relative_to(temporary)) for p in temporary.rglob("*") if p.is_file())
        hashes = {}
        for name in names:
            _sync_file(temporary / name)
            hashes[name] = {"sha256": sha256_file(temporary / name), "bytes": (temporary / name).stat().st_size}
        write_json(temporary / MANIFEST, hashes)
        if path.exists() and any(path.iterdir()) and not (path / MANIFEST).exists():
            raise JvlmError("the folder holds files not written by jvlm", where=path, fix="name another folder")
        if path.exists():
            os.rename(path, old)
        os.rename(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        if old.exists() and not path.exists():
            with suppress(OSError):  # else it stays aside, to be put back by the next one who writes here
                os.rename(old, path)
        else:
            shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a committed folder; under its own name it is whole or absent, however this ends."""
    aside = path.with_name(f".{path.name}.tmp")
    try:
        os.rename(path, aside)
    except OSError as error:
        raise disk_error(error, path) from error
    shutil.rmtree(aside, ignore_errors=True)


def repeat_folder(source: Path, target: Path, leave_out: tuple[str, ...] = ()) -> None:
    """A committed folder once more as `target`, without the files whose names begin with one of `leave_out`.

    Files are linked, not copied, where the file system can.
    """
    with new_folder(target) as new:
        for file in source.iterdir():
            if not file.name.startswith((MANIFEST, *leave_out)):
                try:
                    os.link(file, new / file.name)
                except OSError:
                    shutil.copyfile(file, new / file.name)


def verify_folder(path: Path) -> None:
    """Check a committed folder against its `hashes.json`. Raises DataError naming the first file that differs."""
    path = Path(path)
    manifest = read_json(path / MANIFEST)
    try:
        expected = [(path / name, entry["bytes"], entry["sha256"]) for name, entry in manifest.items()]
    except (AttributeError, KeyError, TypeError, ValueError):  # ValueError: a name that no file can have
        raise DataError("not a list of hashes", where=path / MANIFEST, fix="restore or rebuild it") from None
    for file, size, digest in expected:
        if not file.is_file():
            raise DataError("file is missing", where=file)
        if file.stat().st_size != size or sha256_file(file) != digest:
            raise DataError("content differs from the hash written with it", where=file, fix="restore or rebuild it")


def append_json_line(path: Path, record: dict[str, Any]) -> None:
    """Append one record to a ledger; a torn last line left by a kill is cut off first."""
    path = Path(path)
    line = json.dumps(record, ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            _cut_torn_line(file)
            file.write(line.encode())
            file.flush()
    except OSError as error:
        raise disk_error(error, path) from error


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole record of a ledger; an empty list when the file is missing, a torn last line is dropped.

    Raises DataError with the line number for a broken line that is not the last.
    """
    if not Path(path).exists():
        return []
    lines = Path(path).read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is torn or empty
        try:
            records.append(json.loads(line))
        except ValueError:
            raise DataError("not a JSON line", where=f"{path}:{number}") from None
    return records


def names_below(folder: Path) -> list[str]:
    """The names of all files below a folder, with slashes, sorted; what begins with a dot is passed over.

    Links to folders are followed, and every folder is read once: under its own name where it has one here, else under
    that of the first link to it. A link that leads up again leads nowhere. Raises DataError for a folder that cannot be
    read.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"the folder cannot be read: {error.strerror}", where=error.filename) from None

    root = os.fspath(folder)
    seen = {_place(str(above)) for above in Path(root).resolve().parents}
    names: list[str] = []
    todo = [root]  # grows by the links that are met, so that what is no link comes first
    for start in todo:
        for here, folders, files in os.walk(start, onerror=refuse):
            place = _place(here)
            folders[:] = [] if place in seen else sorted(name for name in folders if not name.startswith("."))
            if place not in seen:
                seen.add(place)
                prefix = "" if here == root else os.path.relpath(here, root) + "/"
                names += [prefix + name for name in files if not name.startswith(".")]
                todo += [link for name in folders if os.path.islink(link := os.path.join(here, name))]
    return sorted(names)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for one process. The lock dies with the process, however it dies.

    Raises JvlmError when another process holds it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JvlmError("in use by another process", where=folder, fix="wait for it or stop it") from None
        yield


def _place(folder: str) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _cut_torn_line(file: Any) -> None:
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)


def _sync_file(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_error(error: Exception, path: Path) -> JvlmError:
    """What to tell the user when `path` could not be written."""
    return JvlmError(
        f"cannot write: {getattr(error, 'strerror', None) or error}",
        where=path,
        fix="free disk space or check permissions; the previous state is kept",
    )
