"""Which questions stood in the training text: runs of 50 characters, after NFKC and without white space.

One run in common flags a question: 50 characters are not shared by chance. A question shorter than that cannot be
looked for, and is said to be so.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jvlm.errors import DataError
from jvlm.eval.items import ExamItem
from jvlm.eval.task_items import TaskItem
from jvlm.images.shards import ShardReader
from jvlm.text.dedup import Shingles, Sieve, shingle_hashes
from jvlm.text.raw import InputError, read_documents
from jvlm.text.shards import TokenShards
from jvlm.text.tokenizer import Tokenizer

RUN = 50


@dataclass
class Leak:
    """How many of a question's different runs stand in training, and in which documents first (at most three)."""

    runs: int
    found: int = 0
    documents: list[str] = field(default_factory=list)


def leaks(questions: Iterable[tuple[str, str]], documents: Iterable[tuple[str, str]]) -> dict[str, Leak]:
    """Every question looked for in every document; both as (id, text). `runs` 0: too short to be looked for."""
    runs = {identity: np.unique(_runs(text)) for identity, text in questions}
    flat = np.concatenate([np.empty(0, np.uint64), *runs.values()])
    owners = np.repeat(np.arange(len(runs)), [len(hashes) for hashes in runs.values()])
    order = np.argsort(flat, kind="stable")
    flat, owners = flat[order], owners[order]
    found = {identity: Leak(len(hashes)) for identity, hashes in runs.items()}
    by_number = list(found.values())
    seen, sieve = np.zeros(len(flat), bool), Sieve(flat)
    for name, text in documents if len(flat) else ():
        passing = np.unique(sieve.passing(_runs(text)))
        first, last = (np.searchsorted(flat, passing, side) for side in ("left", "right"))
        places = [place for start, stop in zip(first, last, strict=True) for place in range(start, stop)]
        seen[places] = True
        for number in sorted(set(owners[places].tolist())):
            if len(by_number[number].documents) < 3:
                by_number[number].documents.append(name)
    for number, count in enumerate(np.bincount(owners[seen], minlength=len(by_number)).tolist()):
        by_number[number].found = count
    return found


def told(leaked: Mapping[str, Leak], ids: Iterable[str]) -> dict[str, Any]:
    """What results say of questions: how many, `flagged` by id, and how many are `too_short` to be looked for."""
    found = {identity: leaked[identity] for identity in ids}
    flagged = {identity: asdict(leak) for identity, leak in found.items() if leak.found}
    return {"n": len(found), "flagged": flagged, "too_short": sum(leak.runs == 0 for leak in found.values())}


def question_text(item: ExamItem | TaskItem) -> str:
    """What of an item is looked for: case, question and options, as a page would print them; never the answer."""
    if isinstance(item, TaskItem):
        return "".join([*item.fields.values(), *item.choices])
    return "".join([item.shared_text, item.stem, *(option.text for option in item.options)])


def training_documents(paths: Iterable[Path], tokenizer: Tokenizer | None = None) -> Iterator[tuple[str, str]]:
    """(id, text) of everything in training data: raw text, shards of samples, or token shards.

    Args:
        paths: each a file or folder that the corpus is built from, a folder of sample shards, or one of token shards.
        tokenizer: what the token shards were made with.

    Raises DataError for what cannot be read: text that is not looked at is text that may hold the exam.
    """
    for path in map(Path, paths):
        if (path / "dataset.json").is_file():
            reader = ShardReader(path)
            for number in range(len(reader)):
                yield reader.ids[number], "\n".join(_texts(reader.record(number)))
        elif (path / "offsets.npy").is_file():
            shards = TokenShards(path)
            if tokenizer is None:
                raise DataError("token shards need their tokenizer to be read", where=path, fix="name the raw text")
            shards.check(tokenizer)
            for number in range(shards.num_documents):
                yield str(shards.identity(number)["id"]), tokenizer.decode(shards.tokens(number).tolist())
        else:
            errors: list[InputError] = []
            for document in read_documents(path, path.name, errors):
                yield document.id, document.text
            if errors:
                raise DataError(errors[0].what, where=errors[0].where, fix=f"{len(errors)} rows cannot be read")


def _texts(record: dict[str, Any]) -> Iterator[str]:
    for message in [*record.get("messages", []), *(record.get("rejected") or [])]:
        yield from (part for part in message["content"] if isinstance(part, str))


def _runs(text: str) -> Shingles:
    folded = "".join(unicodedata.normalize("NFKC", text).split())
    return shingle_hashes(folded, RUN) if len(folded) >= RUN else np.empty(0, np.uint64)
