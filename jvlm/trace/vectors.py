"""Nearest vectors by cosine: FAISS, inverted files of eight-bit codes that stay on the disk.

They are made and kept in blocks of so many vectors, which share their lists and are read through memory maps; the lists
are chosen by a sample of limited size. So neither making nor asking them takes more memory for a larger corpus.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from jvlm.errors import DataError
from jvlm.train.order import spread

BLOCK, _ADDED_AT_ONCE = 2**15, 2**11  # vectors
MOST_LISTS, TRAINED_ON = 256, 64  # lists; vectors for each that they are chosen by
_LEAST_LOOKED_AT, _LOOKED_AT = 16, 0.25  # lists of a query: at least so many, and this share of them

VectorsOf = Callable[[NDArray[np.int64]], NDArray[np.float32]]


def write_vectors(folder: Path, count: int, vectors_of: VectorsOf) -> None:
    """Index `count` > 0 vectors of length one; `vectors_of(numbers)` gives those of some numbers, [n, dimensions]."""
    folder.mkdir()
    empty = _trained(count, vectors_of)
    for begin in range(0, count, BLOCK):
        end = min(begin + BLOCK, count)
        block = faiss.clone_index(empty)
        for start in range(begin, end, _ADDED_AT_ONCE):
            numbers = np.arange(start, min(start + _ADDED_AT_ONCE, end))
            block.add_with_ids(vectors_of(numbers), numbers)
        faiss.write_index(block, str(folder / f"block-{begin // BLOCK:06d}.faiss"))


def _trained(count: int, vectors_of: VectorsOf) -> Any:
    """An index without vectors, whose lists are chosen."""
    lists = min(MOST_LISTS, max(1, round(count**0.5)))
    sample = vectors_of(np.array(spread(count, TRAINED_ON * lists)))
    empty: Any = faiss.index_factory(sample.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    empty.cp.min_points_per_centroid = 1  # a small set is no reason for a warning
    empty.train(sample)
    return empty


class Vectors:
    """Searches what `write_vectors` wrote. Raises DataError when FAISS cannot read it."""

    def __init__(self, folder: Path) -> None:
        self._blocks: list[Any]
        try:
            self._blocks = [faiss.read_index(str(file), faiss.IO_FLAG_MMAP) for file in sorted(folder.iterdir())]
        except RuntimeError as error:
            first = str(error).splitlines()[0]
            raise DataError(f"unreadable vectors: {first}", where=folder, fix="build the index again") from None
        for block in self._blocks:
            block.nprobe = max(_LEAST_LOOKED_AT, round(_LOOKED_AT * block.nlist))

    def nearest(self, vector: NDArray[np.float32], limit: int) -> list[tuple[int, float]]:
        """(number, cosine) of those nearest to a vector [dimensions] of length one, the nearest first."""
        found: list[tuple[int, float]] = []
        for block in self._blocks:
            similarities, numbers = block.search(vector[None], limit)
            found += zip(numbers[0].tolist(), similarities[0].tolist(), strict=True)
        found = [(number, similarity) for number, similarity in found if number >= 0]
        return sorted(found, key=lambda one: (-one[1], one[0]))[:limit]
