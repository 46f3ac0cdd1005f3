"""Several streams of rows one after another: the phases of a training that is one schedule."""

from collections.abc import Container, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from jvlm.errors import UsageError
from jvlm.model.packed import PackedBatch, pack
from jvlm.train.source import PackedRows


class Curriculum:
    """Rows by number, counted over all phases; phase `i` begins at row `starts[i]` with its own row 0.

    Like each phase's order, a pure function of the number: nothing is stored in a checkpoint but the step.
    Raises UsageError unless the phases begin at 0 and one after another.
    """

    def __init__(self, phases: Sequence[PackedRows], starts: Sequence[int]) -> None:
        if not starts or starts[0] != 0 or any(a >= b for a, b in pairwise(starts)):
            raise UsageError(f"phases at rows {list(starts)}", fix="the first begins at 0, each other after the last")
        self.phases, self.starts = list(phases), list(starts)

    @property
    def fingerprint(self) -> str:
        """Of the data, the seeds and where each phase begins."""
        return ", then ".join(
            f"{phase.fingerprint} from row {start}" if start else phase.fingerprint
            for phase, start in zip(self.phases, self.starts, strict=True)
        )

    def locate(self, number: int) -> tuple[int, int]:
        """The phase of row `number`, and its number within the phase."""
        which = int(np.searchsorted(self.starts, number, side="right")) - 1
        return which, number - self.starts[which]

    def batch(self, numbers: Sequence[int]) -> PackedBatch:
        """The named rows as tensors."""
        located = [self.locate(number) for number in numbers]
        first = self.phases[0]
        return pack([self.phases[i].examples(row) for i, row in located], first.row_length, first.pad_id)


class Sighting(NamedTuple):
    """Training step `step` (from 0) saw `tokens` tokens of a document, in row `row` of the stream."""

    step: int
    row: int
    tokens: int


def sightings(rows: Curriculum, documents: Container[int], rows_per_step: int, steps: int) -> list[Sighting]:
    """Where the first `steps` steps saw any of these documents (numbers in the token shards), in order."""
    found = []
    for number in range(steps * rows_per_step):
        which, row = rows.locate(number)
        phase = rows.phases[which]
        for piece in phase.row(row):
            if phase.data.document_of(piece.sample) in documents:
                found.append(Sighting(number // rows_per_step, number, piece.stop - piece.start))
    return found
