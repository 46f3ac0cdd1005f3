"""The ledger of samples whose pictures could not be decoded, and how many of them a training bears."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jvlm.errors import DataError
from jvlm.files import append_json_line, read_json_lines
from jvlm.train.world import World

HANDFUL = 5  # so many are borne however few were seen


class Undecoded:
    """Counts samples seen and samples that failed, of all processes together; each is written to `ledger` once."""

    def __init__(self, ledger: Path, budget: float, world: World) -> None:
        """`budget`: the share of the samples seen that may fail."""
        self.ledger, self.budget, self.world = ledger, budget, world
        self.seen = self.failed = 0

    def note(self, batches: Sequence[Any]) -> None:
        """Count a step's batches. Every process calls it; raises DataError on all when too many have failed."""
        failures = [failure for batch in batches for failure in batch.undecoded]
        ids = {sample_id for batch in batches for sample_id in batch.sample_ids} | {name for name, _ in failures}
        seen, failed = self.world.sum([len(ids), len(failures)])
        self.seen, self.failed = self.seen + int(seen), self.failed + int(failed)
        if not failed:
            return
        for sample_id, error in (failure for own in self.world.gather(failures) for failure in own):
            if self.world.is_first and sample_id not in self._written:
                append_json_line(self.ledger, {"id": sample_id, "error": error})
                self._written.add(sample_id)
        if self.failed > max(HANDFUL, self.budget * self.seen):
            raise DataError(
                f"{self.failed} of {self.seen} samples could not be decoded, more than {self.budget:.1%}",
                where=self.ledger,
                fix="mend the samples listed there, or raise loop.undecoded",
            )

    @cached_property
    def _written(self) -> set[str]:
        return {record["id"] for record in read_json_lines(self.ledger)}
