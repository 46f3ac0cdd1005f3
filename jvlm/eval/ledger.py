"""`samples.jsonl`: what models said, record by record; what stands there is not asked again."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jvlm import files
from jvlm.sample import Sample

Record = dict[str, Any]
FILE = "samples.jsonl"


class Ledger:
    """The records of one model's task and arm, in the order of the questions asked.

    A record counts only for the very same question under the same settings: text, images and generation limits
    are hashed into its `asked`, so records left by other data or another prompt are never taken for these. What another
    task of the same model and arm has asked in the very same way is not asked again.
    """

    def __init__(
        self, out: Path, model: str, task: str, arm: str, questions: Sequence[Sample], settings: Sequence[str]
    ) -> None:
        self.path = Path(out) / FILE
        self.questions = questions
        self._task, self._key = task, {"model": model, "arm": arm}
        self._asked = [_question_hash(question, how) for question, how in zip(questions, settings, strict=True)]
        known = {record["asked"]: record for record in files.read_json_lines(self.path) if self._mine(record)}
        self._records: list[Record | None] = [known.get(asked) for asked in self._asked]

    @property
    def missing(self) -> list[int]:
        return [i for i, record in enumerate(self._records) if record is None]

    def add(self, i: int, fields: Record) -> None:
        """Write the answer to question `i`; its id, text and hash are added."""
        question = self.questions[i]
        record = {
            "id": question.id,
            "task": self._task,
            **self._key,
            "question": question.messages[-1].text,
            **fields,
            "asked": self._asked[i],
        }
        files.append_json_line(self.path, record)
        self._records[i] = record

    @property
    def records(self) -> list[Record]:
        """One record per question; only to be called when none is missing."""
        records = [record for record in self._records if record is not None]
        assert len(records) == len(self._records)
        return records

    def _mine(self, record: Record) -> bool:
        return all(record.get(key) == value for key, value in self._key.items())


def _question_hash(question: Sample, settings: str) -> str:
    turns = [(message.role, message.content) for message in question.messages]
    total = hashlib.sha256(repr((question.id, turns, settings)).encode())
    for image in question.images:
        total.update(hashlib.sha256(image.read()).digest())
    return total.hexdigest()[:16]
