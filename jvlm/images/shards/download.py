"""One file from elsewhere into a local folder: whole, of the right hash, or not at all."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jvlm.errors import DataError, UsageError
from jvlm.files import disk_error, sha256_file

SCHEMES = ("https", "http", "s3", "file", "memory")
ATTEMPTS, FIRST_PAUSE_SECONDS = 5, 0.5  # the pause doubles after each attempt


def scheme_of(location: str) -> str | None:
    """The scheme of an address, None for a path. Raises UsageError for one that is not read, such as `pipe:`."""
    if location.startswith("pipe:"):
        raise UsageError("pipe: runs a shell command", where=location, fix="give a folder or an address")
    scheme, mark, _ = location.partition("://")
    if not mark:
        return None
    if scheme not in SCHEMES or "::" in location:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise UsageError("no kind of address that is read", where=location, fix=f"give a folder or one of {known}")
    return scheme


def download(url: str, target: Path, *, sha256: str | None = None) -> None:
    """Bring `url` to `target`, unless it is there; other processes and threads that want it wait.

    It is tried several times, with growing pauses. What comes is committed by rename when its hash is right.

    Raises:
        DataError: it does not exist, cannot be reached, or is not what its hash says.
        UsageError: a package for this kind of address is missing.
    """
    with _alone(target):
        if target.exists():
            return
        for stale in target.parent.glob(f".{target.name}.*.tmp"):  # of processes that were killed
            stale.unlink(missing_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            for attempt in range(ATTEMPTS):
                if attempt:
                    time.sleep(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
                fault = _attempt(url, temporary, sha256)
                if fault is None:
                    break
            else:
                raise DataError(f"{fault} ({ATTEMPTS} attempts)", where=url, fix="run the command again later")
            os.replace(temporary, target)
        except OSError as error:
            raise disk_error(error, target) from error
        finally:
            temporary.unlink(missing_ok=True)


def _attempt(url: str, target: Path, sha256: str | None) -> str | None:
    """What went wrong in a way that may pass; None when the file is there. Raises for what will not pass."""
    try:
        files, path = file_system(url)
        files.get_file(path, str(target))
    except UsageError:
        raise
    except FileNotFoundError:
        raise DataError("no such file", where=url, fix="check the address") from None
    except Exception as error:  # a network fails in the ways of every library below fsspec
        return f"cannot be fetched: {error or type(error).__name__}"
    if sha256 is not None and sha256_file(target) != sha256:
        return "content differs from its hash"
    return None


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path there. Raises UsageError when a package for it is missing."""
    try:
        from fsspec.core import url_to_fs

        files, path = url_to_fs(url, **_options(url))
    except ImportError as error:
        fix = "pip install 'jvlm[remote]'"
        raise UsageError(f"this kind of address needs a package: {error}", where=url, fix=fix) from None
    return files, str(path)


def _options(url: str) -> dict[str, Any]:
    """A large file may take as long as it comes; the library's own limit is five minutes in all."""
    if not url.startswith("http"):
        return {}
    from aiohttp import ClientTimeout

    return {"client_kwargs": {"timeout": ClientTimeout(total=None, sock_connect=30, sock_read=60)}}


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """One process and thread at a time brings this file."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = open(target.with_name(f".{target.name}.lock"), "wb")  # noqa: SIM115
    except OSError as error:
        raise disk_error(error, target) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
