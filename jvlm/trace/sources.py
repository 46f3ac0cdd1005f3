"""Records out of training data: files of text, and shards of samples."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from jvlm.errors import DataError
from jvlm.images.shards import ShardReader, open_shards
from jvlm.images.shards.format import CARD
from jvlm.sample import Message, Sample
from jvlm.text.raw import Document, InputError, find_files, read_documents
from jvlm.trace.types import Record, Seen

SeenAt = Callable[[int], tuple[Seen, ...]]
"""When record `number` of a set was seen."""


def never(number: int) -> tuple[Seen, ...]:
    """For data of which no run is known."""
    return ()


def source_records(paths: Sequence[Path]) -> Iterator[Record]:
    """The records of text files, of folders of them, and of folders of shards.

    Raises DataError for what is none of these, and for a row that cannot be read.
    """
    for path in paths:
        if (path / CARD).is_file():
            yield from shard_records(open_shards(path), path.name, never)
            continue
        for file in find_files(path):
            errors: list[InputError] = []
            yield from document_records(read_documents(file, file.name.split(".")[0], errors), never)
            if errors:
                fix = f"{len(errors)} rows cannot be read; mend them or build a corpus of it first"
                raise DataError(errors[0].what, where=errors[0].where, fix=fix)


def document_records(documents: Iterator[Document], seen: SeenAt) -> Iterator[Record]:
    """A record for each document; copies that follow one another, as the corpus writes them, are one."""
    for _, copies in groupby(enumerate(documents), key=lambda item: (item[1].id, item[1].text)):
        numbers, found = zip(*copies, strict=True)
        stages = merged([stage for number in numbers for stage in seen(number)])
        yield Record(found[0].id, found[0].text, found[0].source, found[0].licence, stages)


def shard_records(shards: ShardReader, name: str, seen: SeenAt) -> Iterator[Record]:
    """A record for each sample: what is trained on of its text, its pictures, and the shards' licence if it has none.

    The set's name is the source of a sample that names none.
    """
    licence = str(shards.card.get("licence") or "")
    for number in range(len(shards)):
        sample = shards.read(number)
        source, own = str(sample.meta.get("source") or name), str(sample.meta.get("licence") or licence)
        yield Record(f"{name}/{sample.id}", _trained_text(sample), source, own, seen(number), sample.images)


def merged(stages: Sequence[Seen]) -> tuple[Seen, ...]:
    """One entry a stage, in order; copies seen in the same step count twice in `times`."""
    found: dict[str, Seen] = {}
    for seen in stages:
        if seen.stage in found:
            one = found[seen.stage]
            first, last = min(one.first, seen.first), max(one.last, seen.last)
            seen = Seen(seen.stage, first, last, one.times + seen.times)
        found[seen.stage] = seen
    return tuple(found.values())


def _trained_text(sample: Sample) -> str:
    def told(message: Message) -> bool:
        return message.role in ("assistant", "document") and bool(message.text.strip())

    return "\n".join(message.text for message in sample.messages if told(message))
