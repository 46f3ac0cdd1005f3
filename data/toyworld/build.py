"""Builds the whole toy world into a folder: text, image shards, exam papers, and loose images to caption.

Each part is committed as a whole with a card of what made it; a part whose card still matches is kept, so an
interrupted build goes on where it stopped. The bytes do not depend on the number of workers.
"""

import json
import multiprocessing.pool
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jvlm_data.toyworld import corpus, dialogues, dirt, exam, exam_training, general, medicine, pages

from jvlm.errors import DataError
from jvlm.files import new_folder, read_json, sha256_bytes, verify_folder, write_bytes, write_json
from jvlm.images.shards import write_shards
from jvlm.process import leave_interrupts_to_parent
from jvlm.sample import Sample

CARD = "card.json"
DIRT_RATE = 0.12
_CHUNK = 100  # samples a worker makes at a time

Card = dict[str, Any]


@dataclass(frozen=True)
class ToyworldConfig:
    """What to build: counts are samples, `_per_kind` samples of each kind of question, `text_bytes` bytes of UTF-8
    before dirt is added, `image_size` pixels a side."""

    seed: int = 0
    image_size: int = 64
    text_bytes: int = 3_000_000
    captions_train: int = 12_000
    captions_val: int = 200
    captions_test: int = 500
    captions_compositional: int = 400
    singles_train: int = 4_000
    attributes_train: int = 8_000
    look_ups_train: int = 8_000
    instruct_train: int = 12_000
    pages_train: int = 200
    vqa_val_per_kind: int = 40
    vqa_test_per_kind: int = 160
    preference_pool: int = 1_500
    medical_pages: int = 1_500
    medical_training: int = 5_000
    dialogues_train: int = 1_000
    dialogue_pairs: int = 500
    textbook_editions: int = 12
    case_reports: int = 600
    exam_test: int = 480
    exam_twohop: int = 60
    caption_folder: int = 48
    workers: int = 2

    @property
    def set_sizes(self) -> dict[str, int]:
        """Samples of every set, by the name of its shard folder."""
        kinds = len(general.VQA_KINDS)
        return {
            "captions_train": self.captions_train,
            "captions_val": self.captions_val,
            "captions_test": self.captions_test,
            "captions_compositional": self.captions_compositional,
            "singles_train": self.singles_train,
            "attributes_train": self.attributes_train,
            "look_ups_train": self.look_ups_train,
            "instruct_train": self.instruct_train,
            "pages_train": self.pages_train,
            "vqa_val": self.vqa_val_per_kind * kinds,
            "vqa_test": self.vqa_test_per_kind * kinds,
            "preference_pool": self.preference_pool,
            "medical_pages": self.medical_pages,
            "medical_training": self.medical_training,
            "dialogues_train": self.dialogues_train,
            "dialogue_pairs": self.dialogue_pairs,
        }


def make_sample(set_name: str, seed: int, index: int, size: int) -> Sample:
    """Sample `index` of any set."""
    if set_name == pages.SET_NAME:
        return pages.page(seed, index, size)
    if set_name == "medical_pages":
        return medicine.image_page(seed, index, size)
    if set_name == "medical_training":
        return exam_training.training_item(seed, index, size)
    if set_name in dialogues.SET_NAMES:
        return dialogues.make(set_name, seed, index)
    return general.make(set_name, seed, index, size)


def build(config: ToyworldConfig, out: Path, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Build every part that is not there yet; returns the counts of each part.

    Leaves `text/{general,dirt,medical}.jsonl`, `shards/SET/`, `exam/{test,twohop}.jsonl` with `exam/images/*.png`,
    and `folder/*.jpg`. Raises JvlmError when the disk does not take it.
    """
    out = Path(out)
    with _Makers(config.workers) as makers:
        parts: list[_Part] = [
            _Part("text", ("text_bytes", "textbook_editions", "case_reports"), _build_text),
            _Part("exam", ("exam_test", "exam_twohop", "image_size"), _build_exam),
            _Part("folder", ("caption_folder", "image_size"), _build_folder),
        ]
        parts += [_Part(f"shards/{name}", ("image_size",), _build_set(name, makers)) for name in config.set_sizes]
        return {part.name: _ensure(part, config, out, say) for part in parts}


@dataclass(frozen=True)
class _Part:
    """A folder, the settings it depends on besides the seed, and what fills it and returns its counts."""

    name: str
    settings: tuple[str, ...]
    fill: Callable[[ToyworldConfig, Path], dict[str, int]]


def _ensure(part: _Part, config: ToyworldConfig, out: Path, say: Callable[[str], None]) -> dict[str, int]:
    folder = out / part.name
    made_from = {name: getattr(config, name) for name in ("seed", *part.settings)}
    made_from |= {"samples": config.set_sizes.get(folder.name), "code": _code_fingerprint()}
    fingerprint = sha256_bytes(json.dumps([part.name, made_from]).encode())
    card = _finished(folder, fingerprint)
    if card is not None:
        say(f"{part.name}: already there")
        return dict(card["counts"])
    start = time.monotonic()
    counts = part.fill(config, folder)
    # last of all: a part without a matching card is built anew
    write_json(folder / CARD, {"fingerprint": fingerprint, "made_from": made_from, "counts": counts})
    listed = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    say(f"{part.name}: {listed}, {time.monotonic() - start:.1f} s")
    return counts


def _finished(folder: Path, fingerprint: str) -> Card | None:
    """The card of a part that is whole and was made from the same settings by the same code."""
    try:
        card = read_json(folder / CARD)
        if card["fingerprint"] != fingerprint:
            return None
        verify_folder(folder)
    except (DataError, KeyError, TypeError):
        return None
    return dict(card)


@cache
def _code_fingerprint() -> str:
    """Changes with the generator's source, so that no part made by older code is kept."""
    here = Path(__file__).parent
    return sha256_bytes(b"".join(path.read_bytes() for path in sorted(here.glob("*.py"))))


def _write_lines(path: Path, records: Iterable[dict[str, Any]]) -> int:
    count = 0
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return count


def _build_text(config: ToyworldConfig, folder: Path) -> dict[str, int]:
    truth: list[dict[str, Any]] = []

    def general_text() -> Iterator[dict[str, Any]]:
        for record, planted in dirt.with_dirt(corpus.documents(config.seed, config.text_bytes), config.seed, DIRT_RATE):
            if planted is not None:
                truth.append(planted)
            yield record

    def medical_text() -> Iterator[dict[str, Any]]:
        yield from medicine.textbook(config.seed, config.textbook_editions)
        yield from medicine.case_reports(config.seed, config.case_reports)

    with new_folder(folder) as aside:
        documents = _write_lines(aside / "general.jsonl", general_text())
        dirty = _write_lines(aside / "dirt.jsonl", truth)
        medical = _write_lines(aside / "medical.jsonl", medical_text())
    return {"documents": documents, "dirty": dirty, "medical documents": medical}


def _build_exam(config: ToyworldConfig, folder: Path) -> dict[str, int]:
    papers = {
        "test": exam.exam_test(config.seed, config.exam_test, config.image_size),
        "twohop": exam.exam_twohop_unseen(config.seed, config.exam_twohop, config.image_size),
    }
    with new_folder(folder) as aside:
        (aside / "images").mkdir()
        for name, entries in papers.items():
            _write_lines(aside / f"{name}.jsonl", (item for item, _ in entries))
            for image, data in {image: data for _, images in entries for image, data in images.items()}.items():
                (aside / image).write_bytes(data)
    return {f"questions in {name}": len(entries) for name, entries in papers.items()}


def _build_folder(config: ToyworldConfig, folder: Path) -> dict[str, int]:
    """Loose images, as a user's folder would hold them; none of them stands in a set used for training."""
    with new_folder(folder) as aside:
        for index in range(config.caption_folder):
            sample = general.make("captions_val", config.seed, index, config.image_size)
            write_bytes(aside / f"image-{index:03d}.jpg", sample.images[0].read())
    return {"images": config.caption_folder}


def _build_set(name: str, makers: "_Makers") -> Callable[[ToyworldConfig, Path], dict[str, int]]:
    def fill(config: ToyworldConfig, folder: Path) -> dict[str, int]:
        samples = makers.samples(name, config.seed, config.set_sizes[name], config.image_size)
        card = write_shards(samples, folder)
        return {"samples": card["num_samples"], "images": card["num_images"]}

    return fill


Chunk = tuple[str, int, int, int, int]  # set, seed, first index, one past the last, size


class _Makers:
    """Worker processes that make samples, started when first needed; one worker works in this process."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: multiprocessing.pool.Pool | None = None

    def __enter__(self) -> "_Makers":
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()

    def samples(self, set_name: str, seed: int, count: int, size: int) -> Iterator[Sample]:
        """The samples of a set in order, whatever the number of workers."""
        chunks = [(set_name, seed, first, min(first + _CHUNK, count), size) for first in range(0, count, _CHUNK)]
        if self.workers == 1 or len(chunks) == 1:
            made: Iterable[list[Sample]] = map(_make_chunk, chunks)
        else:
            if self._pool is None:  # spawn: forking a process that has threads may deadlock
                self._pool = multiprocessing.get_context("spawn").Pool(self.workers, leave_interrupts_to_parent)
            made = self._pool.imap(_make_chunk, chunks)
        for samples in made:
            yield from samples


def _make_chunk(chunk: Chunk) -> list[Sample]:
    set_name, seed, first, end, size = chunk
    return [make_sample(set_name, seed, index, size) for index in range(first, end)]
