"""Signatures for the duplicate search: hashes of character 5-grams, MinHash, Jaccard similarity.

MinHash over character 5-grams (Broder 1997) with one hash a 5-gram: its leading bits choose one of 128 bins and the
least hash of a bin is kept (one permutation hashing, Li et al. 2012); a bin left empty borrows from the first full one
on a path of its own (optimal densification, Shrivastava 2017), so short documents have signatures too. In 32 bands of 4
rows a pair of Jaccard similarity 0.8 becomes a candidate with probability 1 - 5e-8, one of 0.6 with 0.99 and one of 0.5
with 0.87 (short documents, whose bins borrow from each other, somewhat less often). White space is ignored for
comparing; digits are not folded, since 120 and 130 are different findings.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

NGRAM = 5
NUM_HASHES, ROWS_PER_BAND = 128, 4
BANDS = NUM_HASHES // ROWS_PER_BAND
_BASE = 0x9E3779B97F4A7C15
_EMPTY = np.uint32(2**32 - 1)  # a bin without a 5-gram

Signatures = NDArray[np.uint32]
Shingles = NDArray[np.uint64]


class MinHash:
    """Signatures of documents under one seed."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng([seed, 5])
        self._salt = rng.integers(1, 2**63, dtype=np.uint64)
        # [128, 128]: where each bin looks for a value, itself first
        self._paths = np.argsort(rng.random((NUM_HASHES, NUM_HASHES)) - 2 * np.eye(NUM_HASHES), axis=1)

    def signatures(self, documents: list[Shingles]) -> Signatures:
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


def band_keys(signatures: Signatures) -> NDArray[np.uint64]:
    """[32, documents]: the hash of each band; documents that share one are candidates."""
    rows = signatures.reshape(len(signatures), BANDS, ROWS_PER_BAND).astype(np.uint64)
    keys = np.zeros(rows.shape[:2], np.uint64)
    for i in range(ROWS_PER_BAND):
        keys = _mixed(keys ^ rows[:, :, i]) * np.uint64(_BASE)
    return np.ascontiguousarray(keys.T)


def folded(text: str) -> str:
    """The text without white space, as it is compared."""
    return "".join(text.split())


def digest(text: str) -> bytes:
    """16 bytes of the sha256 of a folded text."""
    return hashlib.sha256(text.encode()).digest()[:16]


def shingle_hashes(text: str, length: int = NGRAM) -> Shingles:
    """64-bit hashes of the runs of `length` characters, repeats included; a shorter text is one shingle."""
    codes = np.frombuffer(text.ljust(length, "\0").encode("utf-32-le"), "<u4").astype(np.uint64)
    hashes, run = codes, 1  # polynomials over runs of `run` characters, doubled along the bits of `length`
    for bit in f"{length:b}"[1:]:
        hashes = hashes[:-run] * np.uint64(pow(_BASE, run, 2**64)) + hashes[run:]
        run *= 2
        if bit == "1":
            hashes = hashes[:-1] * np.uint64(_BASE) + codes[run:]
            run += 1
    return _mixed(hashes)


class Sieve:
    """A first look-up that most hashes fail which are not among `hashes`: far faster than to search for each.

    A table with eight slots or more a hash, chosen by its leading bits.
    """

    def __init__(self, hashes: Shingles) -> None:
        self._shift = np.uint64(64 - max(20, (8 * len(hashes)).bit_length()))
        self._table = np.zeros(1 << (64 - int(self._shift)), bool)
        self._table[hashes >> self._shift] = True

    def passing(self, hashes: Shingles) -> Shingles:
        """Those that may be among the sieve's."""
        passing: Shingles = hashes[self._table[hashes >> self._shift]]
        return passing


def _mixed(hashes: Shingles) -> Shingles:
    hashes = (hashes ^ (hashes >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return hashes ^ (hashes >> np.uint64(29))


def jaccard(first: str, second: str) -> float:
    """Jaccard similarity of the character 5-gram sets of two texts, white space ignored."""
    return jaccard_of(*(np.unique(shingle_hashes(folded(text))) for text in (first, second)))


def jaccard_of(first: Shingles, second: Shingles) -> float:
    """Jaccard similarity of two arrays of hashes without repeats."""
    union = len(np.union1d(first, second))
    return (len(first) + len(second) - union) / union
