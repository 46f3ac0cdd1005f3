"""The first half of a corpus build: rows cut into chunks, each cleaned by one process and committed to a folder.

A chunk is a few megabytes of consecutive rows of one input, cut by their size alone; what becomes of it depends on
nothing outside it. So any number of processes gives the same chunks, and a build that was interrupted goes on with
those that are missing. A chunk's folder holds `rows.jsonl` (documents that stay so far), `removed.jsonl`,
`tally.json`, and arrays with an entry for each document: `offsets` (int64, in bytes), `drawn` (float64, where a
document lies between 0 and 1 when some are to be held out), `digests` (uint64 [n, 2]), `bands` (uint64 [32, n]) and
`signatures` (uint32 [n, 128]).
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jvlm.errors import JvlmError
from jvlm.files import new_folder, read_json, write_json
from jvlm.process import die_with_parent, leave_interrupts_to_parent
from jvlm.text import dedup
from jvlm.text.clean import clean
from jvlm.text.contamination import EvaluationTexts, read_evaluation_texts
from jvlm.text.privacy import mask
from jvlm.text.quality import quality
from jvlm.text.raw import Document, InputError, RawRow, parse_row, place, read_rows
from jvlm.text.tally import Tally, fraction

if TYPE_CHECKING:
    from jvlm.text.corpus import CorpusConfig, CorpusInput

CHUNK_BYTES = 4 * 2**20
CONTAMINATED, HELD_OUT, LOW_QUALITY = "evaluation_text", "held out", "low_quality"
SCORED = ("general", "medical")
_HASHED_AT_ONCE = 256  # documents in one numpy call


@dataclass(frozen=True, slots=True)
class Task:
    """The rows of one chunk."""

    folder: Path
    item: "CorpusInput"
    rows: list[RawRow]


class Chunk:
    """A committed chunk, read through memory maps. `start` is the number of its first document."""

    def __init__(self, folder: Path, start: int) -> None:
        self.folder, self.start = folder, start
        self._offsets: NDArray[np.int64] = np.load(folder / "offsets.npy")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def tally(self) -> dict[str, Any]:
        record: dict[str, Any] = read_json(self.folder / "tally.json")
        return record

    def array(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode="r" if len(self) else None)
        return array

    def rows(self) -> Iterator[bytes]:
        """The lines of `rows.jsonl`."""
        with open(self.folder / "rows.jsonl", "rb") as file:
            yield from file

    def document(self, index: int) -> Document:
        """One document, by its place in the chunk."""
        with open(self.folder / "rows.jsonl", "rb") as file:
            file.seek(int(self._offsets[index]))
            return Document(**json.loads(file.read(int(self._offsets[index + 1] - self._offsets[index]))))


def read_document(chunks: Sequence[Chunk], number: int) -> Document:
    """One document, by its number over all chunks."""
    chunk = chunks[bisect_right(chunks, number, key=lambda chunk: chunk.start) - 1]
    return chunk.document(number - chunk.start)


def make_chunks(config: "CorpusConfig", work: Path) -> tuple[list[Chunk], list[InputError]]:
    """Clean every input into chunks below `work`; what is committed there already is not cleaned again.

    Returns the chunks and the files that could not be read to their end.
    """
    folders: list[Path] = []
    sizes: list[int] = []
    faults: list[InputError] = []
    with Workers(config.workers, _set_up, (config,)) as workers:
        for _ in workers.run(_clean_chunk, _missing(_tasks(config, work, faults), folders)):
            pass
    chunks: list[Chunk] = []
    for folder in folders:
        chunks.append(Chunk(folder, sum(sizes)))
        sizes.append(len(chunks[-1]))
    return chunks, faults


def _missing(tasks: Iterable[Task], folders: list[Path]) -> Iterator[Task]:
    for task in tasks:
        folders.append(task.folder)
        if not task.folder.is_dir():
            yield task


def _tasks(config: "CorpusConfig", work: Path, faults: list[InputError]) -> Iterator[Task]:
    number = 0
    for item in config.inputs:
        rows: list[RawRow] = []
        size = 0
        for row in read_rows(item.path, faults):
            rows.append(row)
            size += len(row.content) if isinstance(row.content, bytes) else len(str(row.content.get(config.text_field)))
            if size >= CHUNK_BYTES:
                yield Task(work / f"{number:06d}", item, rows)
                number, rows, size = number + 1, [], 0
        if rows:
            yield Task(work / f"{number:06d}", item, rows)
            number += 1


class _Cleaner:
    """What a process needs for every chunk."""

    def __init__(self, config: "CorpusConfig") -> None:
        self.config = config
        self.evaluation: EvaluationTexts = read_evaluation_texts(config.evaluation)
        self.minhash = dedup.MinHash(config.seed)


_cleaner: _Cleaner | None = None  # of this process


def _set_up(config: "CorpusConfig") -> None:
    global _cleaner
    _cleaner = _Cleaner(config)


def _clean_chunk(task: Task) -> None:
    assert _cleaner is not None
    tally = Tally(_cleaner.config.seed)
    with new_folder(task.folder) as folder:
        with open(folder / "removed.jsonl", "wb") as removed:
            documents = list(_cleaned(_cleaner, task, tally, removed.write))
        offsets = [0]
        with open(folder / "rows.jsonl", "wb") as rows:
            for document in documents:
                offsets.append(offsets[-1] + rows.write(json_line(_fields(document))))
        with tally.timed("hash"):
            signatures, digests = _hashes(_cleaner.minhash, [document.text for document in documents])
        np.save(folder / "offsets.npy", np.array(offsets, np.int64))
        np.save(folder / "drawn.npy", np.array([fraction(document.text, HELD_OUT) for document in documents], float))
        np.save(folder / "digests.npy", digests)
        np.save(folder / "signatures.npy", signatures)
        np.save(folder / "bands.npy", dedup.band_keys(signatures))
        write_json(folder / "tally.json", tally.record())


def _cleaned(cleaner: _Cleaner, task: Task, tally: Tally, write: Any) -> Iterator[Document]:
    config, item = cleaner.config, task.item
    for row in task.rows:
        try:
            with tally.timed("read"):
                raw = parse_row(row, item.source, licence=item.licence, text_field=config.text_field)
        except ValueError as error:
            tally.fault(InputError(place(row), str(error)))
            continue
        tally.count("read", raw.source, len(raw.text))
        with tally.timed("clean"):
            result = clean(raw.text, min_chars=config.min_chars, any_language=item.any_language, profile=item.profile)
        for removal in result.removals:
            write(json_line(tally.remove(raw, removal.reason, removal.text, line=removal.line)))
        if result.text is None:
            continue
        text = result.text
        if config.mask_personal:
            with tally.timed("mask"):
                text, found = mask(text)
            for name, number in found.items():
                tally.masked[name] = tally.masked.get(name, 0) + number
        with tally.timed("contamination"):
            held = cleaner.evaluation.find(text, config.evaluation_share)
        if held:
            write(json_line(tally.remove(raw, CONTAMINATED, text, of=held[0], similarity=held[1])))
            continue
        if item.profile in SCORED and not item.any_language:
            with tally.timed("quality"):
                score = quality(text)
            tally.score(raw.source, score)
            if item.profile == "general" and score < config.min_quality:
                write(json_line(tally.remove(raw, LOW_QUALITY, text)))
                continue
        tally.count("clean", raw.source, len(text))
        yield Document(raw.id, text, raw.source, raw.licence, raw.path, raw.line)


def _hashes(minhash: dedup.MinHash, texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
    signatures = [np.empty((0, dedup.NUM_HASHES), np.uint32)]
    digests = b""
    for start in range(0, len(texts), _HASHED_AT_ONCE):
        batch = [dedup.folded(text) for text in texts[start : start + _HASHED_AT_ONCE]]
        signatures.append(minhash.signatures([dedup.shingle_hashes(text) for text in batch]))
        digests += b"".join(map(dedup.digest, batch))
    return np.concatenate(signatures), np.frombuffer(digests, "<u8").astype(np.uint64).reshape(-1, 2)


def json_line(row: dict[str, Any]) -> bytes:
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()


def _fields(document: Document) -> dict[str, Any]:
    return {name: getattr(document, name) for name in Document.__slots__}


class Workers:
    """Processes that run one function over many tasks, a few tasks ahead; with one worker, this process does it."""

    def __init__(self, number: int, set_up: Any, arguments: tuple[Any, ...]) -> None:
        self.number = number
        self._pool: ProcessPoolExecutor | None = None
        if number == 1:
            set_up(*arguments)
        else:
            self._pool = ProcessPoolExecutor(number, get_context("spawn"), _begin, (set_up, arguments))

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, function: Any, tasks: Iterable[Any]) -> Iterator[Any]:
        """Results in the order of the tasks."""
        if self._pool is None:
            yield from map(function, tasks)
            return
        ahead: list[Future[Any]] = []
        try:
            for task in tasks:
                ahead.append(self._pool.submit(function, task))
                if len(ahead) > 2 * self.number:
                    yield ahead.pop(0).result()
            for future in ahead:
                yield future.result()
        except BrokenProcessPool:
            fix = "it may have run out of memory: set fewer workers; the same command goes on from there"
            raise JvlmError("a worker process died", fix=fix) from None


def _begin(set_up: Any, arguments: tuple[Any, ...]) -> None:
    die_with_parent()
    leave_interrupts_to_parent()
    set_up(*arguments)
