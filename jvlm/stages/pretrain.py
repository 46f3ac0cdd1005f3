"""Pretraining of the language model, measured against a character n-gram on text never seen."""

from functools import partial
from typing import Any

import torch

from jvlm.errors import DataError
from jvlm.eval.ngram import KneserNey
from jvlm.eval.statistics import ratio_bootstrap
from jvlm.infer.likelihood import bits, outcomes
from jvlm.model.directory import load_directory, write_model_files
from jvlm.model.language import build_language_model
from jvlm.model.processor import Processor
from jvlm.stages.context import StageContext
from jvlm.text.corpus import read_corpus
from jvlm.text.shards import token_shards
from jvlm.text.stats import is_japanese
from jvlm.text.tokenizer import Tokenizer
from jvlm.train.curriculum import text_curriculum
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import NextToken


def pretrain(context: StageContext) -> dict[str, Any]:
    """tokens → model → bits per character of model and n-gram on the held-out text."""
    config = context.config
    tokenizer = Tokenizer.load(context.run / "tokenizer" / "model")
    processor = Processor(tokenizer)
    corpus = context.run / "corpus" / "text"
    shards = token_shards(read_corpus(corpus / "train.jsonl"), tokenizer, context.folder / "tokens")
    torch.manual_seed(context.recipe.seed)
    model = build_language_model(config.language, tokenizer.vocab_size, processor.pad, processor.bos, processor.eos)
    tokens = int(shards.lengths.sum())
    context.say(f"{shards.num_documents:,} documents, {tokens:,} tokens")
    rows = text_curriculum(config.phases, config.packing, config.loop.steps, shards, processor, context.recipe.seed)
    objective = NextToken(model, rows, config.packing)
    train(objective, config.loop, context.folder, context.say, partial(write_model_files, model, processor))

    held_out = [d.text for d in read_corpus(corpus / "held_out.jsonl") if is_japanese(d.text)]
    if not held_out:
        raise DataError("no Japanese text is held out", where=corpus, fix="raise held_out_share")
    tokens_seen = config.loop.steps * config.packing.rows * config.packing.row_length
    seen = [d.text for d in read_corpus(corpus / "train.jsonl")]
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
        "epochs": tokens_seen / tokens,
    }
    context.say(f"bits per character {figures['bpc_model']:.3f}, {config.ngram_order}-gram {figures['bpc_ngram']:.3f}")
    return figures
