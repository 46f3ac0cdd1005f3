"""Builds the recipe's input from a folder of real data: text, image shards, exam records, loose images.

The folder holds ``text/``, ``en_text/`` and ``medical_text/`` (``NAME.jsonl.zst``), ``images/`` and
``medical_images/`` (``NAME.jsonl`` beside ``NAME/``), and ``evals/`` (published exams). What cannot be used is
listed in ``errors.jsonl`` and the build goes on. Each part appears whole or not at all. A build starts afresh: it takes
half a minute.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jvlm_data.exam_records import Entry, finish, write_exam
from jvlm_data.real import questions
from jvlm_data.real.pictures import Picture, read_pictures, splits
from jvlm_data.real.texts import write_sources
from jvlm_data.rows import Fault, nothing_usable, read_rows, text, value

from jvlm.errors import DataError, UsageError
from jvlm.eval.items import load_items
from jvlm.files import append_json_line, new_folder, read_json_lines, sha256_file, write_bytes, write_text
from jvlm.images.shards import write_shards
from jvlm.sample import Sample
from jvlm.text.contamination import SHARE, EvaluationTexts, read_evaluation_texts

LAYOUT = "text/, en_text/, medical_text/ (NAME.jsonl.zst), images/, medical_images/ (NAME.jsonl beside NAME/), evals/"
FOLDER_IMAGES = 48
Row = dict[str, Any]
_COMMONSENSE = "jglue/datasets/jcommonsenseqa-v1.3"
_GENERAL, _MEDICAL, _GROCERY = "images/*.jsonl", "medical_images/*.jsonl", "images/grocery_store.jsonl"
_SOURCES = {
    "captions_train": _GENERAL, "captions_val": _GENERAL, "captions_test": _GENERAL, "instruct_train": _GENERAL,
    "naming_train": _GROCERY, "naming_test": _GROCERY, "counting_test": "medical_images/bccd.jsonl",
    "vqa_rad_test": "medical_images/vqa_rad.jsonl", "medical_pages": _MEDICAL, "medical_training": _MEDICAL,
}  # fmt: skip
_NEVER_TRAINED = ("captions_val", "naming_test", "counting_test", "vqa_rad_test")


@dataclass(frozen=True)
class RealConfig:
    """Where the data lies and how much of each text source is taken, in characters."""

    root: Path
    source_chars: int
    english_chars: int
    medical_chars: int


def build(config: RealConfig, out: Path, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Build every part, in the place of an earlier one; returns the counts of each and the number of faults.

    Leaves ``text/general/SOURCE.jsonl``, ``text/medical.jsonl``, ``shards/SET/``, ``exam/NAME/items.jsonl`` and
    ``evaluation.jsonl`` (their questions), ``folder/`` and ``errors.jsonl``. Raises UsageError when `root` is no
    folder, DataError when a part is empty.
    """
    root = config.root
    if not root.is_dir():
        raise UsageError("no folder of data", where=root, fix=f"put there {LAYOUT}")
    faults: list[Fault] = []
    counts: dict[str, Any] = {"exam": _exams(root / "evals", out / "exam", faults)}
    _evaluation_texts(out / "exam", out / "evaluation.jsonl")
    counts["text"] = _texts(config, out / "text", read_evaluation_texts([out / "evaluation.jsonl"]), faults)
    say(f"text: {sum(counts['text'].values()):,} characters of {len(counts['text'])} sources")
    general = read_pictures(root / "images", faults, captioned=True)
    medical = read_pictures(root / "medical_images", faults, captioned=False)
    if not general or not medical:
        raise nothing_usable(root, faults, LAYOUT)
    split = splits([*general, *medical])
    for name, samples in _sets(general, medical, split, faults).items():
        counts[name] = _shards(samples, out / "shards" / name, faults)
        say(f"shards/{name}: {counts[name]:,} samples")
    _loose_images([p for p in general if split[p.sha256] == "test"], out / "folder")
    counts["differs_from_card"] = _differences(root)
    (out / "errors.jsonl").unlink(missing_ok=True)
    for fault in faults:
        append_json_line(out / "errors.jsonl", fault)
    counts["errors"] = len(faults)
    counts["faults"] = _by_kind(faults)
    say(f"{len(faults)} faults, {counts['differs_from_card']} files differ from the card")
    return counts


def _by_kind(faults: list[Fault]) -> list[dict[str, Any]]:
    """Faults of the same words counted, the most frequent first, each with its first place."""
    first = {fault["error"]: fault["where"] for fault in reversed(faults)}
    kinds = Counter(fault["error"] for fault in faults).most_common()
    return [{"error": error, "n": n, "first": first[error]} for error, n in kinds]


def _texts(config: RealConfig, out: Path, evaluation: EvaluationTexts, faults: list[Fault]) -> dict[str, int]:
    """The text of every source; the general one is kept from evaluation texts by the corpus, the medical one here."""

    def files(folder: str) -> list[Path]:
        found = sorted((config.root / folder).glob("*.jsonl.zst"))
        if not found:
            raise DataError("no .jsonl.zst file", where=config.root / folder, fix=f"put there {LAYOUT}")
        return found

    japanese, english, medical = files("text"), files("en_text"), files("medical_text")
    if both := {path.name for path in japanese} & {path.name for path in english}:
        raise DataError(f"two sources are called {min(both)}", where=config.root, fix="rename that of en_text/")
    with new_folder(out) as folder:
        (folder / "general").mkdir()
        (folder / "medical").mkdir()
        counts = write_sources(japanese, folder / "general", config.source_chars, "ja", faults)
        counts |= write_sources(english, folder / "general", config.english_chars, "en", faults)
        counts |= write_sources(medical, folder / "medical", config.medical_chars, "ja", faults)
        rows = [row for path in sorted((folder / "medical").glob("*.jsonl")) for row in read_json_lines(path)]
        _write_rows(folder / "medical.jsonl", _without(evaluation, rows, faults))
    return counts


def _without(evaluation: EvaluationTexts, rows: list[Row], faults: list[Fault]) -> Iterator[Row]:
    """The documents that hold no question; the others are faults."""
    for row in rows:
        if held := evaluation.find(row["text"], SHARE):
            faults.append({"where": f"medical_text/{row['id']}", "error": f"holds the question {held[0]}"})
        else:
            yield row


def _sets(
    general: list[Picture], medical: list[Picture], split: dict[str, str], faults: list[Fault]
) -> dict[str, list[Sample]]:
    """The samples of every image set. No picture that a test set shows stands in a training set."""

    def part(pictures: Iterable[Picture], name: str, source: str | None = None) -> list[Picture]:
        return [p for p in pictures if split[p.sha256] == name and source in (None, p.source)]

    answered = []
    for picture in medical:
        if picture.source == "vqa_rad":
            try:
                text(picture.row, "question"), text(picture.row, "answer")
            except DataError as error:
                faults.append({"where": picture.where, "error": error.what})
                continue
        answered.append(picture)
    asked = _unique(questions.general_questions(part(general, "train")))
    radiology = part(answered, "train", "vqa_rad")
    shown = [p for p in answered if p.source == "vqa_rad" and p.row.get("split") == "test"]
    return {
        "captions_train": [questions.caption_sample(p) for p in part(general, "train")],
        "captions_val": [questions.caption_sample(p) for p in part(general, "val")],
        "captions_test": [questions.caption_sample(p) for p in part(general, "test")],
        "instruct_train": [s for s in asked if s.meta["kind"] != "naming"]
        + _unique(questions.medical_questions(radiology)),
        "naming_train": [s for s in asked if s.meta["kind"] == "naming"],
        "naming_test": [questions.naming_question(p) for p in part(general, "test", "grocery_store")],
        "counting_test": [s for p in part(answered, "test", "bccd") for s in questions.counting_questions(p)],
        "vqa_rad_test": _unique(map(questions.radiology_question, shown)),
        "medical_pages": [questions.medical_page(p) for p in part(answered, "train") if p.caption],
        "medical_training": _unique(questions.medical_questions(part(answered, "train"))),
    }


def _unique(samples: Iterable[Sample]) -> list[Sample]:
    """The first of every id: manifests repeat rows."""
    return list({sample.id: sample for sample in samples}.values())


def _shards(samples: list[Sample], out: Path, faults: list[Fault]) -> int:
    """Write a set; an empty one that nobody trains on is a fault, another raises DataError."""
    shutil.rmtree(out, ignore_errors=True)
    if not samples:
        source = f"{_SOURCES[out.name]} holds no usable picture of this set"
        if out.name not in _NEVER_TRAINED:
            raise DataError("nothing usable for a set of pictures", where=out.name, fix=f"{source}: put some there")
        faults.append({"where": out.name, "error": source})
        return 0
    write_shards(iter(samples), out)
    return len(samples)


def _exams(source: Path, out: Path, faults: list[Fault]) -> dict[str, int]:
    """Exam records of each set that `source` holds; one that is absent is a fault, as are questions left out."""
    from jvlm_data.clinical_lab.convert import convert as clinical_lab
    from jvlm_data.igakuqa119.convert import convert as igakuqa119

    shutil.rmtree(out, ignore_errors=True)
    found = {}
    for name, folder, convert in (
        ("igakuqa119", source / "igakuqa119", igakuqa119),
        ("clinical_lab", source / "clinical_lab", clinical_lab),
        ("jcommonsenseqa", source / _COMMONSENSE, _commonsense),
    ):
        if not folder.is_dir():
            faults.append({"where": str(folder.relative_to(source.parent)), "error": "no such folder"})
            continue
        try:
            found[name] = convert(folder, out / name)["items"]
        except DataError as error:
            faults.append({"where": str(folder.relative_to(source.parent)), "error": f"{error.what}; {error.fix}"})
            continue
        for fault in read_json_lines(out / name / "errors.jsonl"):
            faults.append(fault | {"where": f"{folder.relative_to(source.parent)}/{fault['where']}"})
    return found


def _evaluation_texts(exams: Path, out: Path) -> None:
    """The questions of every exam, for the corpus to keep away from."""
    items = (item for path in sorted(exams.glob("*/items.jsonl")) for item in load_items(path))
    rows = ({"id": item.id, "text": f"{item.shared_text}{item.stem}"} for item in items)
    _write_rows(out, (row for row in rows if row["text"].strip()))


def _write_rows(path: Path, rows: Iterable[Row]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _commonsense(source: Path, out: Path) -> dict[str, int]:
    """JCommonsenseQA's validation questions (its test labels were long unpublished, so scores are told on these)."""
    faults: list[Fault] = []
    entries: list[Entry] = []
    for path in sorted(source.glob("valid*.json*")):
        for where, row in read_rows(path, source, faults):
            try:
                choices = [text(row, f"choice{i}") for i in range(5)]
                gold, number = value(row, "label", int), value(row, "q_id", int)
                if not 0 <= gold < len(choices):
                    raise DataError(f"label {gold} names no choice")
                record = {
                    "id": f"jcommonsenseqa-{number}", "exam": "jcommonsenseqa", "section": "valid", "number": number,
                    "group_id": f"jcommonsenseqa-{number}", "stem": text(row, "question"), "shared_text": "",
                    "options": [{"label": "abcde"[i], "text": t, "image": None} for i, t in enumerate(choices)],
                    "images": [], "n_select": 1, "accept": [["abcde"[gold]]],
                    "excluded": "none", "points": 1, "required": False, "kinki": [],
                    "source": "github.com/yahoojapan/JGLUE", "tags": [],
                }  # fmt: skip
                entries.append(finish(record, {}))
            except DataError as error:
                faults.append({"where": where, "error": error.what})
    return write_exam(out, entries, faults, source)


def _loose_images(pictures: list[Picture], out: Path) -> None:
    """The first held-out pictures by hash, as a user's folder would hold them."""
    chosen = sorted({p.sha256: p for p in pictures}.values(), key=lambda p: p.sha256)[:FOLDER_IMAGES]
    with new_folder(out) as folder:
        for number, picture in enumerate(chosen):
            write_bytes(folder / f"image-{number:03d}{picture.path.suffix}", picture.path.read_bytes())


def _differences(root: Path) -> int:
    """Files of the card that are absent here or have another hash: another edition, not a fault."""
    card = yaml.safe_load((Path(__file__).parent / "card.yaml").read_text(encoding="utf-8"))
    paths: Iterator[tuple[Path, str]] = ((root / f["path"], f["sha256"]) for f in card["sources"])
    return sum(not path.is_file() or sha256_file(path) != digest for path, digest in paths)
