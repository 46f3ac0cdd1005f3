"""Small language models pretrained side by side, alike but for one choice, on a folder of real text.

`clean` against `raw`: the cleaned corpus, or the same rows as they came. `last_phase` against `clean`: the last fifth
of the training on encyclopaedia and on questions with answers. `wide` against `split`: 50,000 pieces that may cross
scripts, or may not. All are measured on the same held-out documents, cleaned, of which no arm has seen a copy.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from jvlm.bench.corpus import open_lines, shared_inputs
from jvlm.eval.charts import dots
from jvlm.eval.statistics import ratio_bootstrap
from jvlm.files import new_folder, read_json, write_json, write_text
from jvlm.infer.likelihood import bits, outcomes
from jvlm.model.config import LanguageConfig
from jvlm.model.directory import write_model_files
from jvlm.model.language import build_language_model
from jvlm.model.processor import Processor
from jvlm.text.chunks import Workers
from jvlm.text.corpus import CorpusConfig, CorpusInput, build_corpus, read_corpus
from jvlm.text.raw import read_documents
from jvlm.text.shards import TokenShards, token_shards
from jvlm.text.stats import is_japanese
from jvlm.text.tokenizer import Tokenizer, train_tokenizer
from jvlm.train.config import LoopConfig, OptimizerConfig, PackingConfig, TextPhase
from jvlm.train.curriculum import text_curriculum
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import NextToken

SEEDS = (1, 2, 3)
MEASURED = 300  # held-out documents
TOKENIZER_STRIDE = 8  # every eighth document
PACKING = PackingConfig(row_length=512, rows=4)
LAST_SHARE = 0.2
LAST_SOURCES = ("jaquad_qa_ja", "jaquad_wikipedia_ja", "wikipedia_annotated_ja", "wikipedia_kyoto_ja")


@dataclass(frozen=True)
class Arm:
    """One way to pretrain: three million parameters, those of a large vocabulary's embedding not counted.

    `steps` is about ten minutes of one core, twice that with a large vocabulary.
    """

    text: str
    vocab_size: int = 8_000
    split_scripts: bool = True
    last: tuple[str, ...] = ()
    hidden_size: int = 160
    layers: int = 6
    steps: int = 800

    @property
    def tokenizer(self) -> str:
        """Name of its tokenizer: arms that differ in text alone share one."""
        return f"{self.vocab_size}-{'split' if self.split_scripts else 'wide'}"

    @property
    def phases(self) -> list[TextPhase]:
        """The whole corpus, and the last sources at the end."""
        begin = round(self.steps * (1 - LAST_SHARE)) * PACKING.rows * PACKING.row_length
        return [
            TextPhase(),
            *([TextPhase(from_token=begin, sources=dict.fromkeys(self.last, 1.0))] if self.last else []),
        ]

    @property
    def loop(self) -> LoopConfig:
        """The schedule decays while the last sources are read."""
        optimizer = OptimizerConfig(learning_rate=3e-3, warmup=60, decay=LAST_SHARE)
        return LoopConfig(steps=self.steps, checkpoint_every=200, log_every=100, optimizer=optimizer)

    @property
    def language(self) -> LanguageConfig:
        """The model's shape."""
        return LanguageConfig(
            hidden_size=self.hidden_size,
            num_layers=self.layers,
            num_heads=self.hidden_size // 32,
            intermediate_size=self.hidden_size * 8 // 3 // 16 * 16,
        )


ARMS = {
    "clean": Arm("clean"),
    "raw": Arm("raw"),
    "last_phase": Arm("clean", last=LAST_SOURCES),
    "wide": Arm("clean", 50_000, False, hidden_size=192, layers=7, steps=300),
    "split": Arm("clean", 50_000, True, hidden_size=192, layers=7, steps=300),
}
PAIRS = (("clean", "raw"), ("last_phase", "clean"), ("wide", "split"))


@dataclass(frozen=True)
class _Task:
    """One model to train and measure in `folder`, which may hold checkpoints of it."""

    name: str
    arm: Arm
    seed: int
    folder: Path
    texts: dict[str, Path]
    held_out: list[str]


def run(root: Path, threads: int, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Bits per character of every arm and seed, and the differences; arms trained before in `out` are not repeated.

    `threads` models are trained at once, each by a process with one thread.
    """
    inputs = shared_inputs(root)
    texts = _texts(inputs, out, threads)
    held_out = [d.text for d in read_corpus(texts["held_out"]) if is_japanese(d.text)][:MEASURED]
    for arm in ARMS.values():
        _prepare(arm, texts, out, threads)
    tasks = [
        _Task(name, arm, seed, out / f"{name}-{seed}", texts, held_out) for name, arm in ARMS.items() for seed in SEEDS
    ]
    with Workers(threads, torch.set_num_threads, (1,)) as pool:
        for done in pool.run(_measure, (task for task in tasks if not (task.folder / "done.json").is_file())):
            say(done)
    found: dict[str, list[dict[str, Any]]] = {}
    for task in tasks:
        found.setdefault(task.name, []).append(read_json(task.folder / "done.json"))
    characters = outcomes(held_out)
    totals = {name: [sum(seed["bits"]) / sum(characters) for seed in seeds] for name, seeds in found.items()}
    write_text(out / "ablation.svg", dots(totals, "bits per character"))
    return {
        "held_out_documents": len(held_out),
        "bpc": totals,
        "parameters": {name: seeds[0]["parameters"] for name, seeds in found.items()},
        "embedding": {name: seeds[0]["embedding"] for name, seeds in found.items()},  # of these, input and output
        "tokens_seen": {name: arm.steps * PACKING.rows * PACKING.row_length for name, arm in ARMS.items()},
        "seconds": {name: [seed["seconds"] for seed in seeds] for name, seeds in found.items()},
        "differences": {f"{a}_minus_{b}": _difference(found[a], found[b], characters) for a, b in PAIRS},
    }


def _difference(first: list[dict[str, Any]], second: list[dict[str, Any]], characters: list[int]) -> dict[str, Any]:
    """Of the means over seeds, by document; the interval is of the documents alone, the seeds stand beside it."""
    means = [[mean(bits) for bits in zip(*(seed["bits"] for seed in arm), strict=True)] for arm in (first, second)]
    return ratio_bootstrap([a - b for a, b in zip(*means, strict=True)], characters)


def _texts(inputs: list[CorpusInput], out: Path, threads: int) -> dict[str, Path]:
    """Files of the cleaned corpus, its held-out part, and of the rows as they came without that part or its copies."""
    corpus, raw = out / "corpus", out / "raw"
    if not corpus.is_dir():
        build_corpus(CorpusConfig(inputs=inputs, mask_personal=True, held_out_overlap=0.2, workers=threads), corpus)
    if not raw.is_dir():
        kept_out = {document.id for document in read_corpus(corpus / "held_out.jsonl")}
        removed = map(json.loads, open_lines(corpus / "removed.jsonl"))
        kept_out |= {row["id"] for row in removed if row.get("of") in kept_out}
        with new_folder(raw) as folder, open(folder / "train.jsonl", "w", encoding="utf-8") as file:
            for item in inputs:
                for document in read_documents(item.path, item.source, [], licence=item.licence):
                    if document.id not in kept_out:
                        file.write(json.dumps(asdict(document), ensure_ascii=False) + "\n")
    return {"clean": corpus / "train.jsonl", "raw": raw / "train.jsonl", "held_out": corpus / "held_out.jsonl"}


def _prepare(arm: Arm, texts: dict[str, Path], out: Path, threads: int) -> tuple[Tokenizer, TokenShards]:
    """The tokenizer and the token shards of an arm, made once."""
    tokenizer = _tokenizer(arm, texts["clean"], out / "tokenizers" / arm.tokenizer, threads)
    tokens = out / "tokens" / f"{arm.text}-{arm.tokenizer}"
    return tokenizer, token_shards(read_corpus(texts[arm.text]), tokenizer, tokens)


def _measure(task: _Task) -> str:
    """Train a model and write `done.json`; returns what to say of it."""
    arm, folder = task.arm, task.folder
    tokenizer, shards = _prepare(arm, task.texts, folder.parent, 1)
    processor = Processor(tokenizer)
    torch.manual_seed(task.seed)
    model = build_language_model(arm.language, tokenizer.vocab_size, processor.pad, processor.bos, processor.eos)
    rows = text_curriculum(arm.phases, PACKING, arm.steps, shards, processor, task.seed)
    begun = time.perf_counter()
    files = partial(write_model_files, model, processor)
    train(NextToken(model, rows, PACKING), arm.loop, folder, lambda line: None, files)
    seconds = time.perf_counter() - begun
    figures = {
        "bits": bits(model.eval(), processor, task.held_out),
        "parameters": sum(p.numel() for p in model.parameters()),
        "embedding": tokenizer.vocab_size * arm.hidden_size,
        "seconds": seconds,
    }
    write_json(folder / "done.json", figures)
    return f"{task.name}, seed {task.seed}: {seconds:.0f} s"


def _tokenizer(arm: Arm, text: Path, folder: Path, threads: int) -> Tokenizer:
    if not folder.is_dir():
        lines = [d.text for d in islice(read_corpus(text), 0, None, TOKENIZER_STRIDE)]
        return train_tokenizer(lines, arm.vocab_size, folder, threads=threads, split_scripts=arm.split_scripts)
    return Tokenizer.load(folder)
