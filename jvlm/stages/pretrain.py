"""Pretraining of the language model, measured against a character n-gram on text never seen."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP

from jvlm.errors import DataError, UsageError
from jvlm.eval.ngram import KneserNey
from jvlm.eval.statistics import ratio_bootstrap
from jvlm.infer.likelihood import bits, bits_per_character, outcomes
from jvlm.model.directory import load_directory, write_model_files
from jvlm.model.language import LanguageModel, build_language_model
from jvlm.model.processor import Processor
from jvlm.settings import PretrainStage
from jvlm.stages.context import StageContext
from jvlm.text.corpus import read_corpus
from jvlm.text.shards import token_shards
from jvlm.text.stats import is_japanese
from jvlm.text.tokenizer import Tokenizer
from jvlm.train.curriculum import text_curriculum
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import NextToken, language_model


def pretrain(context: StageContext) -> dict[str, Any]:
    """tokens → model → bits per character of model and n-gram on the held-out text."""
    config: PretrainStage = context.config
    model, processor = _begin(context)
    corpus = context.run / "corpus" / "text"
    held_out = [d.text for d in read_corpus(corpus / "held_out.jsonl") if is_japanese(d.text)]
    if not held_out:
        raise DataError("no Japanese text is held out", where=corpus, fix="raise held_out_share")
    documents = read_corpus(corpus / "train.jsonl")
    shards = context.first_alone(lambda: token_shards(documents, processor.tokenizer, context.folder / "tokens"))
    tokens = int(shards.lengths.sum())
    context.say(f"{shards.num_documents:,} documents, {tokens:,} tokens")
    rows = text_curriculum(config.phases, config.packing, config.loop.steps, shards, processor, context.recipe.seed)
    objective = NextToken(model, rows, config.packing)
    watched = held_out[: config.watch]
    files = partial(write_model_files, model, processor)
    train(
        objective,
        config.loop,
        context.folder,
        context.say,
        files,
        (lambda: {"bpc": bits_per_character(model, processor, watched)}) if watched else None,
    )
    if context.rank:
        return {}

    tokens_seen = config.loop.steps * config.packing.rows * config.packing.row_length
    model = load_directory(context.folder / "model").model  # measure what was written, not what is in memory
    characters, ours = outcomes(held_out), bits(model, processor, held_out)
    figures = {
        "bpc_model": sum(ours) / sum(characters),
        "held_out_documents": len(held_out),
        "held_out_characters": sum(map(len, held_out)),
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens_seen": tokens_seen,
        "epochs": tokens_seen / tokens,
    }
    context.say(f"bits per character {figures['bpc_model']:.3f}")
    if config.start_from is not None:
        figures["bpc_start"] = bits_per_character(load_language(config.start_from)[0], processor, held_out)
        context.say(f"before: {figures['bpc_start']:.3f}")
    if config.ngram_order is not None:
        seen = [d.text for d in read_corpus(corpus / "train.jsonl")]
        ngrams = KneserNey(config.ngram_order).fit(seen).bits(held_out)
        difference = [one - other for one, other in zip(ours, ngrams, strict=True)]
        figures |= {
            "bpc_ngram": sum(ngrams) / sum(characters),
            "bpc_model_minus_ngram": ratio_bootstrap(difference, characters, context.recipe.seed),
            "ngram_order": config.ngram_order,
        }
        context.say(f"{config.ngram_order}-gram: {figures['bpc_ngram']:.3f}")
    return figures


def load_language(folder: Path) -> tuple[LanguageModel, Processor]:
    """The language model of a directory, whether it takes images or not, with what feeds it.

    Raises UsageError when the directory holds none.
    """
    loaded = load_directory(folder)
    if isinstance(loaded.model, CLIP):
        raise UsageError("an image tower is no language model to start from", where=folder)
    return language_model(loaded.model), Processor(loaded.processor.tokenizer)


def _begin(context: StageContext) -> tuple[LanguageModel, Processor]:
    config: PretrainStage = context.config
    if config.start_from is not None:
        return load_language(config.start_from)
    tokenizer = Tokenizer.load(context.tokenizer)
    processor = Processor(tokenizer)
    torch.manual_seed(context.recipe.seed)
    model = build_language_model(config.shape, tokenizer.vocab_size, processor.pad, processor.bos, processor.eos)
    return model, processor
