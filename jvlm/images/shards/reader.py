"""Random access to the samples of a folder of shards."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jvlm.errors import DataError
from jvlm.images.shards.format import CARD, INDEX, ShardIndex, read_card, shard_key
from jvlm.sample import ImageRef, Sample


class ShardReader:
    """Random access to a folder of shards: `read(i)` costs two or more byte-range reads, whatever the size.

    Can be pickled, forked and shared by threads: reading has no position, files are opened where they are used.
    For shards that are elsewhere see `jvlm.images.shards.open_shards`.

    Raises DataError when the card or the index is missing or unreadable.
    """

    buffer: int | None = None
    """Samples that are shuffled among each other where the set is streamed; None for one that is read at random."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.location = str(folder)
        self.card: dict[str, Any] = read_card(self.folder / CARD)
        self.files = [str(shard["file"]) for shard in self.card["shards"]]
        self.fingerprint = str(self.card["fingerprint"])
        self._index = ShardIndex.load(self.folder / INDEX, len(self.files))
        self.ids = self._index.ids
        self._open: dict[int, _Descriptor] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    @property
    def shard_numbers(self) -> NDArray[np.int32]:
        """[samples] number of the shard each sample stands in."""
        return self._index.shard

    def shard(self, i: int) -> int:
        """Number of the shard sample i stands in."""
        return int(self._index.shard[i])

    def num_images(self, i: int) -> int:
        return int(self._index.start[i + 1] - self._index.start[i]) - 1

    def sizes(self, i: int) -> list[tuple[int, int]]:
        """Upright (width, height) of the images of sample i, from the index."""
        first = int(self._index.start[i]) - i  # a sample has one member that is no image
        rows = self._index.sizes[first : first + self.num_images(i)]
        return [(int(width), int(height)) for width, height in rows]

    def record(self, i: int) -> dict[str, Any]:
        """The sample's JSON, without touching its images. Raises DataError naming `shard.tar:key:json`."""
        data, where = self.record_bytes(i), self.where(i, "json")
        try:
            record = json.loads(data)
        except (ValueError, RecursionError):
            raise DataError("not JSON", where=where) from None
        if not isinstance(record, dict) or record.get("id") != self.ids[i]:
            raise DataError("not the record the index names", where=where, fix="rebuild the shards")
        return record

    def record_bytes(self, i: int) -> bytes:
        """The JSON of sample i as it is stored."""
        return self._member(i, 0)

    def read(self, i: int) -> Sample:
        """The whole sample, images as encoded bytes. Raises DataError naming `shard.tar:key:field`."""
        data = [self._member(i, 1 + number) for number in range(self.num_images(i))]
        images = [ImageRef(data=content, size=size) for content, size in zip(data, self.sizes(i), strict=True)]
        return Sample.from_record(self.record(i), images, where=self.where(i, "json"))

    def member_ranges(self, i: int) -> list[tuple[int, int]]:
        """Offset and size in its shard of the JSON of sample i and of each of its images."""
        rows = self._index.ranges[self._index.start[i] : self._index.start[i + 1]]
        return [(int(offset), int(size)) for offset, size in rows]

    def where(self, i: int, field: object) -> str:
        """`shard.tar:key:field`, for error messages."""
        return f"{self.location}/{self.files[self.shard(i)]}:{shard_key(self.ids[i])}:{field}"

    def will_read(self, order: NDArray[np.int64]) -> None:
        """Tell the order in which samples will be asked for. Of use where shards have to be fetched."""

    def _member(self, i: int, number: int) -> bytes:
        if not 0 <= i < len(self.ids):
            raise IndexError(i)
        offset, size = (int(value) for value in self._index.ranges[self._index.start[i] + number])
        field = "json" if number == 0 else number - 1
        try:
            descriptor = self._descriptor(self.shard(i))  # named, so that it stays open while it is read
            data = os.pread(descriptor.number, size, offset)
        except FileNotFoundError:
            raise DataError("the shard is missing", where=self.where(i, field)) from None
        except (OSError, ValueError, OverflowError) as error:
            raise DataError(f"cannot read the shard: {error}", where=self.where(i, field)) from None
        if len(data) != size:
            raise DataError("the shard is shorter than its index says", where=self.where(i, field), fix="rebuild it")
        return data

    def _descriptor(self, shard: int) -> "_Descriptor":
        descriptor = self._open.get(shard)
        if descriptor is None:
            descriptor = _Descriptor(self.folder / self.files[shard])
            if len(self._open) < _Descriptor.KEPT_OPEN:
                self._open[shard] = descriptor
        return descriptor


class _Descriptor:
    """An open file that closes when nobody uses it any more; safe to drop while another thread still reads."""

    KEPT_OPEN = 256  # a process may open about 1,000 files; shards beyond are opened for each read

    def __init__(self, path: Path) -> None:
        self.number = -1
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)
