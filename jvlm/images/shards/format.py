"""How a folder of shards is laid out: names, keys, the index and the card."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jvlm.errors import DataError
from jvlm.files import read_json, sha256_bytes

CARD, INDEX, RECORDS, FORMAT = "dataset.json", "index.npz", "records.jsonl.zst", "jvlm-image-shards-2"

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
)
_SAFE_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_SAFE_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\.tar")


def image_extension(data: bytes) -> str | None:
    """File extension by the first bytes, whatever the file was called; None for a format that shards do not hold."""
    if data[128:132] == b"DICM":  # before it anything may stand, the beginning of a TIFF too
        return None
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((extension for magic, extension in _MAGIC if data.startswith(magic)), None)


def shard_key(sample_id: str) -> str:
    """The sample's name inside a tar: its id where that is a plain word, else a hash (no dots, slashes or `..`)."""
    if _SAFE_KEY.fullmatch(sample_id):
        return sample_id
    return "id_" + sha256_bytes(sample_id.encode("utf-8", "surrogatepass"))[:32]


def shard_file(number: int) -> str:
    return f"SHARD-{number:06d}.tar"


def fingerprint_of(hashes: list[str]) -> str:
    """Of a data set, from the SHA-256 of each of its shards in order."""
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def read_card(path: Path) -> dict[str, Any]:
    """The card, with shards that are plain names of tars. Raises DataError when it is missing or not one of ours."""
    card = read_json(path)
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise DataError(f"not a card of the format {FORMAT}", where=path, fix="build the set again")
    try:
        shards = [(shard["file"], shard["sha256"] + "", shard["bytes"] + 0) for shard in card["shards"]]
        hashes = [card[name] + "" for name in ("fingerprint", "index_sha256", "records_sha256")]
        plain = bool(shards and hashes) and all(_SAFE_FILE.fullmatch(file) for file, *_ in shards)
    except (KeyError, TypeError):
        raise DataError("the card lacks its shards or a hash", where=path, fix="build it again") from None
    if not plain:  # a card may come from anywhere: no `..`, no absolute path, no pipe
        raise DataError("the card names no shard, or one that is no plain file name", where=path)
    return card


@dataclass(frozen=True)
class ShardIndex:
    """Where everything stands. Of sample i the members, its JSON first, are the rows `start[i]:start[i + 1]`."""

    ids: list[str]
    shard: NDArray[np.int32]
    """[samples] number of the shard."""
    start: NDArray[np.int64]
    """[samples + 1]"""
    ranges: NDArray[np.int64]
    """[members, 2] offset and size in bytes."""
    sizes: NDArray[np.int32]
    """[images, 2] upright width and height in pixels, in the order of samples."""

    def save(self, path: Path) -> None:
        names = np.frombuffer(json.dumps(self.ids, ensure_ascii=False).encode(), np.uint8)
        np.savez(path, ids=names, shard=self.shard, start=self.start, ranges=self.ranges, sizes=self.sizes)

    @classmethod
    def load(cls, path: Path, num_shards: int) -> "ShardIndex":
        """Raises DataError when it is missing, unreadable, or contradicts itself or the number of shards."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                ids: list[str] = json.loads(arrays["ids"].tobytes())
                index = cls(ids, arrays["shard"], arrays["start"], arrays["ranges"], arrays["sizes"])
                whole = index._agrees(num_shards)
        except FileNotFoundError:
            raise DataError("file not found", where=path) from None
        except Exception as error:  # a damaged zip raises many kinds
            raise DataError(f"unreadable index or card ({type(error).__name__})", where=path) from None
        if not whole:
            raise DataError("the index contradicts itself", where=path, fix="rebuild the shards")
        return index

    def _agrees(self, num_shards: int) -> bool:
        samples = len(self.ids)
        whole = samples == len(self.shard) == len(self.start) - 1 and self.start[-1] == len(self.ranges)
        whole = whole and self.sizes.shape == (len(self.ranges) - samples, 2)
        return bool(whole and (not samples or 0 <= self.shard.min() <= self.shard.max() < num_shards))
