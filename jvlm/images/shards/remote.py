"""Shards that are elsewhere: a shard is brought whole into a bounded local cache when it is first needed.

The card, the index and the records are fetched first, so lengths are known and rows are planned before any shard is.
Samples should be read in the order of `jvlm.train.streaming`, which stays within a few shards at a time; told that
order (`will_read`), one thread brings the next shards beforehand.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from jvlm.errors import DataError, JvlmError
from jvlm.files import new_file, sha256_bytes, sha256_file
from jvlm.images.shards.download import download, scheme_of
from jvlm.images.shards.format import CARD, INDEX, RECORDS, read_card
from jvlm.images.shards.reader import ShardReader, _Descriptor

BUFFER = 8192
"""Samples that are shuffled among each other."""
CACHE_GIB = 64.0
_RECORD_LINES, _RECORDS_OPEN = "records.jsonl", -1


def open_shards(
    location: str | Path, *, buffer: int = BUFFER, cache: Path | None = None, cache_bytes: int | None = None
) -> ShardReader:
    """A reader of a local folder, or of an `https://`, `s3://`, `memory://` or `file://` address of one.

    Args:
        location: the folder that holds `dataset.json`.
        buffer: samples that are shuffled among each other when a set is streamed; local ones are read at random.
        cache: folder of fetched shards; ``$JVLM_SHARD_CACHE``, else ``~/.cache/jvlm/shards``.
        cache_bytes: what the shards in it, of all sets, may take: those used longest ago go first;
            ``$JVLM_SHARD_CACHE_GIB`` × 2³⁰, else 64 GiB.

    Raises:
        DataError: a file is missing, cannot be fetched, or is not what its hash says.
        UsageError: an address of another kind, or one that needs a package that is missing.
    """
    if scheme_of(str(location)) is None:
        return ShardReader(Path(location))
    if cache is None:
        cache = Path(os.environ.get("JVLM_SHARD_CACHE") or Path.home() / ".cache" / "jvlm" / "shards")
    if cache_bytes is None:
        cache_bytes = int(float(os.environ.get("JVLM_SHARD_CACHE_GIB") or CACHE_GIB) * 2**30)
    return _StreamedReader(str(location).rstrip("/"), buffer, cache, cache_bytes)


class _StreamedReader(ShardReader):
    """Its `folder` is a folder of the cache, of this address and this version of the set."""

    def __init__(self, url: str, buffer: int, cache: Path, cache_bytes: int) -> None:
        super().__init__(_prepare(url, cache))
        self.location, self.buffer = url, buffer
        self.fingerprint += f"/buffer={buffer}"  # the order of samples depends on it
        self._record_sizes = self._index.ranges[self._index.start[:-1], 1]
        self._record_ends = np.cumsum(self._record_sizes + 1)  # a newline after each
        if (self.folder / _RECORD_LINES).stat().st_size != self._record_ends[-1]:
            raise DataError(f"{RECORDS} does not fit {INDEX}", where=url, fix="build the set again")
        ahead = 1 + -(-buffer * len(self.files) // max(len(self), 1))  # those of a buffer, and one
        self._cache = _ShardCache(url, self.folder, self.card["shards"], cache, cache_bytes, ahead)

    def record_bytes(self, i: int) -> bytes:
        if not 0 <= i < len(self.ids):
            raise IndexError(i)
        descriptor = self._open.get(_RECORDS_OPEN)
        if descriptor is None:
            descriptor = self._open[_RECORDS_OPEN] = _Descriptor(self.folder / _RECORD_LINES)
        size = int(self._record_sizes[i])
        return os.pread(descriptor.number, size, int(self._record_ends[i]) - size - 1)

    def will_read(self, order: NDArray[np.int64]) -> None:
        coming: list[int] = []
        for begin in range(0, len(order), len(self)):  # a pass over the set
            shards, first = np.unique(self.shard_numbers[order[begin : begin + len(self)]], return_index=True)
            coming += shards[np.argsort(first)].tolist()
        self._cache.expect(coming)

    def _descriptor(self, shard: int) -> _Descriptor:
        while True:  # another process may make room between our look and our opening
            path = self._cache.bring(shard)
            try:
                return _Descriptor(path)  # not kept: an open file keeps its space when it is deleted
            except FileNotFoundError:
                continue


def _prepare(url: str, cache: Path) -> Path:
    """A folder of the cache with card, index and records of the set at `url`."""
    base = cache / sha256_bytes(url.encode())[:16]
    fresh = base / f".card.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    try:
        download(f"{url}/{CARD}", fresh)
        card = read_card(fresh)
        folder = base / sha256_file(fresh)[:16] / (url.rpartition("/")[2].strip(".") or "set")
        folder.mkdir(parents=True, exist_ok=True)
        os.replace(fresh, folder / CARD)
    finally:
        fresh.unlink(missing_ok=True)
        fresh.with_name(f".{fresh.name}.lock").unlink(missing_ok=True)
    for file, digest in ((INDEX, "index_sha256"), (RECORDS, "records_sha256")):
        download(f"{url}/{file}", folder / file, sha256=str(card[digest]))
    if not (folder / _RECORD_LINES).exists():
        try:
            with new_file(folder / _RECORD_LINES) as out, open(folder / RECORDS, "rb") as packed:
                zstandard.ZstdDecompressor().copy_stream(packed, out)
        except zstandard.ZstdError as error:
            raise DataError(f"cannot be unpacked: {error}", where=f"{url}/{RECORDS}", fix="build it again") from None
    return folder


class _ShardCache:
    """The fetched shards of a set, in a cache that several sets and processes share."""

    def __init__(
        self, url: str, folder: Path, shards: list[dict[str, Any]], cache: Path, cache_bytes: int, ahead: int
    ) -> None:
        self.url, self.folder, self.shards, self.cache, self.cache_bytes = url, folder, shards, cache, cache_bytes
        largest = max(int(shard["bytes"]) for shard in shards)
        self.ahead = min(ahead, cache_bytes // largest // 2)  # what is fetched must not drive out what is read
        self._coming: list[int] = []
        self._at = 0
        self._last = -1
        self._wanted: SimpleQueue[int] | None = None  # of the thread that fetches beforehand
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_wanted": None, "_last": -1}

    def expect(self, shards: list[int]) -> None:
        """The order in which shards will be needed for the first time, in each pass over the set."""
        self._coming, self._at, self._last = shards, 0, -1

    def path(self, shard: int) -> Path:
        return self.folder / str(self.shards[shard]["file"])

    def bring(self, shard: int) -> Path:
        """The local file of a shard, fetched if it is not there; the next ones are asked for."""
        path = self.path(shard)
        if not path.exists():
            self._fetch(shard)
        if shard != self._last:
            self._last = shard
            _mark_used(path)
            self._ask_for_next(shard)
        return path

    def _fetch(self, shard: int) -> None:
        about, path = self.shards[shard], self.path(shard)
        self._make_room(int(about["bytes"]))
        download(f"{self.url}/{about['file']}", path, sha256=about["sha256"])
        _mark_used(path)

    def _ask_for_next(self, shard: int) -> None:
        window = 2 * self.ahead + 2  # shards of one buffer come again and again
        behind, near = self._coming[max(self._at - window, 0) : self._at], self._coming[self._at : self._at + window]
        if shard in near:
            self._at += near.index(shard)
        elif shard in behind or shard not in self._coming:
            return
        else:  # reading begins in the middle of the order
            self._at = self._coming.index(shard)
        if self._wanted is None or self._process != os.getpid():  # a thread does not survive a fork
            self._wanted, self._process = SimpleQueue(), os.getpid()
            Thread(target=self._fetch_beforehand, args=(self._wanted,), name="shards", daemon=True).start()
        for coming in self._coming[self._at + 1 : self._at + 1 + self.ahead]:
            if not self.path(coming).exists():
                self._wanted.put(coming)

    def _fetch_beforehand(self, wanted: "SimpleQueue[int]") -> None:
        while True:
            shard = wanted.get()
            if not self.path(shard).exists():
                with suppress(JvlmError):  # who needs it tries again, and tells
                    self._fetch(shard)

    def _make_room(self, size: int) -> None:
        """Delete the shards used longest ago until `size` more bytes fit."""
        found = []
        for path in self.cache.glob("*/*/*/*.tar"):
            with suppress(FileNotFoundError):  # another process made room
                state = path.stat()
                found.append((state.st_mtime_ns, path, state.st_size))
        taken = sum(bytes for _, _, bytes in found)
        for _, path, bytes in sorted(found):
            if taken + size <= self.cache_bytes:
                break
            path.unlink(missing_ok=True)
            taken -= bytes


def _mark_used(path: Path) -> None:
    """The time of change is the time of use."""
    with suppress(FileNotFoundError):
        os.utime(path, ns=(time.time_ns(),) * 2)
