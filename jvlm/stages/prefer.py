"""DPO on preference pairs: given ones, or the model's own answers judged by the toy world's truth."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from jvlm_data.toyworld import judge

from jvlm.errors import DataError
from jvlm.files import read_json, sha256_file, write_json
from jvlm.images.shards import ShardReader, open_shards, write_shards
from jvlm.infer.generate import VisionLanguageModel
from jvlm.model.directory import Loaded
from jvlm.sample import Message, Sample
from jvlm.settings import PreferStage
from jvlm.stages.context import StageContext
from jvlm.stages.start import Start
from jvlm.train.loop import train
from jvlm.train.objectives.preference import Preference, answer_log_probabilities, pair_batch
from jvlm.train.world import to_device


def prefer(context: StageContext) -> dict[str, Any]:
    """Pairs, given or sampled and judged → reference log-probabilities → train."""
    config: PreferStage = context.config
    start = Start.of(context.run / "instruct" / "model", config, context.recipe.seed)
    loaded = start.loaded  # adapters that begin change no answer of it
    model, processor = loaded.model, loaded.processor
    pairs = context.first_alone(lambda: _pairs(context, loaded))
    reference = _reference(context, loaded, pairs)
    start.freeze()
    objective = Preference(
        model,
        processor,
        pairs,
        reference,
        config.pairs,
        config.beta,
        config.alpha,
        context.recipe.seed,
        start.rate_scale,
    )
    files = start.files_beside(processor)
    last = train(objective, config.loop, context.folder, context.say, files, stored=start.stored)
    return {"pairs": len(pairs), "loss": last["loss"]}


def _pairs(context: StageContext, loaded: Loaded) -> ShardReader:
    """The pairs that are given, or those made of the model's own answers when they are not there yet."""
    config: PreferStage = context.config
    if config.shards is not None:
        pairs = open_shards(context.shard_folder(config.shards))
        context.say(f"{len(pairs)} pairs")
        return pairs
    folder = context.folder / "pairs"
    if not folder.is_dir():
        write_shards(_own_pairs(context, VisionLanguageModel(loaded.model, loaded.processor)), folder)
    pairs = ShardReader(folder)
    if len(pairs) == 0:
        raise DataError(
            "the model's answers gave no preference pair",
            where=folder,
            fix="raise samples, or set exact_chosen: false to learn from the better of two wrong answers too",
        )
    context.say(f"{len(pairs)} pairs from {config.samples} answers an image")
    return pairs


def _own_pairs(context: StageContext, model: VisionLanguageModel) -> Iterator[Sample]:
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


def _reference(context: StageContext, loaded: Loaded, pairs: ShardReader) -> dict[str, list[float]]:
    """Log-probabilities of chosen and rejected answers under the model as it is, by sample id.

    They are kept on the disk under the hash of model and pairs; several processes share the work.
    """
    model = sha256_file(context.run / "instruct" / "model" / "hashes.json")
    key = hashlib.sha256(f"{model} {pairs.fingerprint}".encode()).hexdigest()[:16]
    file, world = context.folder / f"reference-{key}.json", context.world
    if not world.from_first(file.exists()):
        parts = world.gather(_log_probabilities(loaded, pairs, context))
        if world.is_first:
            write_json(file, {identity: found for part in parts for identity, found in part.items()})
        world.from_first(None)
    reference: dict[str, list[float]] = read_json(file)
    return reference


@torch.no_grad()
def _log_probabilities(loaded: Loaded, pairs: ShardReader, context: StageContext) -> dict[str, list[float]]:
    batch, world, out = context.config.pairs, context.world, {}
    model = loaded.model.to(world.device)
    for begin in world.share(range(0, len(pairs), batch)):
        samples = [pairs.read(i) for i in range(begin, min(begin + batch, len(pairs)))]
        packed = to_device(pair_batch(samples, loaded.processor), world.device)
        sums, _ = answer_log_probabilities(model, packed)
        for sample, both in zip(samples, sums.view(-1, 2).tolist(), strict=True):
            out[sample.id] = both
    return out
