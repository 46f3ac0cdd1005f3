"""Image shards: WebDataset tars of samples, an offset index for random access, and a card.

A folder holds `SHARD-000000.tar`, … with members `KEY.json`, `KEY.0.jpg`, `KEY.1.png`, …, readable by webdataset
as they are; `index.npz`, the byte range of every member; and `dataset.json`, the card with counts and hashes.
The same samples give the same bytes.
"""

import hashlib
import itertools
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jvlm.errors import DataError
from jvlm.files import new_folder, read_json, sha256_bytes, sha256_file, write_json
from jvlm.images.load import load_image
from jvlm.sample import ImageRef, Sample

CARD, INDEX, FORMAT = "dataset.json", "index.npz", "jvlm-image-shards-1"

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
)
_SAFE_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")


def image_extension(data: bytes) -> str | None:
    """File extension by the first bytes, whatever the file was called; None for an unknown format."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((extension for magic, extension in _MAGIC if data.startswith(magic)), None)


def shard_key(sample_id: str) -> str:
    """The sample's name inside a tar: its id where that is a plain word, else a hash (no dots, slashes or `..`)."""
    if _SAFE_KEY.fullmatch(sample_id):
        return sample_id
    return "id_" + sha256_bytes(sample_id.encode("utf-8", "surrogatepass"))[:32]


def write_shards(samples: Iterable[Sample], folder: Path, *, samples_per_shard: int = 2000) -> dict[str, Any]:
    """Write samples in order and commit the folder as a whole, replacing an older one; returns the card.

    Raises:
        DataError: no samples, an id twice, an unreadable or unknown image, a message naming an absent image.
    """
    assert samples_per_shard > 0
    with new_folder(folder) as aside:
        shards: list[dict[str, Any]] = []
        ids: dict[str, int] = {}  # in order; the value is the shard
        ranges: list[list[tuple[int, int]]] = []  # per sample: (offset, size) of the JSON, then of each image
        stream = iter(samples)
        for first in stream:
            batch = itertools.chain([first], itertools.islice(stream, samples_per_shard - 1))
            path = aside / f"SHARD-{len(shards):06d}.tar"
            counts = _write_shard(batch, path, ids, len(shards))
            ranges.extend(_member_ranges(path, counts))
            shards.append(
                {
                    "file": path.name,
                    "samples": len(counts),
                    "images": sum(counts),
                    "bytes": path.stat().st_size,
                    "sha256": sha256_file(path),
                }
            )
        if not shards:
            raise DataError("no samples to write", where=folder)
        _write_index(aside / INDEX, ids, ranges)
        card = {
            "format": FORMAT,
            "num_samples": len(ids),
            "num_images": sum(shard["images"] for shard in shards),
            "fingerprint": _fingerprint(shards),
            "index_sha256": sha256_file(aside / INDEX),
            "shards": shards,
        }
        write_json(aside / CARD, card)
    return card


class ShardReader:
    """Random access to a folder of shards: `read(i)` costs two or more byte-range reads, whatever the size.

    Can be pickled, forked and shared by threads: reading has no position, files are opened where they are used.

    Raises DataError when the card or the index is missing or unreadable.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.card: dict[str, Any] = read_json(self.folder / CARD)
        if not isinstance(self.card, dict) or self.card.get("format") != FORMAT:
            raise DataError(f"not a card of the format {FORMAT}", where=self.folder / CARD)
        try:
            self._files = [str(shard["file"]) for shard in self.card["shards"]]
            self.fingerprint = str(self.card["fingerprint"])
            with np.load(self.folder / INDEX, allow_pickle=False) as index:
                self.ids: list[str] = json.loads(index["ids"].tobytes())
                self._shard, self._start, self._ranges = index["shard"], index["start"], index["ranges"]
        except FileNotFoundError:
            raise DataError("file not found", where=self.folder / INDEX) from None
        except Exception as error:  # a damaged zip raises many kinds
            raise DataError(f"unreadable index or card ({type(error).__name__})", where=self.folder / INDEX) from None
        whole = len(self.ids) == len(self._shard) == len(self._start) - 1 and self._start[-1] == len(self._ranges)
        if not whole or (len(self._shard) and not 0 <= self._shard.min() <= self._shard.max() < len(self._files)):
            raise DataError("the index contradicts itself", where=self.folder / INDEX, fix="rebuild the shards")
        self._open: dict[int, _Descriptor] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def shard(self, i: int) -> int:
        """Number of the shard sample i stands in."""
        return int(self._shard[i])

    def num_images(self, i: int) -> int:
        return int(self._start[i + 1] - self._start[i]) - 1

    def record(self, i: int) -> dict[str, Any]:
        """The sample's JSON, without touching its images. Raises DataError naming `shard.tar:key:json`."""
        data, where = self._member(i, 0), self.where(i, "json")
        try:
            record = json.loads(data)
        except (ValueError, RecursionError):
            raise DataError("not JSON", where=where) from None
        if not isinstance(record, dict) or record.get("id") != self.ids[i]:
            raise DataError("not the record the index names", where=where, fix="rebuild the shards")
        return record

    def read(self, i: int) -> Sample:
        """The whole sample, images as encoded bytes. Raises DataError naming `shard.tar:key:field`."""
        images = [ImageRef(data=self._member(i, 1 + number)) for number in range(self.num_images(i))]
        return Sample.from_record(self.record(i), images, where=self.where(i, "json"))

    def where(self, i: int, field: object) -> str:
        """`shard.tar:key:field`, for error messages."""
        return f"{self.folder / self._files[self.shard(i)]}:{shard_key(self.ids[i])}:{field}"

    def _member(self, i: int, number: int) -> bytes:
        if not 0 <= i < len(self.ids):
            raise IndexError(i)
        offset, size = (int(value) for value in self._ranges[self._start[i] + number])
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
            descriptor = _Descriptor(self.folder / self._files[shard])
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


def check_shards(folder: Path) -> list[str]:
    """Every fault of a folder of shards, one line each; an empty list when it is sound.

    Hashes are compared, every record is parsed and every image is decoded.
    """
    try:
        reader = ShardReader(folder)
    except DataError as error:
        return [str(error)]
    return list(dict.fromkeys(_faults(reader)))


def _faults(reader: ShardReader) -> Iterator[str]:
    card = reader.card
    if card.get("index_sha256") != sha256_file(reader.folder / INDEX):
        yield f"{reader.folder / INDEX}: content differs from its hash in {CARD}"
    if card["fingerprint"] != _fingerprint(card["shards"]):
        yield f"{reader.folder / CARD}: the fingerprint does not follow from the shards"
    images = sum(reader.num_images(i) for i in range(len(reader)))
    if (card.get("num_samples"), card.get("num_images")) != (len(reader), images):
        yield f"{reader.folder / CARD}: counts differ from the index, which has {len(reader)} samples, {images} images"
    missing = set()
    for number, shard in enumerate(card["shards"]):
        path = reader.folder / shard["file"]
        if not path.is_file():
            missing.add(number)
            yield f"{path}: the shard is missing"
        elif sha256_file(path) != shard.get("sha256"):
            yield f"{path}: content differs from its hash in {CARD}"
    for i in range(len(reader)):
        if reader.shard(i) in missing:
            continue
        try:
            sample = reader.read(i)
        except DataError as error:
            yield str(error)
            continue
        for number, image in enumerate(sample.images):
            try:
                load_image(image, where=reader.where(i, number))
            except DataError as error:
                yield str(error)


def _write_shard(samples: Iterable[Sample], path: Path, ids: dict[str, int], shard: int) -> list[int]:
    """Write one tar; returns the number of images of each sample and adds to `ids`."""
    from webdataset import TarWriter

    counts = []
    with (
        open(path, "wb") as file,
        # fixed owner and time: the same samples give the same bytes
        TarWriter(file, user="jvlm", group="jvlm", mtime=0, encoder=False) as writer,
    ):
        for sample in samples:
            if sample.id in ids:
                raise DataError("two samples have this id", where=sample.id, fix="ids must be unique in a dataset")
            ids[sample.id] = shard
            writer.write({"__key__": shard_key(sample.id), **_members(sample)})
            counts.append(len(sample.images))
    return counts


def _members(sample: Sample) -> dict[str, bytes]:
    record = sample.to_record()
    Sample.from_record(record, sample.images, where=sample.id)  # refuses a dangling image index before it is stored
    try:
        members = {"json": json.dumps(record, ensure_ascii=False, allow_nan=False).encode()}
    except (TypeError, ValueError) as error:
        raise DataError(f"cannot be stored as JSON: {error}", where=sample.id) from None
    for number, image in enumerate(sample.images):
        data = image.read()
        extension = image_extension(data)
        if extension is None:
            raise DataError("not a PNG, JPEG, WebP, BMP, GIF or TIFF image", where=f"{sample.id}:{number}")
        members[f"{number}.{extension}"] = data
    return members


def _member_ranges(path: Path, counts: list[int]) -> Iterator[list[tuple[int, int]]]:
    """Byte ranges of the JSON and the images of each sample, as tarfile finds them in the finished shard."""
    with tarfile.open(path, "r:") as tar:
        for count in counts:
            members = {}
            for _ in range(count + 1):
                member = tar.next()
                assert member is not None
                field = member.name.partition(".")[2].partition(".")[0]
                members[-1 if field == "json" else int(field)] = (member.offset_data, member.size)
            tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header it has read
            yield [members[number] for number in range(-1, count)]


def _write_index(path: Path, ids: dict[str, int], ranges: list[list[tuple[int, int]]]) -> None:
    """`start[i]:start[i + 1]` are the rows of `ranges` [members, (offset, size)] of sample i, its JSON first."""
    start = np.cumsum([0] + [len(members) for members in ranges], dtype=np.int64)
    names = np.frombuffer(json.dumps(list(ids), ensure_ascii=False).encode(), np.uint8)
    flat = np.array([pair for members in ranges for pair in members], np.int64).reshape(-1, 2)
    np.savez(path, ids=names, shard=np.array(list(ids.values()), np.int32), start=start, ranges=flat)


def _fingerprint(shards: list[dict[str, Any]]) -> str:
    return hashlib.sha256("\n".join(str(shard["sha256"]) for shard in shards).encode()).hexdigest()
