"""Exact and near duplicates, within and across sources; the earlier document stays.

Near duplicates: MinHash over character 5-grams (Broder 1997) with one hash a 5-gram: its leading bits choose one of 128
bins and the least hash of a bin is kept (one permutation hashing, Li et al. 2012); a bin left empty borrows from the
first full one on a path of its own (optimal densification, Shrivastava 2017), so short documents have signatures too.
In 32 bands of 4 rows a pair of Jaccard similarity 0.8 becomes a candidate with probability 1 - 5e-8 and one of 0.6
with 0.99 (short documents, whose bins borrow from each other, somewhat less often); a candidate counts only when
the exact Jaccard similarity of its 5-gram sets confirms it. White space is ignored for comparing; digits are not
folded, since 120 and 130 are different findings.

Memory: the texts kept (two bytes a character) and about 4 KB per kept document.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from jvlm.text.raw import Document

NGRAM = 5
NUM_HASHES, ROWS_PER_BAND = 128, 4
EXACT, NEAR = "exact_duplicate", "near_duplicate"
_BATCH = 256  # documents hashed in one numpy call
_EMPTY = np.uint32(2**32 - 1)  # a bin without a 5-gram
_SLACK = 0.15  # > 3 standard deviations of a similarity estimated from 128 hashes

Signature = NDArray[np.uint32]
Shingles = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """`kind` is EXACT or NEAR; `of` is the id of the document that stays; `similarity` its 5-gram Jaccard."""

    kind: str
    of: str
    similarity: float


class Deduplicator:
    """Feed documents in order; each is compared with those kept before it.

    Args:
        threshold: smallest exact 5-gram Jaccard similarity of a near duplicate, in (0, 1].
        seed: of the hash functions.
    """

    def __init__(self, threshold: float = 0.8, seed: int = 0) -> None:
        self.threshold = threshold
        rng = np.random.default_rng([seed, 5])
        self._salt = rng.integers(1, 2**63, dtype=np.uint64)
        # [128, 128]: where each bin looks for a value, itself first
        self._paths = np.argsort(rng.random((NUM_HASHES, NUM_HASHES)) - 2 * np.eye(NUM_HASHES), axis=1)
        self._kept: list[tuple[str, str]] = []  # id, folded text
        self._digests: dict[bytes, int] = {}
        self._bands: list[dict[bytes, list[int]]] = [{} for _ in range(NUM_HASHES // ROWS_PER_BAND)]
        self._signatures = np.empty((1024, NUM_HASHES), np.uint32)

    def filter(self, documents: Iterable[Document]) -> Iterator[tuple[Document, Duplicate | None]]:
        """Every document in order, with what it duplicates or None when it stays."""
        stream = iter(documents)
        while batch := list(islice(stream, _BATCH)):
            texts = ["".join(document.text.split()) for document in batch]
            shingles = [shingle_hashes(text) for text in texts]
            for document, text, grams, signature in zip(batch, texts, shingles, self._minhash(shingles), strict=True):
                yield document, self._judge(document.id, text, grams, signature)

    def _judge(self, identity: str, text: str, shingles: Shingles, signature: Signature) -> Duplicate | None:
        digest = hashlib.sha256(text.encode()).digest()
        if digest in self._digests:
            return Duplicate(EXACT, self._kept[self._digests[digest]][0], 1.0)
        keys = [signature[i : i + ROWS_PER_BAND].tobytes() for i in range(0, NUM_HASHES, ROWS_PER_BAND)]
        near = self._find_near(keys, shingles, signature)
        if near:
            return near
        index = len(self._kept)
        self._kept.append((identity, text))
        self._digests[digest] = index
        if index == len(self._signatures):
            self._signatures = np.concatenate([self._signatures, np.empty_like(self._signatures)])
        self._signatures[index] = signature
        for band, key in zip(self._bands, keys, strict=True):
            band.setdefault(key, []).append(index)
        return None

    def _find_near(self, keys: list[bytes], shingles: Shingles, signature: Signature) -> Duplicate | None:
        found: set[int] = set()
        for band, key in zip(self._bands, keys, strict=True):
            found.update(band.get(key, ()))
        if not found:
            return None
        candidates = np.array(sorted(found))
        estimates = (self._signatures[candidates] == signature).mean(1)
        own = np.unique(shingles)
        for place in np.argsort(-estimates, kind="stable"):
            if estimates[place] < self.threshold - _SLACK:
                break
            identity, text = self._kept[candidates[place]]
            similarity = _jaccard(own, np.unique(shingle_hashes(text)))
            if similarity >= self.threshold:
                return Duplicate(NEAR, identity, similarity)
        return None

    def _minhash(self, documents: list[Shingles]) -> Signature:
        """[documents, 128]: for each document and bin the least hash of its shingles there, or a borrowed one."""
        hashes = _mixed(np.concatenate(documents) ^ self._salt)
        owners = np.repeat(np.arange(len(documents)), [len(shingles) for shingles in documents])
        places = owners * NUM_HASHES + (hashes >> np.uint64(57)).astype(np.int64)
        flat = np.full(len(documents) * NUM_HASHES, _EMPTY)
        np.minimum.at(flat, places, hashes.astype(np.uint32) >> np.uint32(1))  # never _EMPTY
        signatures = flat.reshape(len(documents), NUM_HASHES)
        lacking = np.flatnonzero((signatures == _EMPTY).any(1))
        full = signatures[lacking] != _EMPTY
        lenders = self._paths[np.arange(NUM_HASHES), full[:, self._paths].argmax(2)]  # [lacking, 128]
        signatures[lacking] = np.take_along_axis(signatures[lacking], lenders, 1)
        return signatures


def shingle_hashes(text: str, length: int = NGRAM) -> Shingles:
    """64-bit hashes of the runs of `length` characters, repeats included; a shorter text is one shingle."""
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.uint64)
    codes = np.pad(codes, (0, max(length - len(codes), 0)))
    count = len(codes) - length + 1
    hashes = np.zeros(count, np.uint64)
    for i in range(length):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + codes[i : i + count]
    return _mixed(hashes)


def _mixed(hashes: Shingles) -> Shingles:
    hashes = (hashes ^ (hashes >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return hashes ^ (hashes >> np.uint64(29))


def jaccard(first: str, second: str) -> float:
    """Jaccard similarity of the character 5-gram sets of two texts, white space ignored."""
    grams = [np.unique(shingle_hashes("".join(text.split()))) for text in (first, second)]
    return _jaccard(*grams)


def _jaccard(first: Shingles, second: Shingles) -> float:
    """Of two arrays without repeats."""
    union = len(np.union1d(first, second))
    return (len(first) + len(second) - union) / union
