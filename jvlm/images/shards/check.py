"""Every fault of a folder of shards, at once."""

from collections.abc import Iterator
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

import zstandard

from jvlm.errors import DataError
from jvlm.files import sha256_file
from jvlm.images.load import load_image
from jvlm.images.shards.format import CARD, INDEX, RECORDS, fingerprint_of, shard_key
from jvlm.images.shards.members import members
from jvlm.images.shards.reader import ShardReader


def check_shards(folder: Path) -> list[str]:
    """Every fault of a folder of shards, one line each as `shard.tar:key:field: …`; an empty list when it is sound.

    Hashes are compared, the members of every tar are held against the index, every record is parsed and every image
    is decoded.
    """
    try:
        reader = ShardReader(folder)
    except DataError as error:
        return [str(error)]
    return list(dict.fromkeys(_faults(reader)))


def _faults(reader: ShardReader) -> Iterator[str]:
    yield from _card_faults(reader)
    missing = set()
    for number, shard in enumerate(reader.card["shards"]):
        path = reader.folder / shard["file"]
        if not path.is_file():
            missing.add(number)
            yield f"{path}: the shard is missing"
            continue
        if sha256_file(path) != shard.get("sha256"):
            yield f"{path}: content differs from its hash in {CARD}"
        yield from _member_faults(reader, number, path)
    for i in range(len(reader)):
        if reader.shard(i) not in missing:
            yield from _sample_faults(reader, i)


def _card_faults(reader: ShardReader) -> Iterator[str]:
    card, folder = reader.card, reader.folder
    for name, digest in ((INDEX, card["index_sha256"]), (RECORDS, card["records_sha256"])):
        if not (folder / name).is_file():
            yield f"{folder / name}: file not found"
        elif sha256_file(folder / name) != digest:
            yield f"{folder / name}: content differs from its hash in {CARD}"
        elif name == RECORDS:
            yield from _record_faults(reader)
    if card["fingerprint"] != fingerprint_of([str(shard.get("sha256")) for shard in card["shards"]]):
        yield f"{folder / CARD}: the fingerprint does not follow from the shards"
    images = sum(reader.num_images(i) for i in range(len(reader)))
    if (card.get("num_samples"), card.get("num_images")) != (len(reader), images):
        yield f"{folder / CARD}: counts differ from the index, which has {len(reader)} samples, {images} images"


def _record_faults(reader: ShardReader) -> Iterator[str]:
    path, count = reader.folder / RECORDS, 0
    try:
        with open(path, "rb") as file:
            for count, line in enumerate(BufferedReader(zstandard.ZstdDecompressor().stream_reader(file)), 1):
                with suppress(DataError, IndexError):  # told of elsewhere
                    if line != reader.record_bytes(count - 1) + b"\n":
                        yield f"{path}:{count}: not the record of {reader.where(count - 1, 'json')}"
    except zstandard.ZstdError as error:
        yield f"{path}: cannot be unpacked: {error}"
    if count != len(reader):
        yield f"{path}: {count} records, the index has {len(reader)}"


def _member_faults(reader: ShardReader, number: int, path: Path) -> Iterator[str]:
    """Members that must not be there, that the index does not know, or that stand elsewhere than it says."""
    known = {
        (shard_key(reader.ids[i]), "json" if place == 0 else str(place - 1)): spot
        for i in (reader.shard_numbers == number).nonzero()[0].tolist()
        for place, spot in enumerate(reader.member_ranges(i))
    }
    for member in members(path):
        where = f"{path}:{member.key}:{member.field}" if member.key else str(path)
        if member.fault:
            yield f"{where}: {member.fault}"
        elif (spot := known.get((member.key, member.field.partition(".")[0]))) is None:
            yield f"{where}: the index does not know it"
        elif spot != (member.offset, member.size):
            yield f"{where}: stands elsewhere than the index says"


def _sample_faults(reader: ShardReader, i: int) -> Iterator[str]:
    try:
        sample = reader.read(i)
    except DataError as error:
        yield str(error)
        return
    for number, image in enumerate(sample.images):
        where = reader.where(i, number)
        try:
            pixels = load_image(image, where=where)
        except DataError as error:
            yield str(error)
            continue
        if image.size not in (None, pixels.size):
            yield f"{where}: {pixels.width} × {pixels.height} pixels, the index says {image.size[0]} × {image.size[1]}"
