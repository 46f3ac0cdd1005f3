"""Train, val and test: where a record belongs, and that no content stands in two of them.

One rule serves every set without an official split: the first 64 bits of the SHA-256 of the content (an image's bytes,
a document's text) are read as a number in [0, 1). The same content therefore always goes the same way, whatever else
is in the set.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping

SPLITS = ("train", "val", "test")
"""From the open one to the most protected."""

HELD_OUT = {"test": 0.01, "val": 0.01}
"""Shares that leave train, in this order from 0 upwards."""


def split_of(content_hash: str, held_out: Mapping[str, float] = HELD_OUT) -> str:
    """The split of a content, by its SHA-256 in hexadecimal: a pure function of hash and shares."""
    place = int(content_hash[:16], 16) / 2**64
    for split, share in held_out.items():
        if place < share:
            return split
        place -= share
    return "train"


def text_hash(text: str) -> str:
    """SHA-256 of a text without its spaces and differences of width, so that trivial variants count as the same."""
    folded = "".join(unicodedata.normalize("NFKC", text).split())
    return hashlib.sha256(folded.encode()).hexdigest()


class HeldOut:
    """The contents of val and test, by hash. Fill it with every record before asking about the first."""

    def __init__(self) -> None:
        self._rank: dict[bytes, int] = {}  # what stands in train alone is not kept: sets have millions of documents

    def add(self, split: str, hashes: Iterable[str]) -> None:
        rank = SPLITS.index(split)
        for key in map(bytes.fromhex, hashes if rank else ()):
            self._rank[key] = max(rank, self._rank.get(key, 0))

    def clash(self, split: str, hashes: Iterable[str]) -> str | None:
        """The more protected split that holds one of these contents; the record must then leave `split`."""
        rank = max((self._rank.get(bytes.fromhex(key), 0) for key in hashes), default=0)
        return SPLITS[rank] if rank > SPLITS.index(split) else None
