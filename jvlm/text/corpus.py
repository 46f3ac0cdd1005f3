"""Raw text → corpus: read, clean, deduplicate, hold out, mix; every removal is kept with its reason.

The texts kept stay in memory while the run lasts (two bytes a character, see `dedup`); all else is streamed.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jvlm.errors import DataError
from jvlm.files import new_folder, write_json
from jvlm.text.clean import clean
from jvlm.text.contamination import SHARE, read_evaluation_texts
from jvlm.text.dedup import Deduplicator
from jvlm.text.privacy import mask
from jvlm.text.raw import Document, InputError, read_documents

EXAMPLES_PER_REASON = 5
EXCERPT_CHARS = 160
CONTAMINATED = "evaluation_text"
RUN_CHARS = 32  # shared by chance hardly ever, by quotation and repetition only
_STEPS = ("read", "clean", "unique", "train", "held_out")


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
    """Seed of the duplicate search and of the choice that fractional weights make."""


class _Tally:
    """Documents and characters per source and step, removals per reason with a few examples."""

    def __init__(self, sources: Iterable[str]) -> None:
        self.sources = {s: {step: {"documents": 0, "chars": 0} for step in _STEPS} for s in sources}
        self.removed: dict[str, dict[str, Any]] = {}
        self.masked: Counter[str] = Counter()

    def count(self, step: str, source: str, text: str) -> None:
        cell = self.sources[source][step]
        cell["documents"] += 1
        cell["chars"] += len(text)

    def remove(self, document: Document, reason: str, text: str, line: int | None, extra: dict[str, Any]) -> str:
        """Count one removal; returns its line for `removed.jsonl`. `line` None means the whole document."""
        row: dict[str, Any] = {"id": document.id, "source": document.source, "reason": reason, "line": line}
        row |= {"excerpt": text[:EXCERPT_CHARS], "chars": len(text)} | extra
        total = self.removed.setdefault(reason, {"documents": 0, "lines": 0, "chars": 0, "examples": []})
        total["documents" if line is None else "lines"] += 1
        total["chars"] += len(text)
        if len(total["examples"]) < EXAMPLES_PER_REASON:
            total["examples"].append(row)
        return json.dumps(row, ensure_ascii=False) + "\n"


def build_corpus(config: CorpusConfig, out: Path) -> dict[str, Any]:
    """Build a corpus folder: `train.jsonl`, `held_out.jsonl`, `removed.jsonl`, `report.json`; returns the report.

    Rows of the first two are `{"id", "text", "source", "licence", "path", "line"}`. The folder appears whole or not
    at all. Raises DataError for a missing input and when no training document is left.
    """
    started = time.perf_counter()
    errors: list[InputError] = []
    tally = _Tally(item.source for item in config.inputs)
    with new_folder(out) as folder:
        with open(folder / "removed.jsonl", "w", encoding="utf-8") as removed:
            unique: list[Document] = []
            deduplicator = Deduplicator(config.near_duplicate_threshold, config.seed)
            for document, duplicate in deduplicator.filter(_cleaned(config, tally, errors, removed.write)):
                if duplicate is None:
                    tally.count("unique", document.source, document.text)
                    unique.append(document)
                    continue
                extra = {"of": duplicate.of, "similarity": round(duplicate.similarity, 4)}
                removed.write(tally.remove(document, duplicate.kind, document.text, None, extra))
        held_out = _held_out_ids(unique, config.held_out_share)
        seen_elsewhere = _overlapping(unique, held_out, config.held_out_overlap)
        with (
            open(folder / "train.jsonl", "w", encoding="utf-8") as train_file,
            open(folder / "held_out.jsonl", "w", encoding="utf-8") as held_out_file,
        ):
            weights = {item.source: item.weight for item in config.inputs}
            for index, document in enumerate(unique):
                if index in seen_elsewhere:
                    continue
                row = json.dumps(_row(document), ensure_ascii=False) + "\n"
                if index in held_out:
                    tally.count("held_out", document.source, document.text)
                    held_out_file.write(row)
                    continue
                for _ in range(_copies(document.text, weights[document.source], config.seed)):
                    tally.count("train", document.source, document.text)
                    train_file.write(row)
        report = _report(config, tally, errors, time.perf_counter() - started)
        report["held_out_dropped"] = len(seen_elsewhere)
        if not report["total"]["train"]["documents"]:
            raise DataError(
                "the corpus is empty: no document is left for training",
                where=", ".join(str(item.path) for item in config.inputs),
                fix=_empty_fix(report),
            )
        write_json(folder / "report.json", report)
    return report


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


def _cleaned(config: CorpusConfig, tally: _Tally, errors: list[InputError], write: Any) -> Iterator[Document]:
    evaluation = read_evaluation_texts(config.evaluation)
    for item in config.inputs:
        for raw in read_documents(item.path, item.source, errors, licence=item.licence, text_field=config.text_field):
            tally.count("read", raw.source, raw.text)
            result = clean(raw.text, min_chars=config.min_chars, any_language=item.any_language)
            for removal in result.removals:
                write(tally.remove(raw, removal.reason, removal.text, removal.line, {}))
            if result.text is None:
                continue
            text = result.text
            if config.mask_personal:
                text, found = mask(text)
                tally.masked.update(found)
            if held := evaluation.find(text, config.evaluation_share):
                extra = {"of": held[0], "similarity": round(held[1], 4)}
                write(tally.remove(raw, CONTAMINATED, text, None, extra))
                continue
            tally.count("clean", raw.source, text)
            yield Document(raw.id, text, raw.source, raw.licence, raw.path, raw.line)


def _fraction(text: str, salt: str) -> float:
    """A number in [0, 1) that depends on the text and the salt alone."""
    return int.from_bytes(hashlib.sha256(f"{salt}\n{text}".encode()).digest()[:8], "big") / 2**64


def _held_out_ids(documents: list[Document], share: float) -> set[int]:
    """Places of the held-out documents. The hash knows no seed: a text keeps its side when the corpus grows.

    A share above zero holds out at least one document of two or more.
    """
    fractions = [_fraction(document.text, "held out") for document in documents]
    chosen = {index for index, fraction in enumerate(fractions) if fraction < share}
    if share > 0 and not chosen and len(documents) >= 2:
        chosen = {min(range(len(fractions)), key=fractions.__getitem__)}
    return chosen


def _overlapping(documents: list[Document], held_out: set[int], limit: float) -> set[int]:
    """Places of the held-out documents of which more than `limit` of the runs of 32 characters stand in training."""
    if limit == 1:
        return set()
    runs = {index: set(_runs(documents[index].text)) for index in held_out}
    wanted = set().union(*runs.values())
    seen: set[str] = set()
    for index, document in enumerate(documents):
        if index not in held_out:
            seen.update(run for run in _runs(document.text) if run in wanted)
    return {index for index, own in runs.items() if own and len(own & seen) > limit * len(own)}


def _runs(text: str) -> Iterator[str]:
    return (text[start : start + RUN_CHARS] for start in range(len(text) - RUN_CHARS + 1))


def _copies(text: str, weight: float, seed: int) -> int:
    whole = int(weight)
    return whole + (_fraction(text, f"weight {seed}") < weight - whole)


def _row(document: Document) -> dict[str, Any]:
    return {name: getattr(document, name) for name in Document.__slots__}


def _report(config: CorpusConfig, tally: _Tally, errors: list[InputError], seconds: float) -> dict[str, Any]:
    total = {
        step: {unit: sum(source[step][unit] for source in tally.sources.values()) for unit in ("documents", "chars")}
        for step in _STEPS
    }
    return {
        "config": config.model_dump(mode="json"),
        "sources": tally.sources,
        "total": total,
        "removed": dict(sorted(tally.removed.items())),
        "masked": dict(sorted(tally.masked.items())),
        "input_errors": [{"where": error.where, "what": error.what} for error in errors],
        "seconds": round(seconds, 3),
    }


def _empty_fix(report: dict[str, Any]) -> str:
    if not report["total"]["read"]["documents"]:
        return f"the inputs hold no readable document, {len(report['input_errors'])} bad rows"
    reasons = sorted(report["removed"].items(), key=lambda item: -item[1]["documents"])
    return "removed most often for: " + (", ".join(reason for reason, _ in reasons[:3]) or "weight 0")
