"""The only packer: which samples share a row of one fixed length, planned from lengths alone.

Documents are concatenated and split, so no token is lost and no row has a hole; a document that a row boundary
cuts goes on in the next row as a document of its own. Samples (conversations with images) are never cut: best-fit
places each in the fullest row it fits, within a look-ahead so that order stays nearly random.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jvlm.errors import DataError


class Piece(NamedTuple):
    """Tokens ``start:stop`` of one sample."""

    sample: int
    start: int
    stop: int


Row = list[Piece]


def plan_documents(lengths: np.ndarray, order: Iterable[int], row_length: int) -> list[Row]:
    """Concatenate-and-split. The last, partly filled row is kept."""
    rows: list[Row] = [[]]
    room = row_length
    for sample in order:
        start, length = 0, int(lengths[sample])
        while start < length:
            if room == 0:
                rows.append([])
                room = row_length
            stop = min(length, start + room)
            rows[-1].append(Piece(int(sample), start, stop))
            room -= stop - start
            start = stop
    return [row for row in rows if row]


def plan_samples(lengths: np.ndarray, order: Iterable[int], row_length: int, look_ahead: int = 512) -> list[Row]:
    """Best-fit-decreasing within windows of `look_ahead` samples; a window's rows come in the order of their first one.

    The emptiest row that a window opened stays open for the next window, and for that one alone if it opens another:
    else half a row would stay empty per window, which is a tenth of all where samples are short.
    Raises DataError when a sample is longer than a row: it is never cut.
    """
    order = [int(i) for i in order]
    place = {sample: i for i, sample in enumerate(order)}
    rows: list[list[int]] = []
    opened: list[list[int]] = []
    for begin in range(0, len(order), look_ahead):
        kept = len(opened)
        rooms = [(row_length - sum(int(lengths[s]) for s in row), i) for i, row in enumerate(opened)]  # sorted
        for sample in sorted(order[begin : begin + look_ahead], key=lambda s: (-int(lengths[s]), place[s])):
            length = int(lengths[sample])
            if length > row_length:
                raise DataError(
                    f"sample {sample} takes {length} tokens, a row has {row_length}", fix="raise row_length"
                )
            at = bisect_left(rooms, (length, -1))
            if at == len(rooms):
                opened.append([])
                room, row = row_length, len(opened) - 1
            else:
                room, row = rooms.pop(at)
            opened[row].append(sample)
            insort(rooms, (room - length, row))
        emptiest = next((row for _, row in reversed(rooms) if row >= kept), 0)
        left = opened.pop(emptiest)
        rows += _in_order(opened, place)
        opened = [left]
    rows += _in_order(opened, place)
    return [[Piece(sample, 0, int(lengths[sample])) for sample in row] for row in rows]


def _in_order(rows: list[list[int]], place: dict[int, int]) -> list[list[int]]:
    return sorted((sorted(row, key=place.__getitem__) for row in rows), key=lambda row: place[row[0]])
