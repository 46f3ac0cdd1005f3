"""Raw text → corpus: read, clean, deduplicate, hold out, mix; every removal is kept with its reason.

The work is cut into chunks (`jvlm.text.chunks`) that several processes clean and commit beside the corpus in
`NAME.work`; duplicates are found over all of them (`jvlm.text.duplicates`), and one pass writes what stays. The same
command finishes an interrupted build. Memory does not grow with the corpus but for some 20 bytes a document.
"""

import heapq
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from jvlm.errors import DataError
from jvlm.files import lock, new_folder, sha256_bytes, write_json, write_text
from jvlm.licences import note
from jvlm.text.chunks import Chunk, json_line, make_chunks, read_document
from jvlm.text.clean import ProfileName
from jvlm.text.contamination import SHARE, read_evaluation_texts
from jvlm.text.duplicates import Verdicts, find_duplicates
from jvlm.text.overlap import overlapping
from jvlm.text.raw import Document, find_files
from jvlm.text.tally import STEPS, Tally, fraction

SAMPLE = 100  # documents to look at
_FORMAT = 2  # of the chunks


class CorpusInput(BaseModel):
    """One source of text."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    path: Path
    """A `.txt`, `.jsonl`, `.jsonl.gz`, `.jsonl.zst` or `.parquet` file, or a folder of them."""
    source: str
    """Name of the source in reports and in the identity of every document."""
    weight: float = Field(1.0, ge=0)
    """How often a training document of this source is written: 0.5 takes half of them, 2 writes each twice."""
    licence: str = ""
    """Licence of documents that do not state their own."""
    profile: ProfileName = "general"
    """The rules of cleaning: general Japanese text, medical text, code, or lines of Japanese beside English."""
    any_language: bool = False
    """Keep documents that are not Japanese, such as those of an English source; otherwise they are dropped."""


class CorpusConfig(BaseModel):
    """How a corpus is built."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    inputs: list[CorpusInput] = Field(min_length=1)
    """The sources, in order of precedence: of duplicates the earlier document stays."""
    text_field: str = "text"
    """Name of the JSON field that holds the text."""
    min_chars: int = Field(20, ge=1)
    """Documents shorter than this after cleaning are dropped."""
    min_quality: float = Field(0.0, ge=0, le=1)
    """Japanese documents of the profile general that score less are dropped (`jvlm.text.quality`)."""
    near_duplicate_threshold: float = Field(0.8, gt=0, le=1)
    """Smallest Jaccard similarity of character 5-grams at which a document counts as a copy; 1 keeps near copies."""
    mask_personal: bool = False
    """Put placeholders for mail addresses, telephone numbers, house numbers and postal codes."""
    evaluation: list[Path] = []
    """Evaluation texts, files or folders of rows with `text`; what holds them is not trained on."""
    evaluation_share: float = Field(SHARE, gt=0, le=1)
    """Share of an evaluation text's runs of 13 characters at which a document is dropped."""
    held_out_share: float = Field(0.02, ge=0, lt=1)
    """Share of the unique documents kept out of training, chosen by a hash of their text."""
    held_out_overlap: float = Field(1.0, gt=0, le=1)
    """Largest share of a held-out document's runs of 32 characters that may stand in training too; one above it is
    dropped, so that what is called never seen was not seen inside another document. 1 drops none."""
    seed: int = 0
    """Seed of the duplicate search, of the choice that fractional weights make, and of what is shown of the corpus."""
    workers: int = Field(2, ge=1)
    """Processes that clean and compare; the bytes do not depend on it."""


def build_corpus(config: CorpusConfig, out: Path) -> dict[str, Any]:
    """Build a corpus folder; returns its report.

    `train.jsonl`, `held_out.jsonl` and `sample.jsonl` (documents to look at, drawn by the seed) hold rows
    `{"id", "text", "source", "licence", "path", "line"}`, `removed.jsonl` what was taken out and why, and `report.json`
    counts, examples and seconds of every step. The folder appears whole or not at all.
    Raises DataError for a missing input and when no training document is left.
    """
    started = time.perf_counter()
    files = [file for item in config.inputs for file in find_files(item.path)]
    read_evaluation_texts(config.evaluation)  # its faults are told here and not by each process
    work = Path(out).with_name(f"{Path(out).name}.work")
    with lock(work):
        _begin_or_go_on(work, config, [*files, *(file for path in config.evaluation for file in find_files(path))])
        chunks, faults = make_chunks(config, work)
        tally = Tally(config.seed)
        for fault in faults:
            tally.fault(fault)
        for chunk in chunks:
            tally.add(chunk.tally)
        with tally.timed("duplicates"):
            verdicts = find_duplicates(chunks, config.near_duplicate_threshold, config.workers, work)
        with new_folder(out) as folder:
            held_out = _held_out(chunks, verdicts, config.held_out_share)
            with tally.timed("overlap"):
                dropped = overlapping(chunks, verdicts, held_out, config.held_out_overlap, config.workers)
            with tally.timed("write"):
                origins = _write(config, chunks, verdicts, held_out, dropped, tally, folder)
            report = _report(config, tally, time.perf_counter() - started)
            report["held_out_dropped"] = len(dropped)
            report["origins"] = origins
            if not report["total"]["train"]["documents"]:
                raise DataError(
                    "the corpus is empty: no document is left for training",
                    where=", ".join(str(item.path) for item in config.inputs),
                    fix=_empty_fix(report),
                )
            write_json(folder / "report.json", report)
    shutil.rmtree(work)
    return report


def _begin_or_go_on(work: Path, config: CorpusConfig, files: Sequence[Path]) -> None:
    """Keep the chunks of the same settings and the same files, as far as size and time of change tell."""
    settings = config.model_dump(mode="json", exclude={"workers"})
    stamps = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    key = sha256_bytes(json.dumps([_FORMAT, settings, stamps]).encode())
    written = work / "key"
    if not written.is_file() or written.read_text() != key:
        for path in work.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        write_text(written, key)


def read_corpus(file: Path) -> Iterator[Document]:
    """The documents of a `train.jsonl` or `held_out.jsonl`. Raises DataError for a missing file or a bad row."""
    try:
        with open(file, encoding="utf-8") as rows:
            for number, row in enumerate(rows, 1):
                try:
                    yield Document(**json.loads(row))
                except (ValueError, TypeError):
                    where = f"{file}:{number}"
                    raise DataError("not a corpus row", where=where, fix="build the corpus again") from None
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", where=file, fix="build the corpus first") from None


def _write(
    config: CorpusConfig,
    chunks: Sequence[Chunk],
    verdicts: Verdicts,
    held_out: set[int],
    dropped: set[int],
    tally: Tally,
    folder: Path,
) -> dict[str, dict[str, int]]:
    """Write what stays and what goes, in one pass; the held-out documents in `dropped` go nowhere.

    Returns how many documents to train on there are of each source and licence.
    """
    origins: dict[str, dict[str, int]] = {}
    weights = {item.source: item.weight for item in config.inputs}
    sample: list[tuple[float, int, bytes]] = []  # the largest fraction first
    number = -1
    with (
        open(folder / "train.jsonl", "wb") as train_file,
        open(folder / "held_out.jsonl", "wb") as held_out_file,
        open(folder / "removed.jsonl", "wb") as removed_file,
    ):
        for chunk in chunks:
            removed_file.write((chunk.folder / "removed.jsonl").read_bytes())
            for line in chunk.rows():
                number += 1
                document = Document(**json.loads(line))
                chars = len(document.text)
                if duplicate := verdicts.duplicate(number):
                    of, similarity = read_document(chunks, duplicate.of).id, duplicate.similarity
                    row = tally.remove(document, duplicate.kind, document.text, of=of, similarity=similarity)
                    removed_file.write(json_line(row))
                    continue
                tally.count("unique", document.source, chars)
                if number in dropped:
                    continue
                if number in held_out:
                    tally.count("held_out", document.source, chars)
                    held_out_file.write(line)
                    continue
                for _ in range(_copies(document.text, weights[document.source], config.seed)):
                    tally.count("train", document.source, chars)
                    note(origins, document.source, document.licence)
                    train_file.write(line)
                drawn = (-fraction(document.id, f"sample {config.seed}"), number, line)
                (heapq.heappush if len(sample) < SAMPLE else heapq.heappushpop)(sample, drawn)
    (folder / "sample.jsonl").write_bytes(b"".join(line for _, _, line in sorted(sample, reverse=True)))
    return origins


def _held_out(chunks: Sequence[Chunk], verdicts: Verdicts, share: float) -> set[int]:
    """Numbers of the held-out documents. The hash knows no seed: a text keeps its side when the corpus grows.

    A share above zero holds out at least one document of two or more.
    """
    drawn = np.concatenate([np.empty(0), *(chunk.array("drawn") for chunk in chunks)])
    drawn[~verdicts.stays(slice(None))] = np.inf
    chosen = set(np.flatnonzero(drawn < share).tolist())
    if share > 0 and not chosen and np.isfinite(drawn).sum() >= 2:
        chosen = {int(drawn.argmin())}
    return chosen


def _copies(text: str, weight: float, seed: int) -> int:
    whole = int(weight)
    return whole + (fraction(text, f"weight {seed}") < weight - whole)


def _report(config: CorpusConfig, tally: Tally, seconds: float) -> dict[str, Any]:
    empty = {step: {"documents": 0, "chars": 0} for step in STEPS}
    sources = {item.source: tally.sources.get(item.source, empty) for item in config.inputs}
    total = {
        step: {unit: sum(source[step][unit] for source in sources.values()) for unit in ("documents", "chars")}
        for step in STEPS
    }
    return {
        "config": config.model_dump(mode="json"),
        "sources": sources,
        "total": total,
        "removed": dict(sorted(tally.removed.items())),
        "masked": dict(sorted(tally.masked.items())),
        "quality": dict(sorted(tally.quality.items())),  # documents by tenths of the score
        "input_errors": tally.errors,
        "step_seconds": {step: round(spent, 3) for step, spent in tally.seconds.items()},
        "seconds": round(seconds, 3),
    }


def _empty_fix(report: dict[str, Any]) -> str:
    if not report["total"]["read"]["documents"]:
        return f"the inputs hold no readable document, {len(report['input_errors'])} bad rows"
    reasons = sorted(report["removed"].items(), key=lambda item: -item[1]["documents"])
    return "removed most often for: " + (", ".join(reason for reason, _ in reasons[:3]) or "weight 0")
