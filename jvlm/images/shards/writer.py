"""Samples → shards. A shard is written with its byte ranges; a folder is finished with index, records and card."""

import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import zstandard

from jvlm.cards import README, data_card
from jvlm.errors import DataError
from jvlm.files import new_folder, sha256_file, write_json, write_text
from jvlm.images.load import image_size
from jvlm.images.shards.format import (
    CARD,
    FORMAT,
    INDEX,
    RECORDS,
    ShardIndex,
    fingerprint_of,
    image_extension,
    shard_file,
    shard_key,
)
from jvlm.licences import note
from jvlm.sample import Sample

SAMPLES_PER_SHARD = 2000
_ZSTD_LEVEL = 10


@dataclass(frozen=True)
class Encoded:
    """A sample as bytes."""

    id: str
    members: dict[str, bytes]
    """By field: its JSON first, then the images in order."""
    sizes: list[tuple[int, int]]
    """Upright width and height of each image."""


@dataclass(frozen=True)
class Entry:
    """A sample as it stands in a shard."""

    id: str
    ranges: list[tuple[int, int]]
    """Offset and size in bytes of its JSON, then of each image."""
    sizes: list[tuple[int, int]]
    """Upright width and height of each image."""


@dataclass(frozen=True)
class Shard:
    """A written tar."""

    entries: list[Entry]
    bytes: int
    sha256: str


def write_shards(
    samples: Iterable[Sample],
    folder: Path,
    *,
    samples_per_shard: int = SAMPLES_PER_SHARD,
    about: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write samples in order and commit the folder as a whole, replacing an older one; returns the card.

    `about` is added to the card: layout, licence, source.

    Raises:
        DataError: no samples, an id twice, an unreadable or unknown image, a message naming an absent image.
    """
    assert samples_per_shard > 0
    with new_folder(folder) as aside:
        shards: list[Shard] = []
        seen: set[str] = set()
        stream = iter(samples)
        for first in stream:
            batch = chain([first], islice(stream, samples_per_shard - 1))
            path = aside / shard_file(len(shards))
            shards.append(write_shard(map(encode, _new(batch, seen)), path))
        if not shards:
            raise DataError("no samples to write", where=folder)
        return finish(aside, shards, about or {})


def _new(samples: Iterable[Sample], seen: set[str]) -> Iterator[Sample]:
    for sample in samples:
        _add(sample.id, seen)
        yield sample


def _add(id: str, seen: set[str]) -> None:
    if id in seen:
        raise DataError("two samples have this id", where=id, fix="ids must be unique in a dataset")
    seen.add(id)


def write_shard(samples: Iterable[Encoded], path: Path) -> Shard:
    """Write one tar, a sample at a time."""
    with open(path, "wb") as file:
        entries = [_append_sample(file, sample) for sample in samples]
        file.write(b"\0" * 2 * tarfile.BLOCKSIZE)
        file.write(b"\0" * (-file.tell() % tarfile.RECORDSIZE))
    return Shard(entries, path.stat().st_size, sha256_file(path))


def finish(folder: Path, shards: list[Shard], about: dict[str, Any]) -> dict[str, Any]:
    """Beside the shards, named by `shard_file` in order: the records in one file, the index, the card; returns it.

    The card counts what the samples say of their source and licence; a README shows it.
    Raises DataError when an id stands in two shards.
    """
    entries = [entry for shard in shards for entry in shard.entries]
    ids = [entry.id for entry in entries]
    seen: set[str] = set()
    for id in ids:
        _add(id, seen)
    origins = _write_records(folder, shards)
    ShardIndex(
        ids,
        np.repeat(np.arange(len(shards), dtype=np.int32), [len(shard.entries) for shard in shards]),
        np.cumsum([0] + [len(entry.ranges) for entry in entries], dtype=np.int64),
        np.array([pair for entry in entries for pair in entry.ranges], np.int64).reshape(-1, 2),
        np.array([pair for entry in entries for pair in entry.sizes], np.int32).reshape(-1, 2),
    ).save(folder / INDEX)
    listed = [
        {
            "file": shard_file(number),
            "samples": len(shard.entries),
            "images": sum(len(entry.sizes) for entry in shard.entries),
            "bytes": shard.bytes,
            "sha256": shard.sha256,
        }
        for number, shard in enumerate(shards)
    ]
    card = {
        "format": FORMAT,
        **about,
        "num_samples": len(entries),
        "num_images": sum(len(entry.sizes) for entry in entries),
        "num_bytes": sum(shard.bytes for shard in shards),
        "origins": origins,
        "fingerprint": fingerprint_of([shard.sha256 for shard in shards]),
        "index_sha256": sha256_file(folder / INDEX),
        "records_sha256": sha256_file(folder / RECORDS),
        "shards": listed,
    }
    write_json(folder / CARD, card)
    write_text(folder / README, data_card(card))
    return card


def encode(sample: Sample) -> Encoded:
    """Raises DataError for what cannot be stored: an unknown image, a message naming an absent one, no JSON."""
    record = sample.to_record()
    Sample.from_record(record, sample.images, where=sample.id)  # refuses a dangling image index before it is stored
    try:
        members = {"json": json.dumps(record, ensure_ascii=False, allow_nan=False).encode()}
    except (TypeError, ValueError) as error:
        raise DataError(f"cannot be stored as JSON: {error}", where=sample.id) from None
    sizes = []
    for number, image in enumerate(sample.images):
        data, where = image.read(), f"{sample.id}:{number}"
        extension = image_extension(data)
        if extension is None:
            raise DataError("not a PNG, JPEG, WebP, BMP, GIF or TIFF image", where=where)
        members[f"{number}.{extension}"] = data
        sizes.append(image_size(data, where=where))
    return Encoded(sample.id, members, sizes)


def _append_sample(file: BinaryIO, sample: Encoded) -> Entry:
    key = shard_key(sample.id)
    # in webdataset's order, that of the fields' names
    ranges = {field: _append(file, f"{key}.{field}", sample.members[field]) for field in sorted(sample.members)}
    return Entry(sample.id, [ranges[field] for field in sample.members], sample.sizes)


def _append(file: BinaryIO, name: str, data: bytes) -> tuple[int, int]:
    """Append a member to a tar; returns the offset and size of its content. Owner and time are always the same."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.uname, info.gname = len(data), 0o444, "jvlm", "jvlm"
    file.write(info.tobuf(tarfile.USTAR_FORMAT))
    offset = file.tell()
    file.write(data)
    file.write(b"\0" * (-len(data) % tarfile.BLOCKSIZE))
    return offset, len(data)


def _write_records(folder: Path, shards: list[Shard]) -> dict[str, dict[str, int]]:
    """The JSON of every sample once more, a line each, read back from the tars; counts by source and licence."""
    origins: dict[str, dict[str, int]] = {}
    packer = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
    with open(folder / RECORDS, "wb") as raw, packer.stream_writer(raw, closefd=False) as out:
        for number, shard in enumerate(shards):
            with open(folder / shard_file(number), "rb") as tar:
                for entry in shard.entries:
                    offset, size = entry.ranges[0]
                    tar.seek(offset)
                    record = tar.read(size)
                    out.write(record + b"\n")
                    meta = json.loads(record)["meta"]
                    note(origins, str(meta.get("source") or ""), str(meta.get("licence") or ""))
    return origins
