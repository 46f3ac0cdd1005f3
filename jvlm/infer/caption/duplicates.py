"""Near-duplicate pictures: a hash of what a picture looks like, and the first row that looks the same."""

from array import array
from collections import defaultdict

import numpy as np
from PIL import Image

DISTANCE = 3
"""Bits of 64 in which the hashes of two copies of one picture may differ."""
_BANDS = range(0, 64, 16)


def difference_hash(image: Image.Image) -> int:
    """dHash of 64 bits: of a grey copy of 9 × 8 pixels, whether each is darker than its right neighbour.

    Stays nearly the same when a picture is scaled, compressed or made lighter (Krawetz, "Kind of Like That", 2013).
    """
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = (grey[:, :-1] < grey[:, 1:]).reshape(-1)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


class FirstSeen:
    """Hashes in the order in which they come, and which of them is near one that came before.

    Two hashes at most three bits apart agree in one of four bands of 16 bits: only those that share a band are
    compared. What is near another is not kept, so that a million copies of one picture cost nothing; a row that others
    are duplicates of is never a duplicate itself. Memory: about 300 bytes for each picture that is no copy.
    """

    def __init__(self) -> None:
        self._hashes = array("Q")
        self._names: list[str] = []
        self._bands: list[dict[int, array[int]]] = [defaultdict(lambda: array("L")) for _ in _BANDS]

    def first_like(self, found: int, name: str) -> str | None:
        """The name of the first hash that is near `found`; None where there is none, and `found` is kept."""
        keys = [(found >> shift) & 0xFFFF for shift in _BANDS]
        near = [self._near(found, band.get(key)) for band, key in zip(self._bands, keys, strict=True)]
        if any(near):
            return self._names[min(filter(None, near)) - 1]
        self._hashes.append(found)
        self._names.append(name)
        for band, key in zip(self._bands, keys, strict=True):
            band[key].append(len(self._names))
        return None

    def _near(self, found: int, numbers: "array[int] | None") -> int:
        """The first of these hashes, counted from 1, that is near `found`; 0 where none is."""
        if not numbers:
            return 0
        candidates = np.array(numbers, np.int64)
        hashes = np.frombuffer(self._hashes, np.uint64)[candidates - 1]
        near = np.bitwise_count(hashes ^ np.uint64(found)) <= DISTANCE
        return int(candidates[near.argmax()]) if near.any() else 0
