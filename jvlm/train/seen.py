"""From a sample back to the steps that saw it: the order of training is a pure function, and this is its inverse."""

from collections.abc import Container
from typing import NamedTuple

from jvlm.train.source import PackedRows


class Sighting(NamedTuple):
    """Training step `step` (from 0) saw `tokens` tokens of a sample, in row `row` of the stream."""

    step: int
    row: int
    tokens: int


def sightings(rows: PackedRows, samples: Container[int], rows_per_step: int, steps: int) -> list[Sighting]:
    """Where the first `steps` steps saw any of these samples (numbers in the data set), in order."""
    return [
        Sighting(number // rows_per_step, number, piece.stop - piece.start)
        for number in range(steps * rows_per_step)
        for piece in rows.row(number)
        if piece.sample in samples
    ]
