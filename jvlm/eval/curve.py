"""Scores of every checkpoint of a pretraining over the tokens it had seen.

A score is written down as soon as it is there, under the hash of its checkpoint and of the text: nothing is scored
twice, also while the training goes on, and a checkpoint that is dropped later keeps its place on the curve.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jvlm.errors import DataError
from jvlm.eval.charts import as_file, line_chart
from jvlm.files import (
    MANIFEST,
    append_json_line,
    read_json,
    read_json_lines,
    sha256_bytes,
    sha256_file,
    write_json,
    write_text,
)
from jvlm.text.corpus import read_corpus
from jvlm.text.stats import is_japanese


def evaluation_curve(run: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Bits per character of the held-out Japanese text; also in ``run/eval-curve.json`` and, from two points, ``.svg``.

    Raises DataError when the run has no checkpoint that can be read, or no Japanese text held out.
    """
    corpus = run / "corpus" / "text" / "held_out.jsonl"
    texts = [document.text for document in read_corpus(corpus) if is_japanese(document.text)]
    if not texts:
        raise DataError("no Japanese text is held out", where=corpus, fix="raise held_out_share")
    text_hash = sha256_bytes("\0".join(texts).encode())

    def score(folder: Path) -> dict[str, Any]:
        bits = _bits_per_character(folder, texts)
        say(f"{folder.name}: {bits:.4f} bits per character")
        return {"bits_per_character": bits}

    points = scored_checkpoints(run, run / "eval-curve.jsonl", text_hash, score, say)
    keys = ("step", "tokens_seen", "bits_per_character")
    curve = {"documents": len(texts), "points": [{key: record[key] for key in keys} for record in points]}
    write_json(run / "eval-curve.json", curve)
    line = [(point["tokens_seen"], point["bits_per_character"]) for point in points]
    if drawn := line_chart({"held out": line}, "tokens seen", "bits per character"):
        write_text(run / "eval-curve.svg", as_file(drawn))
    return curve


def scored_checkpoints(
    run: Path, ledger: Path, text: str, score: Callable[[Path], dict[str, Any]], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """A record of every checkpoint of a run's pretraining, in order: `step`, `tokens_seen`, and what `score` gave.

    `text` is the hash of what they are scored on: with another the `ledger` counts for nothing. Raises DataError when
    there is no checkpoint that can be read.
    """
    found = {record["checkpoint"]: record for record in read_json_lines(ledger) if record["text"] == text}
    for path in sorted((run / "pretrain" / "checkpoints").glob("step-*")):
        try:
            checkpoint = sha256_file(path / MANIFEST)
            if checkpoint in found:
                continue
            state = read_json(path / "state.json")
            scores = score(path)
        except (DataError, OSError) as error:  # damaged, or dropped by a training that goes on
            say(f"{path.name} is left out: {error}")
            continue
        record = {"checkpoint": checkpoint, "text": text, "fingerprint": state["fingerprint"]}
        record |= {"step": state["step"], "tokens_seen": int(state["watched"]["seen"])} | scores
        append_json_line(ledger, record)
        found[checkpoint] = record
    if not found:
        raise DataError("no checkpoint to evaluate", where=run / "pretrain", fix="train it first")
    newest = list(found.values())[-1]["fingerprint"]  # not what another training left in the same run
    return sorted((r for r in found.values() if r["fingerprint"] == newest), key=lambda record: record["step"])


def _bits_per_character(folder: Path, texts: list[str]) -> float:
    from jvlm.infer.likelihood import bits_per_character
    from jvlm.model.directory import load_directory

    loaded = load_directory(folder)
    return bits_per_character(loaded.model, loaded.processor, texts)
