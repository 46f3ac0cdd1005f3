"""The stages after pretraining: align, pretrain_vl, instruct and medical are phases over mixtures.

Without align, instruct and medical train the language model alone, on text.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jvlm.errors import UsageError
from jvlm.files import repeat_folder, write_text
from jvlm.images.shards import open_shards
from jvlm.infer.likelihood import bits_per_character
from jvlm.model.adopt_tower import adopt_tower, is_open_clip
from jvlm.model.directory import Loaded, load_directory, save_model
from jvlm.model.jvlm import JvlmModel
from jvlm.model.language import LanguageModel
from jvlm.model.processor import Processor
from jvlm.model.projector import PixelShuffleProjector
from jvlm.model.towers import load_tower
from jvlm.model.vision import VisionTower
from jvlm.settings import Phase, Source
from jvlm.stages.context import StageContext
from jvlm.stages.pretrain import load_language
from jvlm.stages.start import Start
from jvlm.text.corpus import read_corpus
from jvlm.text.raw import read_documents
from jvlm.text.shards import token_shards
from jvlm.train.config import PackingConfig
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import NextToken
from jvlm.train.order import spread
from jvlm.train.source import ImageSamples, Mixture, PackedRows, SampleSet, TokenDocuments

FIT_VIEWS = 512  # of images, that set the scale of the projector's input
MEASURED_CHARACTERS = 500_000  # of the medical text, for its bits per character


def align(context: StageContext) -> dict[str, Any]:
    """Bridge the image tower to the pretrained language model."""
    config = context.config
    language = load_directory(config.language or context.run / "pretrain" / "model")
    if not isinstance(language.model, LanguageModel):
        raise UsageError(f"a '{language.kind}' model is no language model alone", where=config.language)
    tower = load_tower(_tower_directory(context), **config.tower.changes)
    processor = Processor(language.processor.tokenizer, tower.config, config.projector, config.tiles)
    torch.manual_seed(context.recipe.seed)
    model = JvlmModel(language.model, tower, config.projector, processor.image_ids)
    if isinstance(model.projector, PixelShuffleProjector):
        _fit_projector(context, model.projector, model.tower, processor)
    start = Start(Loaded("jvlm", model, processor), config)
    if config.lora is not None:  # which needs a directory to stand beside
        base = context.folder / "base"
        context.first_alone(lambda: None if base.is_dir() else save_model(base, model, processor))
        start = Start.of(base, config, context.recipe.seed)
    return _phase(context, config, start, context.folder)


def _tower_directory(context: StageContext) -> Path:
    """The directory of the tower; that of another program is brought in first."""
    source = context.config.tower.start_from
    if source is None:
        return context.run / "clip" / "model"
    if not is_open_clip(source):
        return Path(source)
    folder = context.folder / "tower"

    def bring_in() -> Path:
        if not folder.is_dir():
            context.say(adopt_tower(source, folder))
        return folder

    return context.first_alone(bring_in)


def _fit_projector(
    context: StageContext, projector: PixelShuffleProjector, tower: VisionTower, processor: Processor
) -> None:
    """Standardise the tower's features over images from all of the stage's data."""
    shards = next(source.shards for source in context.config.data if source.shards)
    samples = ImageSamples(open_shards(context.shard_folder(shards)), processor)
    count = len(samples.views)
    number = max(1, FIT_VIEWS * count // max(1, int(samples.views.sum())))  # samples that have so many views
    pixels = [p for index in spread(count, number) for p in samples.example(index).pixels]
    with torch.inference_mode():
        features = tower(torch.from_numpy(np.concatenate(pixels)))
    projector.fit(features)


def pretrain_vl(context: StageContext) -> dict[str, Any]:
    """Interleaved pages of text and images, mixed with text: the language model learns what images stand for."""
    start = Start.of(context.run / "align" / "model", context.config, context.recipe.seed)
    return _phase(context, context.config, start, context.folder)


def instruct(context: StageContext) -> dict[str, Any]:
    """Captions until the model sees, then image conversations; conversations alone for a language model."""
    stages = context.recipe.stages
    before = next(name for name in ("pretrain_vl", "align", "pretrain") if name == "pretrain" or getattr(stages, name))
    return _phases(context, context.run / before / "model")


def medical(context: StageContext) -> dict[str, Any]:
    """Continual pretraining on medicine, then exam-style instruction; each phase has a folder of its own."""
    stages = context.recipe.stages
    stage = next(name for name in ("prefer", "instruct", "align") if name == "align" or getattr(stages, name))
    before = context.run / stage / "model"
    figures = _phases(context, before)
    file = context.data / "text" / "medical.jsonl"
    if context.rank or not file.is_file():
        return figures
    texts = _first(file, MEASURED_CHARACTERS)
    pretrained = context.folder / next(iter(context.config.folders)) / "model"
    for when, folder in (("before", before), ("after", pretrained)):
        model, processor = load_language(folder)
        figures[f"bpc_medical_{when}"] = bits_per_character(model, processor, texts)
    return figures


def _first(path: Path, characters: int) -> list[str]:
    """Documents from the start of a file, until they have so many characters."""
    texts: list[str] = []
    for document in read_documents(path, "medical", []):
        if sum(map(len, texts)) >= characters:
            break
        texts.append(document.text)
    return texts


def _phases(context: StageContext, source: Path) -> dict[str, Any]:
    """The stage's phases, one after the other, from the model `source`; returns the figures of each by its folder."""
    figures: dict[str, Any] = {}
    for name, phase in context.config.folders.items():
        start = Start.of(source, phase, context.recipe.seed)
        figures[name] = _phase(context, phase, start, context.folder / name)
        source = context.folder / name / "model"
    if context.rank == 0:
        repeat_folder(source, context.folder / "model")
    return figures


def _phase(context: StageContext, phase: Phase, start: Start, folder: Path) -> dict[str, Any]:
    model, processor = start.loaded.model, start.loaded.processor
    if phase.tiles is not None:
        processor = processor.with_tiles(phase.tiles)
    mixture = phase_mixture(context, phase, processor)
    names = [source.shards or source.text for source in phase.data]
    dropped = _note_dropped(context, dict(zip(names, mixture.sets, strict=True)), folder / "overlong.jsonl")
    context.say(
        f"{dict(zip(names, mixture.counts, strict=True))} samples an epoch, {int(mixture.lengths.sum()):,} tokens"
    )
    start.freeze()
    rows = phase_rows(context, phase, mixture, processor)
    objective = NextToken(model, rows, phase.packing, start.rate_scale)
    files = start.files_beside(processor)
    last = train(objective, phase.loop, folder, context.say, files, stored=start.stored)
    return {"loss": last["loss"], "samples": dict(zip(names, mixture.counts, strict=True)), "dropped": dropped}


def phase_mixture(context: StageContext, phase: Phase, processor: Processor) -> Mixture:
    """What a phase reads."""
    sets = [_open(context, source, processor, phase.packing) for source in phase.data]
    return Mixture(sets, [source.repeat for source in phase.data])


def phase_rows(context: StageContext, phase: Phase, mixture: Mixture, processor: Processor) -> PackedRows:
    """Its rows, in the order of training."""
    return PackedRows(mixture, phase.packing.row_length, context.recipe.seed, processor.pad)


def _note_dropped(context: StageContext, sets: dict[Any, SampleSet], ledger: Path) -> int:
    """Write down which samples are left out for their length; returns how many."""
    lines = []
    for name, found in sets.items():
        if isinstance(found, ImageSamples) and found.dropped:
            context.say(f"{name}: {len(found.dropped)} samples are longer than a row and left out, see {ledger.name}")
            lines += [json.dumps({"set": name, "id": identity}, ensure_ascii=False) for identity in found.dropped]
    if lines and context.rank == 0:
        write_text(ledger, "\n".join(lines) + "\n")
    return len(lines)


def _open(context: StageContext, source: Source, processor: Processor, packing: PackingConfig) -> SampleSet:
    if source.shards is not None:
        reader = open_shards(context.shard_folder(source.shards))
        return ImageSamples(reader, processor, packing.row_length, packing.overlong, source.crop)
    assert source.text is not None
    documents = {
        "general": read_corpus(context.run / "corpus" / "text" / "train.jsonl"),
        "medical": read_documents(context.data / "text" / "medical.jsonl", "medical", []),
    }
    folder, texts = context.folder / f"tokens-{source.text}", documents[source.text]
    shards = context.first_alone(lambda: token_shards(texts, processor.tokenizer, folder))
    return TokenDocuments(shards, processor, max_length=packing.row_length)
