"""Several streams of rows one after another: the phases of a training that is one schedule."""

from collections.abc import Container, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from jvlm.errors import UsageError
from jvlm.model.packed import PackedBatch, pack
from jvlm.model.processor import Processor
from jvlm.text.shards import TokenShards
from jvlm.train.config import PackingConfig, TextPhase
from jvlm.train.source import Mixture, PackedRows, SampleSet, TokenDocuments


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

    def views(self) -> np.ndarray:
        """Number of views of pictures in each row of the first phase's first epoch."""
        return self.phases[0].views()

    def batch(self, numbers: Sequence[int]) -> PackedBatch:
        """The named rows as tensors."""
        located = [self.locate(number) for number in numbers]
        first = self.phases[0]
        return pack([self.phases[i].examples(row) for i, row in located], first.row_length, first.pad_id)


def text_curriculum(
    phases: Sequence[TextPhase],
    packing: PackingConfig,
    steps: int,
    shards: TokenShards,
    processor: Processor,
    seed: int,
) -> Curriculum:
    """The rows of all phases. Raises UsageError for a phase out of order or beyond the last step."""
    starts = [round(phase.from_token / (packing.rows * packing.row_length)) for phase in phases]
    if starts[-1] >= steps:
        fix = f"the last of {steps} steps comes before it: lower from_token or raise loop.steps"
        raise UsageError(f"a phase begins at step {starts[-1]}", where="pretrain.phases", fix=fix)
    rows = [PackedRows(_mixture(phase, shards, processor), packing.row_length, seed, processor.pad) for phase in phases]
    return Curriculum(rows, [start * packing.rows for start in starts])


def _mixture(phase: TextPhase, shards: TokenShards, processor: Processor) -> SampleSet:
    if not phase.sources:
        return TokenDocuments(shards, processor)
    sets = [TokenDocuments(shards, processor, source=source) for source in phase.sources]
    return Mixture(sets, list(phase.sources.values()))


class Sighting(NamedTuple):
    """Training step `step` (from 0) saw `tokens` tokens of a document, in row `row` of the stream."""

    step: int
    row: int
    tokens: int


def walk(rows: Curriculum, rows_per_step: int, steps: int) -> Iterator[tuple[Sighting, SampleSet, int]]:
    """All that the first `steps` steps see, in order: where, and which sample, by its set and number."""
    for number in range(steps * rows_per_step):
        which, row = rows.locate(number)
        phase = rows.phases[which]
        for piece in phase.row(row):
            yield Sighting(number // rows_per_step, number, piece.stop - piece.start), phase.data, piece.sample


def sightings(rows: Curriculum, documents: Container[int], rows_per_step: int, steps: int) -> list[Sighting]:
    """Where the first `steps` steps saw any of these documents (numbers in the token shards), in order."""
    return [seen for seen, data, sample in walk(rows, rows_per_step, steps) if data.document_of(sample) in documents]
