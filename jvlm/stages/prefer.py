"""Preference pairs from the model's own answers, judged by the toy world's truth, then DPO."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from jvlm_data.toyworld import judge

from jvlm.errors import DataError
from jvlm.files import read_json, write_json
from jvlm.images.shards import ShardReader, write_shards
from jvlm.infer.generate import VisionLanguageModel
from jvlm.model.directory import load_directory, write_model_files
from jvlm.sample import Message, Sample
from jvlm.stages.context import StageContext
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import train_only
from jvlm.train.objectives.preference import Preference, answer_log_probabilities, pair_batch


def prefer(context: StageContext) -> dict[str, Any]:
    """Sample → judge → reference log-probabilities → train."""
    config = context.config
    loaded = load_directory(context.run / "instruct" / "model")
    model, processor = loaded.model, loaded.processor
    folder = context.folder / "pairs"
    if not folder.is_dir():
        write_shards(_pairs(context, VisionLanguageModel(model, processor)), folder)
    pairs = ShardReader(folder)
    if len(pairs) == 0:
        raise DataError(
            "the model's answers gave no preference pair",
            where=folder,
            fix="raise samples, or set exact_chosen: false to learn from the better of two wrong answers too",
        )
    context.say(f"{len(pairs)} pairs from {config.samples} answers an image")
    reference_file = context.folder / "reference.json"
    if not reference_file.exists():
        write_json(reference_file, _reference(VisionLanguageModel(model, processor), pairs, config.pairs))
    train_only(model, config.train)
    objective = Preference(
        model,
        processor,
        pairs,
        read_json(reference_file),
        config.pairs,
        config.beta,
        config.alpha,
        context.recipe.seed,
        {"tower.": config.tower_rate},
    )
    files = partial(write_model_files, model, processor)
    last = train(objective, config.loop, context.folder, context.say, files)
    return {"pairs": len(pairs), "loss": last["loss"]}


def _pairs(context: StageContext, model: VisionLanguageModel) -> Iterator[Sample]:
    config = context.config
    pool = ShardReader(context.shards / "preference_pool")
    for begin in range(0, len(pool), model.batch_size):
        samples = [pool.read(i) for i in range(begin, min(begin + model.batch_size, len(pool)))]
        draws = [
            model.generate(
                samples, temperature=config.temperature, seed=context.recipe.seed * 1000 + begin * config.samples + draw
            )
            for draw in range(config.samples)
        ]
        for number, sample in enumerate(samples):
            texts = [draw[number].text for draw in draws if draw[number].finish_reason == "stop"]
            truth = [tuple(triple) for triple in sample.meta["truth"]]
            ranked = judge.rank(texts, truth) if len(texts) > 1 else None
            if ranked is not None:
                best, worst = ranked
                if config.exact_chosen and not judge.caption_is_exact(texts[best], truth):
                    continue
                messages = [*sample.messages, Message("assistant", [texts[best]])]
                yield Sample(sample.id, messages, sample.images, [Message("assistant", [texts[worst]])], sample.meta)
        if begin % (model.batch_size * 4) == 0:
            context.say(f"answers of {begin + len(samples)} of {len(pool)} images")


@torch.inference_mode()
def _reference(model: VisionLanguageModel, pairs: ShardReader, batch: int) -> dict[str, list[float]]:
    out: dict[str, list[float]] = {}
    for begin in range(0, len(pairs), batch):
        samples = [pairs.read(i) for i in range(begin, min(begin + batch, len(pairs)))]
        sums, _ = answer_log_probabilities(model.model, pair_batch(samples, model.processor))
        for number, sample in enumerate(samples):
            out[sample.id] = [float(sums[2 * number]), float(sums[2 * number + 1])]
    return out
