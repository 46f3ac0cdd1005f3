"""Exact and near duplicates within and across sources, over chunks on disk; the earlier document stays.

Documents that share a digest are copies. Documents that share a band of their signatures are candidates; those whose
signatures agree enough are compared by the exact Jaccard similarity of their character 5-grams, and the later one goes
when it reaches the threshold and the earlier one stays itself.

Memory: keys are gone through in parts of a fixed size, candidates in groups of documents, texts are read from disk;
what grows with the corpus is 13 bytes a document for the verdicts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jvlm.text import dedup
from jvlm.text.chunks import Chunk, Workers, read_document

EXACT, NEAR = "exact_duplicate", "near_duplicate"
_SLACK = 0.15  # > 3 standard deviations of a similarity estimated from 128 hashes
_PART = 2**22  # documents whose keys are sorted at once
_GROUP = 2**16  # documents whose candidates are held at once
_SLICE = 2**11  # documents compared at once; what they remove need not be compared with later
_ESTIMATED_AT_ONCE = 2**15  # pairs
_COMPARED_AT_ONCE = 64  # documents of one task
_MOST = 64  # earliest documents of a band that a later one is compared with

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """`kind` is EXACT or NEAR; `of` is the number of the document that stays; `similarity` their 5-gram Jaccard."""

    kind: str
    of: int
    similarity: float


class Verdicts:
    """Which documents stay, by their number over all chunks."""

    def __init__(self, documents: int) -> None:
        self._of = np.full(documents, -1, np.int64)
        self._similarity = np.zeros(documents, np.float32)
        self._exact = np.zeros(documents, bool)

    def stays(self, numbers: Any) -> NDArray[np.bool_]:
        stays: NDArray[np.bool_] = self._of[numbers] < 0
        return stays

    def copy(self, numbers: Numbers, of: Numbers) -> None:
        self._of[numbers], self._similarity[numbers], self._exact[numbers] = of, 1.0, True

    def near(self, number: int, of: int, similarity: float) -> None:
        self._of[number], self._similarity[number] = of, similarity

    def duplicate(self, number: int) -> Duplicate | None:
        """What a document duplicates. A copy of one that is itself a near duplicate is one of what that one is of."""
        of = int(self._of[number])
        if of < 0:
            return None
        if (first := int(self._of[of])) >= 0:
            return Duplicate(NEAR, first, float(self._similarity[of]))
        return Duplicate(EXACT if self._exact[number] else NEAR, of, float(self._similarity[number]))


def find_duplicates(chunks: Sequence[Chunk], threshold: float, workers: int, work: Path) -> Verdicts:
    """Judge every document. `work` is a folder for candidates, which may be large."""
    total = sum(map(len, chunks))
    verdicts = Verdicts(total)
    for numbers, (high, low) in _parts(chunks, "digests", total):
        order = np.lexsort((numbers, low, high))
        numbers, high, low = numbers[order], high[order], low[order]
        first = _first_of_equals((high[1:] == high[:-1]) & (low[1:] == low[:-1]))
        copies = first != np.arange(len(first))
        verdicts.copy(numbers[copies], numbers[first[copies]])
    if threshold >= 1:
        return verdicts
    spool = _Spool(work, total)
    for band in range(dedup.BANDS):
        for numbers, (keys,) in _parts(chunks, "bands", total, band):
            unique = verdicts.stays(numbers)
            spool.add(_pairs(numbers[unique], keys[unique]))
    folders = [(chunk.folder, chunk.start) for chunk in chunks]
    with Workers(workers, _set_up, (folders,)) as pool:
        for pairs in spool.groups():
            _judge(pairs, chunks, verdicts, threshold, pool)
    return verdicts


def _parts(
    chunks: Sequence[Chunk], name: str, total: int, band: int | None = None
) -> Iterator[tuple[Numbers, list[NDArray[np.uint64]]]]:
    """Numbers and key columns of all documents, those of equal keys together, in parts of about `_PART` documents."""
    parts = -(-total // _PART)
    for part in range(parts):
        numbers, keys = [], []
        for chunk in chunks:
            array = chunk.array(name)
            columns = array[band][None] if band is not None else np.asarray(array).T
            here = np.flatnonzero(columns[0] % np.uint64(parts) == part)
            numbers.append(here + chunk.start)
            keys.append(columns[:, here])
        if numbers:
            yield np.concatenate(numbers), list(np.concatenate(keys, axis=1))


def _first_of_equals(same: NDArray[np.bool_]) -> Numbers:
    """[n]: for each place the first of its run, where `same` [n - 1] says that a place equals the one before."""
    starts = np.concatenate([[True], ~same])
    return np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))


def _pairs(numbers: Numbers, keys: NDArray[np.uint64]) -> Numbers:
    """[pairs, 2]: (later, earlier) documents of the same key; of each key's documents the earliest `_MOST` count."""
    if not len(numbers):
        return np.empty((0, 2), np.int64)
    order = np.lexsort((numbers, keys))
    numbers, keys = numbers[order], keys[order]
    first = _first_of_equals(keys[1:] == keys[:-1])
    rank = np.arange(len(first)) - first
    found = []
    for back in range(min(int(rank.max()), _MOST)):
        later = np.flatnonzero(rank > back)
        found.append(np.stack([numbers[later], numbers[first[later] + back]], axis=1))
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)


class _Spool:
    """Pairs on disk, by groups of `_GROUP` later documents."""

    def __init__(self, folder: Path, total: int) -> None:
        self._files = [folder / f"pairs-{group:05d}.bin" for group in range(-(-total // _GROUP))]
        for file in self._files:
            file.unlink(missing_ok=True)

    def add(self, pairs: Numbers) -> None:
        group = pairs[:, 0] // _GROUP
        for number in np.unique(group):
            with open(self._files[number], "ab") as file:
                file.write(pairs[group == number].tobytes())

    def groups(self) -> Iterator[Numbers]:
        """[pairs, 2] of each group, sorted, each pair once."""
        for file in self._files:
            if file.exists():
                yield np.unique(np.fromfile(file, np.int64).reshape(-1, 2), axis=0)
                file.unlink()


def _judge(pairs: Numbers, chunks: Sequence[Chunk], verdicts: Verdicts, threshold: float, pool: Workers) -> None:
    begin = 0
    while begin < len(pairs):
        last = pairs[begin, 0] // _SLICE * _SLICE + _SLICE
        end = int(np.searchsorted(pairs[:, 0], last))
        part = pairs[begin:end]
        part = part[verdicts.stays(part[:, 1])]
        estimates = _estimates(part, chunks)
        near = estimates >= threshold - _SLACK
        part, estimates = part[near], estimates[near]
        order = np.lexsort((part[:, 1], -estimates, part[:, 0]))  # the likeliest first
        part = part[order]
        later, starts = np.unique(part[:, 0], return_index=True)
        candidates = [group[:, 1].tolist() for group in np.split(part, starts[1:])] if len(part) else []
        tasks = [
            _Comparison(int(number), others, threshold, int(last) - _SLICE)
            for number, others in zip(later, candidates, strict=True)
        ]
        batches = [tasks[i : i + _COMPARED_AT_ONCE] for i in range(0, len(tasks), _COMPARED_AT_ONCE)]
        for task, similarities in zip(tasks, chain.from_iterable(pool.run(_compare, batches)), strict=True):
            for other, similarity in zip(task.others, similarities, strict=False):
                if similarity >= threshold and verdicts.stays(other):
                    verdicts.near(task.number, other, similarity)
                    break
        begin = end


def _estimates(pairs: Numbers, chunks: Sequence[Chunk]) -> NDArray[np.float64]:
    """[pairs]: share of the signatures' entries that agree."""
    numbers, places = np.unique(pairs, return_inverse=True)
    starts = np.array([chunk.start for chunk in chunks])
    owner = np.searchsorted(starts, numbers, side="right") - 1
    signatures = np.empty((len(numbers), dedup.NUM_HASHES), np.uint32)
    for which in np.unique(owner):
        here = owner == which
        signatures[here] = chunks[which].array("signatures")[numbers[here] - chunks[which].start]
    places = places.reshape(-1, 2)
    estimates = [np.empty(0)]
    for start in range(0, len(places), _ESTIMATED_AT_ONCE):
        first, second = places[start : start + _ESTIMATED_AT_ONCE].T
        estimates.append((signatures[first] == signatures[second]).mean(1))
    return np.concatenate(estimates)


_chunks: list[Chunk] = []  # of this process


def _set_up(folders: list[tuple[Path, int]]) -> None:
    _chunks[:] = [Chunk(folder, start) for folder, start in folders]
    _grams.cache_clear()


@lru_cache(maxsize=1024)
def _grams(number: int) -> dedup.Shingles:
    text = read_document(_chunks, number).text
    grams: dedup.Shingles = np.unique(dedup.shingle_hashes(dedup.folded(text)))
    return grams


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A document and those it may duplicate, the likeliest first. Those below `settled` are known to stay."""

    number: int
    others: list[int]
    threshold: float
    settled: int


def _compare(batch: list[_Comparison]) -> list[list[float]]:
    return [_similarities(task) for task in batch]


def _similarities(task: _Comparison) -> list[float]:
    """Similarities in order, up to the first that decides."""
    found: list[float] = []
    for other in task.others:
        found.append(dedup.jaccard_of(_grams(task.number), _grams(other)))
        if found[-1] >= task.threshold and other < task.settled:
            break
    return found
