"""CLIP on the captioned images, measured by retrieval among captions never seen."""

from functools import partial
from typing import Any

import numpy as np
import torch

from jvlm.eval.retrieval import retrieval_r1, retrieval_within_source
from jvlm.images.load import load_image
from jvlm.images.shards import ShardReader
from jvlm.model.config import VisionConfig
from jvlm.model.contrast import caption_ids
from jvlm.model.directory import Loaded, load_directory, write_model_files
from jvlm.model.processor import Processor
from jvlm.model.vision import VisionTower, build_clip
from jvlm.settings import ClipStage
from jvlm.stages.context import StageContext
from jvlm.text.tokenizer import Tokenizer
from jvlm.train.loop import train
from jvlm.train.objectives.contrastive import Contrastive, caption_of

BATCH = 128


def clip(context: StageContext) -> dict[str, Any]:
    """Train, save, and retrieve among the test captions."""
    config: ClipStage = context.config
    vision = config.vision
    tokenizer = Tokenizer.load(context.tokenizer)
    processor = Processor(tokenizer, vision)
    torch.manual_seed(context.recipe.seed)
    model = build_clip(vision, tokenizer.vocab_size, processor.pad, processor.end, sigmoid=config.loss == "sigmoid")
    shards = ShardReader(context.shards / "captions_train")
    objective = Contrastive(
        model,
        vision,
        processor,
        shards,
        config.batch_size,
        context.recipe.seed,
        config.accumulation,
        config.source_block,
        config.crop,
    )
    train(objective, config.loop, context.folder, context.say, partial(write_model_files, model, processor))
    if context.rank:
        return {}

    loaded = load_directory(context.folder / "model")
    test = ShardReader(context.shards / "captions_test")
    images, texts, captions = features(loaded, vision, test)
    distinct = len(set(captions))
    figures = retrieval_r1(images, texts, captions, pool_size=min(100, distinct), seed=context.recipe.seed)
    out = {"retrieval": figures, "parameters": sum(p.numel() for p in model.parameters())}
    sources = [str(test.record(i)["meta"].get("source", "")) for i in range(len(test))]
    if any(sources):
        out["retrieval_within_source"] = retrieval_within_source(
            images, texts, captions, sources, seed=context.recipe.seed
        )
        context.say(f"R@10 within a source: {out['retrieval_within_source']['over_chance']:.2f} × chance")
    context.say(f"R@1 of {figures['pool_size']}: {figures['image_to_text']:.3f} / {figures['text_to_image']:.3f}")
    return out


@torch.inference_mode()
def features(loaded: Loaded, vision: VisionConfig, shards: ShardReader) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Joint-space features of images and captions ``[pairs, embed_dim]`` and the captions."""
    normalise = VisionTower(vision, loaded.model.visual).normalise
    images, texts, captions = [], [], []
    for begin in range(0, len(shards), BATCH):
        samples = [shards.read(i) for i in range(begin, min(begin + BATCH, len(shards)))]
        batch = [caption_of(sample) for sample in samples]
        pixels = np.concatenate([loaded.processor.pixels(load_image(sample.images[0])) for sample in samples])
        images.append(loaded.model.encode_image(normalise(torch.from_numpy(pixels))).numpy())
        texts.append(loaded.model.encode_text(caption_ids(loaded.processor, batch, vision.text_length)).numpy())
        captions += batch
    return np.concatenate(images), np.concatenate(texts), captions
