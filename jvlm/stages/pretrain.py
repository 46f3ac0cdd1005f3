"""Pretraining of the language model, measured against a character n-gram on text never seen."""

from pathlib import Path
from typing import Any

import torch

from jvlm.errors import DataError
from jvlm.eval.ngram import KneserNey
from jvlm.eval.statistics import ratio_bootstrap
from jvlm.infer.likelihood import bits, outcomes
from jvlm.model.directory import load_directory, save_language_model
from jvlm.model.language import build_language_model
from jvlm.model.processor import Processor
from jvlm.stages.context import StageContext
from jvlm.text.raw import Document, read_documents
from jvlm.text.shards import TokenShards, write_token_shards
from jvlm.text.stats import is_japanese
from jvlm.text.tokenizer import Tokenizer
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import NextToken
from jvlm.train.source import PackedRows, TokenDocuments


def pretrain(context: StageContext) -> dict[str, Any]:
    """tokens → model → bits per character of model and n-gram on the held-out text."""
    config = context.config
    tokenizer = Tokenizer.load(context.run / "tokenizer" / "model")
    processor = Processor(tokenizer)
    shards = token_shards(
        context.run / "corpus" / "text" / "train.jsonl", "general", tokenizer, context.folder / "tokens"
    )
    torch.manual_seed(context.recipe.seed)
    model = build_language_model(config.language, tokenizer.vocab_size, processor.pad, processor.bos, processor.eos)
    documents = TokenDocuments(shards, processor)
    rows = PackedRows(documents, config.packing.row_length, context.recipe.seed, processor.pad)
    context.say(f"{len(documents.lengths):,} documents, {int(documents.lengths.sum()):,} tokens")
    train(NextToken(model, rows, config.packing), config.loop, context.folder, context.say)
    save_language_model(context.folder / "model", model, tokenizer)

    held_out = [d.text for d in _documents(context.run / "corpus" / "text" / "held_out.jsonl", "general")]
    held_out = [text for text in held_out if is_japanese(text)]
    if not held_out:
        raise DataError("no Japanese text is held out", where=context.run / "corpus", fix="raise held_out_share")
    tokens_seen = config.loop.steps * config.packing.rows * config.packing.row_length
    seen = [d.text for d in _documents(context.run / "corpus" / "text" / "train.jsonl", "general")]
    model = load_directory(context.folder / "model").model  # measure what was written, not what is in memory
    characters = outcomes(held_out)
    ours, ngrams = bits(model, processor, held_out), KneserNey(config.ngram_order).fit(seen).bits(held_out)
    difference = [one - other for one, other in zip(ours, ngrams, strict=True)]
    figures = {
        "bpc_model": sum(ours) / sum(characters),
        "bpc_ngram": sum(ngrams) / sum(characters),
        "bpc_model_minus_ngram": ratio_bootstrap(difference, characters, context.recipe.seed),
        "ngram_order": config.ngram_order,
        "held_out_documents": len(held_out),
        "held_out_characters": sum(map(len, held_out)),
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens_seen": tokens_seen,
        "epochs": tokens_seen / int(documents.lengths.sum()),
    }
    context.say(f"bits per character {figures['bpc_model']:.3f}, {config.ngram_order}-gram {figures['bpc_ngram']:.3f}")
    return figures


def token_shards(path: Path, source: str, tokenizer: Tokenizer, folder: Path) -> TokenShards:
    """The documents of `path` as token shards in `folder`, written when they are not there yet."""
    if not folder.is_dir():
        write_token_shards(_documents(path, source), tokenizer, folder)
    shards = TokenShards(folder)
    shards.check(tokenizer)
    return shards


def _documents(path: Path, source: str) -> list[Document]:
    return list(read_documents(path, source, []))
