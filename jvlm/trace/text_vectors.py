"""How near two texts are without a model: by the words and signs they share, and which of these stand side by side.

A text is a set of signs (kanji, katakana, words of Latin letters and digits; hiragana and marks say little alone)
and of pairs of signs that stand near each other, in either order: 左上に赤い丸 and 赤色の丸が左上に share most of
them. The rarer a sign, the weightier. Texts are compared by the cosine of these sets. For a search among many, each
member of a set is added, by its hash, to four of 256 places with signs of their own: a sparse projection that keeps
cosines roughly (Kane & Nelson 2014). What it finds is compared again, exactly.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 256
_SIGN = re.compile("[a-z0-9]+|[^\\W\\d_ぁ-ゖ]")
_REACH, _PROJECTED_REACH = 4, 2  # signs of a pair stand so near each other: all between them count
_PAIR, _FLATTENED = 0.5, 0.6  # weight of a pair beside that of its signs; power of a sign's rarity
_PLACES = 4
_TABLE_BITS, _OWNER_BITS = 18, 9
_HASH_BITS = 64 - _OWNER_BITS
BATCH = 2**_OWNER_BITS
"""Texts looked at together, at most."""


class _Sets(NamedTuple):
    """Members of the sets of several texts: number of the text, hash and weight of each, [members]."""

    owners: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    weights: NDArray[np.float32]


class DocumentFrequencies:
    """In how many texts a sign stands, by its code."""

    def __init__(self) -> None:
        self.texts = 0
        self.counts = np.zeros(1 << _TABLE_BITS, np.uint32)

    def add(self, texts: Sequence[str]) -> None:
        owners, codes = _signs(texts)
        different = np.unique(owners << np.uint64(32) | codes)
        self.counts += np.bincount(_places(different), minlength=len(self.counts)).astype(np.uint32)
        self.texts += len(texts)

    def weights(self) -> NDArray[np.float32]:
        """[table] weight of a sign."""
        return (np.log1p(self.texts / np.maximum(self.counts, 1)) ** _FLATTENED).astype(np.float32)


class TextVectors:
    """Compares texts, by the weights of `DocumentFrequencies`."""

    def __init__(self, weights: NDArray[np.float32]) -> None:
        self.weights = weights

    @classmethod
    def load(cls, file: Path) -> "TextVectors":
        return cls(np.load(file, allow_pickle=False))

    def save(self, file: Path) -> None:
        np.save(file, self.weights)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[texts, 256] float32 of length one, or zero for a text without signs."""
        parts = [self._projected(texts[begin : begin + BATCH]) for begin in range(0, len(texts), BATCH)]
        return np.concatenate([np.empty((0, DIMENSIONS), np.float32), *parts])

    def similarities(self, text: str, others: Sequence[str]) -> NDArray[np.float64]:
        """[others] cosine of `text` and each of at most `BATCH` - 1 others, exactly."""
        owners, hashes, weights = self._sets([text, *others], _REACH)
        squares = weights.astype(np.float64) ** 2
        norms = np.sqrt(np.bincount(owners, squares, minlength=len(others) + 1))
        shared = np.isin(hashes, hashes[owners == 0])
        products = np.bincount(owners[shared], squares[shared], minlength=len(others) + 1)
        return products[1:] / np.maximum(norms[1:] * norms[0], 1e-12)

    def _projected(self, texts: Sequence[str]) -> NDArray[np.float32]:
        owners, hashes, weights = self._sets(texts, _PROJECTED_REACH)
        vectors = np.zeros(len(texts) * DIMENSIONS)
        for place in range(_PLACES):
            bits = hashes >> np.uint64(9 * place)  # eight for the place, one for the sign
            signs = (bits >> np.uint64(8) & np.uint64(1)).astype(np.float32) * 2 - 1
            at = owners * DIMENSIONS + (bits & np.uint64(DIMENSIONS - 1)).astype(np.int64)
            vectors += np.bincount(at, weights * signs, minlength=len(vectors))
        found = vectors.reshape(len(texts), DIMENSIONS)
        return (found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)).astype(np.float32)

    def _sets(self, texts: Sequence[str], reach: int) -> _Sets:
        owners, codes = _signs(texts)
        rarity = self.weights[_places(codes)]
        keys, weights = [_keys(owners, codes, codes)], [rarity]
        for gap in range(1, reach + 1):
            pair = np.flatnonzero(owners[gap:] == owners[:-gap])
            one, other = codes[pair], codes[pair + gap]
            keys.append(_keys(owners[pair], np.minimum(one, other), np.maximum(one, other) + np.uint64(1)))
            weights.append(_PAIR * np.sqrt(rarity[pair] * rarity[pair + gap]))
        different, first = np.unique(np.concatenate(keys), return_index=True)
        hashes = different & np.uint64((1 << _HASH_BITS) - 1)
        return _Sets((different >> np.uint64(_HASH_BITS)).astype(np.int64), hashes, np.concatenate(weights)[first])


def _signs(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The signs of texts in order: number of the text, and a code of 32 bits, [signs] each."""
    found = [_SIGN.findall(text.lower()) for text in texts]
    codes = [ord(sign) if len(sign) == 1 else crc32(sign.encode()) for signs in found for sign in signs]
    owners = np.repeat(np.arange(len(texts), dtype=np.uint64), [len(signs) for signs in found])
    return owners, np.array(codes, np.uint64)


def _places(codes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where a sign stands in the table; characters have places of their own, but for rare ones."""
    return (codes & np.uint64((1 << _TABLE_BITS) - 1)).astype(np.int64)


def _keys(owners: NDArray[np.uint64], one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Number of the text, and what is left of the mixed hash of two codes (splitmix64's finaliser)."""
    hashes = one << np.uint64(32) | other
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return owners << np.uint64(_HASH_BITS) | (hashes ^ (hashes >> np.uint64(31))) >> np.uint64(_OWNER_BITS)
