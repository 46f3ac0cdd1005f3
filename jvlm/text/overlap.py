"""How much of a held-out document stands in training too, inside other documents."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jvlm.text import dedup
from jvlm.text.chunks import Chunk, Workers, read_document
from jvlm.text.duplicates import Verdicts

RUN_CHARS = 32  # shared by chance hardly ever, by quotation and repetition only


def overlapping(
    chunks: Sequence[Chunk], verdicts: Verdicts, held_out: set[int], limit: float, workers: int
) -> set[int]:
    """Numbers of the held-out documents of which more than `limit` of the runs of 32 characters stand in training.

    Runs are compared by their 64-bit hashes; those of all held-out documents are in memory.
    """
    if limit == 1 or not held_out:
        return set()
    own = {number: np.unique(_runs(read_document(chunks, number).text)) for number in sorted(held_out)}
    wanted = np.unique(np.concatenate(list(own.values())))
    if not len(wanted):
        return set()
    seen = np.zeros(len(wanted), bool)
    with Workers(min(workers, len(chunks)), _set_up, (wanted,)) as pool:
        for found in pool.run(_seen, [(chunk.folder, _trained(chunk, verdicts, held_out)) for chunk in chunks]):
            seen[found] = True
    return {
        number
        for number, runs in own.items()
        if len(runs) and seen[np.searchsorted(wanted, runs)].sum() > limit * len(runs)
    }


def _trained(chunk: Chunk, verdicts: Verdicts, held_out: set[int]) -> NDArray[np.bool_]:
    """[documents]: whether each is one to train on."""
    numbers = np.arange(chunk.start, chunk.start + len(chunk))
    trained: NDArray[np.bool_] = verdicts.stays(numbers) & ~np.isin(numbers, list(held_out))
    return trained


_wanted: NDArray[np.uint64] = np.empty(0, np.uint64)  # of this process
_sieve = dedup.Sieve(_wanted)


def _set_up(wanted: NDArray[np.uint64]) -> None:
    global _wanted, _sieve
    _wanted, _sieve = wanted, dedup.Sieve(wanted)


def _seen(task: tuple[Path, NDArray[np.bool_]]) -> NDArray[np.int64]:
    """Places in the wanted runs of those that the chunk's documents hold."""
    folder, trained = task
    found = [np.empty(0, np.int64)]
    for row, is_trained in zip(Chunk(folder, 0).rows(), trained, strict=True):
        if is_trained:
            runs = _sieve.passing(_runs(json.loads(row)["text"]))
            places = np.minimum(np.searchsorted(_wanted, runs), len(_wanted) - 1)
            found.append(places[_wanted[places] == runs])
    places = np.unique(np.concatenate(found))
    return places


def _runs(text: str) -> NDArray[np.uint64]:
    return dedup.shingle_hashes(text, RUN_CHARS) if len(text) >= RUN_CHARS else np.empty(0, np.uint64)
