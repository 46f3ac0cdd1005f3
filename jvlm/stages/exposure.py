"""What a run trained on, and in which steps of which stage it saw each document and sample.

The account is that of the data order itself: the rows of each stage, as `jvlm.train.curriculum.walk` goes through them,
and the pairs of each batch of CLIP. Preference pairs, the model's own answers, are left out.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from jvlm.config import load_config
from jvlm.errors import DataError
from jvlm.images.shards import ShardReader
from jvlm.model.directory import load_processor
from jvlm.recipe import Recipe, stage_record
from jvlm.settings import Phase
from jvlm.stages.context import StageContext
from jvlm.stages.vision_language import phase_mixture, phase_rows
from jvlm.text.corpus import read_corpus
from jvlm.text.raw import Document, read_documents
from jvlm.text.shards import TokenShards
from jvlm.trace.sources import document_records, shard_records
from jvlm.trace.types import Record, Seen
from jvlm.train.curriculum import Curriculum, text_curriculum, walk
from jvlm.train.pairs import PairOrder
from jvlm.train.source import ImageSamples, Mixture, SampleSet, TokenDocuments

GENERAL, MEDICAL = "general", "medical"
Set = ShardReader | TokenShards
STAGES = ("pretrain", "clip", "align", "pretrain_vl", "instruct", "medical")


class Account:
    """The steps in which a stage saw what it saw."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._sets: dict[str, np.ndarray] = {}  # by name [records, 3]: first and last step, number of steps

    def note(self, name: str, size: int, number: int, step: int) -> None:
        """That `step` saw record `number` of a set of `size` records; steps come in order."""
        if name not in self._sets:
            self._sets[name] = np.full((size, 3), [-1, -1, 0], np.int32)
        row = self._sets[name][number]
        if row[1] != step:
            row[:] = row[0] if row[2] else step, step, row[2] + 1

    def seen(self, name: str, number: int) -> tuple[Seen, ...]:
        """Of record `number` of a set; nothing when the stage never saw it."""
        if name not in self._sets or not self._sets[name][number, 2]:
            return ()
        first, last, times = (int(value) for value in self._sets[name][number])
        return (Seen(self.stage, first, last, times),)


class Exposure:
    """The stages of a run that are done: what they read, and when."""

    def __init__(self, run: Path, recipe: Recipe) -> None:
        self.accounts: list[Account] = []
        self.sets: dict[str, Set] = {}
        for stage in STAGES:
            context = StageContext(run, stage, recipe)
            if context.config is None or stage_record(run, stage) is None:
                continue
            if stage == "pretrain":
                self._pretrain(context)
            elif stage == "clip":
                self._clip(context)
            elif stage in ("align", "pretrain_vl"):
                self._phase(context, stage, context.config)
            else:
                for name, phase in context.config.folders.items():
                    self._phase(context, f"{stage}/{name}", phase)

    def seen(self, name: str, number: int) -> tuple[Seen, ...]:
        """When each stage saw record `number` of a set."""
        return tuple(seen for account in self.accounts for seen in account.seen(name, number))

    def _pretrain(self, context: StageContext) -> None:
        config, shards = context.config, TokenShards(context.folder / "tokens")
        processor, steps = load_processor(context.folder / "model"), config.loop.steps
        rows = text_curriculum(config.phases, config.packing, steps, shards, processor, context.recipe.seed)
        self._walk("pretrain", rows, config.packing.rows, steps)

    def _clip(self, context: StageContext) -> None:
        config, account = context.config, Account("clip")
        name = self._name(shards := ShardReader(context.shards / "captions_train"))
        order = PairOrder.of(shards, config.batch_size, context.recipe.seed, config.source_block)
        for step in range(config.loop.steps):
            for number in order.numbers(step):
                account.note(name, len(shards), int(number), step)
        self.accounts.append(account)

    def _phase(self, context: StageContext, stage: str, phase: Phase) -> None:
        processor = load_processor(context.run / stage / "model")
        mixture = phase_mixture(context, phase, processor)
        rows = Curriculum([phase_rows(context, phase, mixture, processor)], [0])
        self._walk(stage, rows, phase.packing.rows, phase.loop.steps)

    def _walk(self, stage: str, rows: Curriculum, rows_per_step: int, steps: int) -> None:
        account = Account(stage)
        for sighting, data, sample in walk(rows, rows_per_step, steps):
            found, number = _record_of(data, sample)
            size = len(found) if isinstance(found, ShardReader) else found.num_documents
            account.note(self._name(found), size, number, sighting.step)
        self.accounts.append(account)

    def _name(self, found: Set) -> str:
        """The name of a set, the same for all stages: the cleaned corpus is tokenised by each that reads it."""
        if isinstance(found, ShardReader):
            name = found.location
        else:
            name = MEDICAL if found.folder.name == f"tokens-{MEDICAL}" else GENERAL
        self.sets.setdefault(name, found)
        return name


def run_records(run: Path) -> Iterator[Record]:
    """The documents and samples of every stage of a run that is done, with the steps that saw them.

    Those that no step saw, because the steps ended before their turn, are left out.
    Raises DataError when no such stage is done, or the text is not that of the training.
    """
    exposure = Exposure(run, load_config(Recipe, run / "recipe.yaml"))
    if not exposure.accounts:
        raise DataError("no training stage of this run is done", where=run, fix="run the recipe first")
    for name, found in exposure.sets.items():
        seen = partial(exposure.seen, name)
        if isinstance(found, ShardReader):
            records = shard_records(found, found.folder.name, seen)
        else:
            records = document_records(_checked(found, _documents(run, name)), seen)
        yield from (record for record in records if record.seen)


def _record_of(data: SampleSet, sample: int) -> tuple[Set, int]:
    """The set that a sample was read from, and the number of its record there."""
    inner, number = data.locate(sample) if isinstance(data, Mixture) else (data, sample)
    if isinstance(inner, ImageSamples):
        return inner.shards, int(inner.numbers[number])
    assert isinstance(inner, TokenDocuments)
    return inner.shards, int(inner.document[number])


def _documents(run: Path, name: str) -> Iterator[Document]:
    if name == GENERAL:
        return read_corpus(run / "corpus" / "text" / "train.jsonl")
    return read_documents(run / "data" / "text" / "medical.jsonl", "medical", [])


def _checked(shards: TokenShards, documents: Iterator[Document]) -> Iterator[Document]:
    """The documents, which must be those of the token shards."""
    number = -1
    for number, document in enumerate(documents):
        if number >= shards.num_documents or shards.identity(number)["id"] != document.id:
            break
        yield document
    else:
        if number + 1 == shards.num_documents:
            return
    fix = "the text was built again after the training: name the run that trained on it"
    raise DataError("not the documents that were trained on", where=shards.folder, fix=fix)
