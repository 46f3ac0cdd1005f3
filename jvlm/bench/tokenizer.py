"""Tokenizers trained on a folder of real text and measured on text kept out of it.

One large vocabulary for the figures, then unigram against BPE, each with and without the script boundary, on a part of
the same text: that table chose the defaults. The measured texts are JSQuAD's valid contexts, IgakuQA's questions and
choices, and held-out English documents; documents that hold one of the first two are not trained on.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any, Literal

from jvlm.bench.corpus import open_lines, shared_inputs
from jvlm.errors import UsageError
from jvlm.files import read_json, read_json_lines
from jvlm.text.compare import ForeignTokenizer
from jvlm.text.corpus import CorpusConfig, build_corpus
from jvlm.text.sentencepiece_twin import train_sentencepiece
from jvlm.text.stats import Encoder, tokenizer_figures
from jvlm.text.tokenizer import SENTENCEPIECE_FILE, Tokenizer, train_tokenizer

VOCAB_SIZE, TABLE_VOCAB_SIZE = 50_000, 16_000
TABLE_CHARS = 5_000_000
TABLE_STRIDE = 7  # every seventh document, so that the table's text is of all sources
TWIN_LINES = 100_000
SEED = 7


def run(root: Path, threads: int) -> dict[str, Any]:
    """Figures of the large vocabulary by domain, and the table of kinds."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        domains = _domains(root)
        evaluation = work / "evaluation.jsonl"
        texts = [text for name in domains for text in domains[name]]
        evaluation.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        inputs = shared_inputs(root)
        config = CorpusConfig(inputs=inputs, evaluation=[evaluation], mask_personal=True, workers=threads)
        report = build_corpus(config, work / "corpus")
        english = {item.source for item in inputs if item.any_language}
        held_out = read_json_lines(work / "corpus" / "held_out.jsonl")
        domains["english"] = [row["text"] for row in held_out if row["source"] in english]
        train = work / "corpus" / "train.jsonl"
        begun = time.perf_counter()
        large = train_tokenizer(
            _texts(train), VOCAB_SIZE, work / "large", seed=SEED, threads=threads, split_scripts=False
        )
        figures = _figures(large, domains)
        return figures | {
            "vocab_size": large.vocab_size,
            "roundtrip": min(found["roundtrip"] for found in figures.values()),
            "seconds": time.perf_counter() - begun,
            "train_chars": report["total"]["train"]["chars"],
            "removed_for_evaluation": report["removed"]["evaluation_text"]["documents"],
            "twin": _twin(large, work / "large" / SENTENCEPIECE_FILE, train),
            "table": _table(list(_part(train)), domains, work, threads),
            "targets": {"jsquad.chars_per_token": 1.70, "igakuqa.chars_per_token": 1.42, "igakuqa.byte_share": 0.002},
        }


def _domains(root: Path) -> dict[str, list[str]]:
    contexts: dict[str, None] = {}
    for path in sorted((root / "evals" / "jglue" / "datasets").glob("jsquad-*/valid*.json")):
        for page in read_json(path)["data"]:
            contexts.update((part["context"].split("[SEP]")[-1].strip(), None) for part in page["paragraphs"])
    questions = [
        text
        for path in sorted((root / "evals" / "igakuqa" / "data").glob("*/*-?.jsonl"))
        for row in map(json.loads, open_lines(path))
        for text in (row["problem_text"], *row["choices"])
        if text.strip()  # some choices are pictures
    ]
    if not contexts or not questions:
        raise UsageError("no evaluation text", where=root / "evals", fix="put jglue/ and igakuqa/ there")
    return {"jsquad": list(contexts), "igakuqa": questions}


def _texts(train: Path) -> Iterator[str]:
    return (json.loads(line)["text"] for line in open_lines(train))


def _twin(tokenizer: Tokenizer, model: Path, train: Path) -> dict[str, int]:
    """How many lines of the text SentencePiece itself gives other ids; ▁, which it takes for a space, is left out."""
    reference = ForeignTokenizer(model)
    lines = [line for text in islice(_texts(train), 0, None, TABLE_STRIDE) for line in text.split("\n") if line]
    lines = [line for line in lines if "▁" not in line][:TWIN_LINES]
    pairs = zip(tokenizer.encode_batch(lines), reference.encode_batch(lines), strict=True)
    return {"lines": len(lines), "different": sum(ours != theirs for ours, theirs in pairs)}


def _part(train: Path) -> Iterator[str]:
    left = TABLE_CHARS
    for text in islice(_texts(train), 0, None, TABLE_STRIDE):
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return


def _figures(tokenizer: Encoder, domains: dict[str, list[str]]) -> dict[str, Any]:
    return {name: tokenizer_figures(tokenizer, texts) for name, texts in domains.items() if texts}


def _table(texts: list[str], domains: dict[str, list[str]], work: Path, threads: int) -> list[dict[str, Any]]:
    """Each kind's figures; SentencePiece's own, since BPE has no exact twin."""
    rows = []
    kinds: tuple[Literal["unigram", "bpe"], ...] = ("unigram", "bpe")
    for kind, split in product(kinds, (True, False)):
        begun = time.perf_counter()
        model = train_sentencepiece(
            texts, TABLE_VOCAB_SIZE, seed=SEED, threads=threads, split_scripts=split, model_type=kind
        )
        (work / "kind.model").write_bytes(model)
        seconds = time.perf_counter() - begun
        figures = _figures(ForeignTokenizer(work / "kind.model"), domains)
        rows.append({"model_type": kind, "split_scripts": split, "seconds": seconds} | figures)
    return rows
