"""The corpus build on real text: speed, memory and seconds of every step; and near duplicates known to be some.

The text is that of a folder of real data (`text/`, `en_text/`, `medical_text/`); every step is on. HojiChar and
datatrove do the same beside it where they are installed.
"""

import json
import resource
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from jvlm.errors import UsageError
from jvlm.files import read_json_lines
from jvlm.text.clean import clean
from jvlm.text.corpus import CorpusConfig, CorpusInput, build_corpus
from jvlm.text.dedup import NGRAM, folded
from jvlm.text.duplicates import EXACT, NEAR
from jvlm.text.raw import read_documents

DOCUMENTS = 10_000
LEAST_CHARS, MOST_CHARS = 200, 2_000
EDITS = (0.01, 0.05)  # share of the characters of a copy that are edited, drawn between
COPY_THRESHOLD = 0.5  # 5 % of single edits leave a Jaccard similarity of 5-grams of about 0.63
FALSE_BELOW = 0.4
_PROFILES = {"text": "general", "en_text": "general", "medical_text": "medical"}


def run(root: Path, workers: int) -> dict[str, Any]:
    """Figures of the whole build of the folder's text and of the search for edited copies."""
    inputs = shared_inputs(root)
    with tempfile.TemporaryDirectory() as work:
        questions = _questions(root)
        figures = _build(inputs, questions, Path(work), workers)
        figures |= _rival(inputs, questions, Path(work) / "rival", workers)
        figures |= _edited_copies(inputs, Path(work), workers)
    rival = figures["rival_seconds"]
    return figures | {
        "ratios": {} if rival is None else {"speed_over_rival": rival / figures["seconds"]},
        "targets": {"mb_per_s_per_core": 2, "peak_gib": 2, "neardup_recall": 0.95, "neardup_precision": 0.98},
    }


def shared_inputs(root: Path) -> list[CorpusInput]:
    """Every text file of a folder of real data. Raises UsageError when there is none."""
    inputs = [
        CorpusInput(path=path, source=path.name.split(".")[0], profile=profile, any_language=folder == "en_text")
        for folder, profile in _PROFILES.items()
        for path in sorted((root / folder).glob("*.jsonl.zst"))
    ]
    if not inputs:
        raise UsageError("no text", where=root, fix=f"put .jsonl.zst files below {', '.join(_PROFILES)}")
    return inputs


def _questions(root: Path) -> list[str]:
    valid = sorted((root / "evals" / "jglue" / "datasets").glob("jcommonsenseqa-*/valid*.json"))
    return [json.loads(line)["question"] for path in valid for line in open_lines(path)]


def open_lines(path: Path) -> Iterator[str]:
    """The lines of a published JSON Lines file."""
    with open(path, encoding="utf-8") as lines:
        yield from lines


def _build(inputs: list[CorpusInput], questions: list[str], work: Path, workers: int) -> dict[str, Any]:
    evaluation = work / "questions.jsonl"
    with open(evaluation, "w", encoding="utf-8") as file:
        for question in questions:
            file.write(json.dumps({"text": question}, ensure_ascii=False) + "\n")
    config = CorpusConfig(
        inputs=inputs, mask_personal=True, evaluation=[evaluation], held_out_overlap=0.2, workers=workers
    )
    begun = time.perf_counter()
    report = build_corpus(config, work / "corpus")
    seconds = time.perf_counter() - begun
    megabytes = sum(len(d.text.encode()) for i in inputs for d in read_documents(i.path, i.source, [])) / 1e6
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "megabytes": megabytes,
        "documents": report["total"]["read"]["documents"],
        "seconds": seconds,
        "workers": workers,
        "mb_per_s_per_core": megabytes / seconds / workers,
        "peak_gib": (peaks[0] + workers * peaks[1]) / 2**20,  # every worker at its largest, at once
        "step_seconds": report["step_seconds"],
        "removed": {reason: found["documents"] for reason, found in report["removed"].items()},
    }


def _rival(inputs: list[CorpusInput], questions: list[str], work: Path, workers: int) -> dict[str, Any]:
    """What HojiChar and datatrove need for the same text; None where they are not installed."""
    try:
        from jvlm.bench import corpus_rival
    except ImportError:
        return {"rival_seconds": None}
    rows = (
        {"id": f"{item.source}:{document.line}", "text": document.text, "any_language": item.any_language}
        for item in inputs
        for document in read_documents(item.path, item.source, [])
    )
    return corpus_rival.run(rows, questions, work, workers)


def _edited_copies(inputs: list[CorpusInput], work: Path, workers: int) -> dict[str, Any]:
    """Real documents, others of the same sources, then copies of the first with single characters edited."""
    rng = np.random.default_rng(5)
    drawn = _draw(inputs, 2 * DOCUMENTS, rng)
    originals, others = drawn[:DOCUMENTS], drawn[DOCUMENTS:]
    copies = [_edited(text, rng) for text in originals]
    texts = {f"{kind}-{n}": text for kind, part in _named(originals, others, copies) for n, text in enumerate(part)}
    rows = work / "copies.jsonl"
    with open(rows, "w", encoding="utf-8") as file:
        for name, text in texts.items():
            file.write(json.dumps({"id": name, "text": text}, ensure_ascii=False) + "\n")
    config = CorpusConfig(
        inputs=[CorpusInput(path=rows, source="copies", any_language=True)],
        min_chars=1,
        near_duplicate_threshold=COPY_THRESHOLD,
        held_out_share=0,
        workers=workers,
    )
    begun = time.perf_counter()
    build_corpus(config, work / "deduplicated")
    removed = [row for row in read_json_lines(work / "deduplicated" / "removed.jsonl") if row["line"] is None]
    near = [row for row in removed if row["reason"] == NEAR]
    found = {row["id"] for row in removed if row["reason"] in (EXACT, NEAR)}
    unclean = {row["id"] for row in removed} - found
    asked = [n for n in range(DOCUMENTS) if unclean.isdisjoint((f"copy-{n}", f"original-{n}"))]
    true = sum(_jaccard(texts[row["id"]], texts[row["of"]]) >= FALSE_BELOW for row in near)
    return {
        "neardup_copies": len(asked),
        "neardup_recall": sum(f"copy-{n}" in found for n in asked) / len(asked),
        "neardup_precision": true / len(near),
        "neardup_others_removed": sum(name.startswith("other") for name in found),
        "neardup_seconds": time.perf_counter() - begun,
    }


def _named(*parts: list[str]) -> Iterator[tuple[str, list[str]]]:
    yield from zip(("original", "other", "copy"), parts, strict=True)


def _draw(inputs: list[CorpusInput], number: int, rng: np.random.Generator) -> list[str]:
    """Different documents of all sources; neighbours in a source, often on one topic, stand in both halves."""
    found: list[str] = []
    share = max(number // 4, -(-2 * number // len(inputs)))  # no source crowds out the others
    for item in inputs:
        documents = (clean(d.text, any_language=True).text for d in read_documents(item.path, item.source, []))
        long = (text[:MOST_CHARS] for text in documents if text is not None and len(text) >= LEAST_CHARS)
        found += list(dict.fromkeys(islice(long, share)))
    chosen = rng.permutation(len(found))[:number]
    if len(chosen) < number:
        raise UsageError(f"only {len(chosen)} documents of {LEAST_CHARS} characters", fix=f"{number} are needed")
    return [found[i] for i in chosen]


def _edited(text: str, rng: np.random.Generator) -> str:
    """A character replaced, left out or put in at a share of places drawn from `EDITS`."""
    characters = list(text)
    for place in rng.choice(len(text), max(1, int(len(text) * rng.uniform(*EDITS))), replace=False):
        other = text[rng.integers(len(text))]
        characters[place] = (other, "", characters[place] + other)[rng.integers(3)]
    return "".join(characters)


def _jaccard(first: str, second: str) -> float:
    """By definition, from sets of strings."""
    grams = [{text[i : i + NGRAM] for i in range(len(text) - NGRAM + 1)} for text in map(folded, (first, second))]
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1])
