"""What all contestants of the pretraining benchmark read: real text as tokens, as packed rows and as documents, and
the initial weights of every size. Run as a module, so that its memory is not that of the process that asked for it.

The folder holds `tokens/` (token shards), `rows.npz` (packed rows: `input_ids`, `labels`, `position_ids`, `documents`
``[rows, row_length]``), `documents.npz` (`tokens`, `offsets`: each document as ``<s> text </s>``), `held_out.json`, a
model directory for each size, and `data.json`.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jvlm.bench.corpus import shared_inputs
from jvlm.files import write_json
from jvlm.model.config import LanguageConfig
from jvlm.model.directory import save_model
from jvlm.model.language import build_language_model
from jvlm.model.processor import IGNORED, Processor
from jvlm.text.raw import Document, read_documents
from jvlm.text.shards import token_shards
from jvlm.text.tokenizer import train_tokenizer
from jvlm.train.source import PackedRows, TokenDocuments

SEED = 7
BINS = (32, 64, 128, 256, 512, 1024, 2048, 4096)  # tokens


@dataclass(frozen=True)
class DataSpec:
    """How much of which text, and which models."""

    root: str
    work: str
    sizes: dict[str, dict[str, Any]]
    """Fields of LanguageConfig by the size's name."""
    vocab_size: int
    row_length: int
    stride: int
    """Every so many documents of every source are read, and as many others held out."""
    held_out: int
    """Held-out documents, of at most `held_out_chars` characters."""
    held_out_chars: int
    tokenizer_chars: int
    threads: int


def prepare(spec: DataSpec) -> None:
    """Fill the folder. Raises UsageError when the root holds no text."""
    work = Path(spec.work)
    documents = list(_documents(spec, 0))
    held_out = [d.text[: spec.held_out_chars] for d in _documents(spec, spec.stride // 2)]
    chosen = np.random.default_rng(SEED).permutation(len(held_out))[: spec.held_out]
    write_json(work / "held_out.json", [held_out[i] for i in chosen])
    texts = list(_some([d.text for d in documents], spec.tokenizer_chars))
    tokenizer = train_tokenizer(texts, spec.vocab_size, work / "tokenizer", seed=SEED, threads=spec.threads)
    processor = Processor(tokenizer)
    shards = token_shards(documents, tokenizer, work / "tokens")
    rows = packed_rows(TokenDocuments(shards, processor), spec.row_length, processor)
    np.savez(work / "rows.npz", **rows)  # type: ignore[arg-type]
    whole = [np.array([processor.bos, *shards.tokens(i), processor.eos]) for i in range(shards.num_documents)]
    offsets = np.cumsum([0, *map(len, whole)])
    np.savez(work / "documents.npz", tokens=np.concatenate(whole), offsets=offsets)
    for name, fields in spec.sizes.items():
        torch.manual_seed(SEED)
        language = LanguageConfig(**fields, max_length=spec.row_length)
        model = build_language_model(language, tokenizer.vocab_size, processor.pad, processor.bos, processor.eos)
        save_model(work / name, model, processor)
    lengths = np.diff(offsets)
    figures = {
        "documents": len(lengths),
        "tokens": int(lengths.sum()),
        "row_length": spec.row_length,
        "rows": len(rows["labels"]),
        "vocab_size": tokenizer.vocab_size,
        "length_histogram": histogram(lengths),
        "targets_of_a_document": float(np.minimum(lengths, spec.row_length).mean()) - 1,  # cut to a row, then shifted
        "squares_of_a_token": squares_of_a_token(rows["documents"]),
    }
    write_json(work / "data.json", figures)


def packed_rows(documents: TokenDocuments, row_length: int, processor: Processor) -> dict[str, np.ndarray]:
    """Every full row of the first epoch, as the loop sees them; `documents` numbers the documents of a row."""
    stream = PackedRows(documents, row_length, SEED, processor.pad)
    full = int(documents.lengths.sum()) // row_length
    batch = stream.batch(range(full))
    assert not (batch.labels == IGNORED).any()
    position_ids = batch.position_ids.numpy()
    return {
        "input_ids": batch.input_ids.numpy(),
        "labels": batch.labels.numpy(),
        "position_ids": position_ids,
        "documents": np.cumsum(position_ids == 0, axis=1),
    }


def squares_of_a_token(documents: np.ndarray) -> float:
    """Sum of len² over the documents of all rows, divided by the tokens: what attention costs."""
    lengths = np.concatenate([np.unique(row, return_counts=True)[1] for row in documents])
    return float((lengths.astype(float) ** 2).sum() / lengths.sum())


def histogram(lengths: np.ndarray) -> dict[str, int]:
    """Number of documents by length in tokens."""
    counts = np.histogram(lengths, [0, *(b + 1 for b in BINS), np.inf])[0]
    return {name: int(n) for name, n in zip([*(f"<={b}" for b in BINS), f">{BINS[-1]}"], counts, strict=True)}


def _documents(spec: DataSpec, first: int) -> Iterator[Document]:
    for item in shared_inputs(Path(spec.root)):
        yield from islice(read_documents(item.path, item.source, []), first, None, spec.stride)


def _some(texts: list[str], chars: int) -> Iterator[str]:
    """An even part of the texts, about `chars` long."""
    stride = max(1, sum(map(len, texts)) // chars)
    yield from islice(texts, 0, None, stride)


def write_spec(spec: DataSpec, path: Path) -> None:
    """For `python -m jvlm.bench.pretrain_data PATH`."""
    write_json(path, asdict(spec))


if __name__ == "__main__":
    prepare(DataSpec(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
