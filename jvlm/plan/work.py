"""What each training stage of a recipe computes: shapes, what learns, how much is read in one step.

Everything else of a plan, operations, memory and time, is computed from this alone, so that a published training can be
described by hand and forecast by the same arithmetic (`jvlm.plan.published`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jvlm.errors import UsageError
from jvlm.files import read_json
from jvlm.model.config import LanguageConfig, ProjectorConfig, VisionConfig, num_image_tokens
from jvlm.plan.adapters import adapters_of
from jvlm.plan.parameters import language_parameters, projector_parameters, text_tower_parameters, tower_parameters
from jvlm.recipe import Recipe
from jvlm.settings import ClipStage, Learning, PhasedStage, TowerStart
from jvlm.train.config import EngineConfig, LoopConfig, PackingConfig

TEXT_PER_VIEW = 100
"""Tokens of text beside each view of an image, marks included, where nothing better is known."""


@dataclass(frozen=True)
class Like:
    """Shapes for what a recipe starts from and what is not here to be looked at."""

    language: LanguageConfig | None = None
    vocab_size: int = 0
    tower: VisionConfig | None = None
    text_per_view: int = TEXT_PER_VIEW


@dataclass(frozen=True)
class Work:
    """One training stage. Parameters are counted by part: language, tower, projector, and `text` of a CLIP."""

    stage: str
    parts: Mapping[str, int]
    learns: Mapping[str, float]
    """Share of a part's parameters that learn; a part that is frozen is not there."""
    steps: int
    rows: int
    """Of a global batch; pairs, for CLIP."""
    row_length: int
    accumulation: int = 1
    language: LanguageConfig | None = None
    vocab_size: int = 0
    vision: VisionConfig | None = None
    projector: ProjectorConfig | None = None
    views: float = 0.0
    """Of images in one row, on average."""
    targets: float = 1.0
    """Share of the positions that are trained, at most."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    muon: bool = False
    from_scratch: bool = False
    """A pretraining that begins with random weights: laws say something of its loss."""
    adapters: Mapping[str, int] = field(default_factory=dict)
    """Parameters of adapters by part, which `parts` count too: of such a part they alone learn."""
    saved: float = 0.0
    """Bytes by which the weights are smaller than in float32."""
    chunked_head: bool = True
    """The vocabulary's scores never stand whole (`jvlm.model.loss`); not so in most published trainings."""

    @property
    def parameters(self) -> int:
        return sum(self.parts.values())

    @property
    def trained(self) -> float:
        """Parameters that learn."""
        return sum(self.parts[part] * share for part, share in self.learns.items())

    @property
    def tokens(self) -> int:
        """Packed positions of the whole stage."""
        return self.steps * self.rows * self.row_length

    @property
    def all_views(self) -> float:
        """Views of images in the whole stage."""
        return self.steps * self.rows * self.views


def works(recipe: Recipe, like: Like) -> list[Work]:
    """The training stages of a recipe, in order.

    Raises UsageError where the shape of something to start from is neither on the disk nor given.
    """
    return list(_works(recipe, like))


def _works(recipe: Recipe, like: Like) -> Iterator[Work]:
    stages = recipe.stages
    shape, vocab = None, stages.tokenizer.vocab_size if stages.tokenizer else 0
    parts: dict[str, int] = {}
    if stages.pretrain:
        if stages.pretrain.start_from:
            shape, vocab, parts["language"] = _start(stages.pretrain.start_from, like)
        else:
            shape = stages.pretrain.shape
            parts["language"] = language_parameters(shape, vocab)
        common = _packed(stages.pretrain.loop, stages.pretrain.packing)
        common |= {"language": shape, "vocab_size": vocab, "from_scratch": stages.pretrain.start_from is None}
        yield Work("pretrain", dict(parts), {"language": 1.0}, **common)
    if stages.clip:
        yield _clip(stages.clip, vocab)
    images: dict[str, Any] = {}
    if stages.align and stages.align.language:
        shape, vocab, parts["language"] = _start(stages.align.language, like)
    if stages.align:
        vision, projector = _tower_of(stages.align.tower, stages.clip, like), stages.align.projector
        assert shape is not None  # or the recipe had been refused
        parts["tower"] = tower_parameters(vision)
        parts["projector"] = projector_parameters(projector, vision, shape.hidden_size)
        images = {"vision": vision, "projector": projector}

    def phase(name: str, settings: Any) -> Work:
        given = {**_packed(settings.loop, settings.packing), **images, "language": shape, "vocab_size": vocab}
        if images and any(source.shards for source in settings.data):
            tokens = num_image_tokens(images["vision"], images["projector"])
            given["views"] = settings.packing.row_length / (tokens + like.text_per_view)
            given["targets"] = like.text_per_view / (tokens + like.text_per_view)
        return learning(name, settings, given)

    def learning(name: str, settings: Learning, given: dict[str, Any]) -> Work:
        learns = _shares(settings, parts, images.get("vision"))
        if settings.lora is None:
            return Work(name, dict(parts), learns, **given)
        assert shape is not None  # or the recipe had been refused
        added = adapters_of(settings.lora, shape, vocab, images.get("vision"), images.get("projector"))
        own = {part: count for part, count in added.parameters.items() if part in learns}
        whole = {part: count + own.get(part, 0) for part, count in parts.items()}
        learns |= {part: count / whole[part] for part, count in own.items()}
        return Work(name, whole, learns, adapters=own, saved=added.saved, **given)

    if stages.align:
        yield phase("align", stages.align)
    if stages.pretrain_vl:
        yield phase("pretrain_vl", stages.pretrain_vl)
    for name, settings in _folders("instruct", stages.instruct):
        yield phase(name, settings)
    if stages.prefer:
        # both answers of a pair, at most this long; the reference is computed beforehand, forward only
        assert shape is not None
        given: dict[str, Any] = {
            "rows": 2 * stages.prefer.pairs,
            "row_length": shape.max_length,
            "views": 1.0 if images else 0.0,
        }
        given |= {"language": shape, "vocab_size": vocab, **images} | _loop(stages.prefer.loop)
        yield learning("prefer", stages.prefer, given)
    for name, settings in _folders("medical", stages.medical):
        yield phase(name, settings)


def _clip(stage: ClipStage, vocab: int) -> Work:
    vision = stage.vision
    parts = {"tower": tower_parameters(vision), "text": text_tower_parameters(vision, vocab)}
    return Work(
        "clip",
        parts,
        {"tower": 1.0, "text": 1.0},
        rows=stage.batch_size,
        row_length=vision.grid**2 + vision.text_length,
        accumulation=stage.accumulation,
        vocab_size=vocab,
        vision=vision,
        views=1.0,
        **_loop(stage.loop),
    )


def _shares(settings: Learning, parts: Mapping[str, int], vision: VisionConfig | None) -> dict[str, float]:
    shares: dict[str, float] = {part: 1.0 for part in settings.train if part in parts}
    if "tower" in shares and vision is not None and settings.tower_layers is not None:
        shares["tower"] = min(1.0, settings.tower_layers / vision.layers)
    return shares


def _packed(loop: LoopConfig, packing: PackingConfig) -> dict[str, Any]:
    return _loop(loop) | {
        "rows": packing.rows,
        "row_length": packing.row_length,
        "accumulation": packing.accumulation,
    }


def _loop(loop: LoopConfig) -> dict[str, Any]:
    return {"steps": loop.steps, "engine": loop.engine, "muon": loop.optimizer.muon}


def _folders(stage: str, config: PhasedStage | None) -> Iterator[tuple[str, Any]]:
    for name, phase in (config.folders if config else {}).items():
        yield f"{stage}/{name}", phase


def _start(folder: Path, like: Like) -> tuple[LanguageConfig, int, int]:
    """Shape, vocabulary and parameters of the language model to start from."""
    if not (folder / "config.json").is_file():
        if like.language is None:
            fix = "`jvlm import` it first, or name a size that has its shape: --like 1.8b"
            raise UsageError("the model to start from is not here", where=folder, fix=fix)
        return like.language, like.vocab_size, language_parameters(like.language, like.vocab_size)
    from jvlm.model.directory import WEIGHTS  # torch, which plans of new models do without
    from jvlm.model.tensors import TensorFolder

    config = read_json(folder / "config.json")
    config = config.get("language", config)
    weights = TensorFolder(folder, WEIGHTS)
    names = [name for name in weights if not name.startswith(("tower.", "projector.", "markers."))]
    shape = LanguageConfig(
        hidden_size=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        num_kv_heads=config.get("num_key_value_heads"),
        intermediate_size=config["intermediate_size"],
        max_length=config["max_position_embeddings"],
        tie_embeddings=config.get("tie_word_embeddings", False),
        num_experts=config.get("num_local_experts", 0),
        experts_per_token=config.get("num_experts_per_tok", 2),
    )
    return shape, config["vocab_size"], sum(weights[name].numel() for name in names)


def _tower_of(start: TowerStart, clip: ClipStage | None, like: Like) -> VisionConfig:
    """Shape of the tower that is bridged."""
    source = start.start_from
    if source is None:
        assert clip is not None  # or the recipe had been refused
        return clip.vision.changed(**start.changes)
    if like.tower is not None and not Path(source).exists():
        return like.tower.changed(**start.changes)
    if not source.startswith("hf-hub:") and not Path(source).exists():
        fix = "bring it here first, or name open_clip's architecture: --tower-like ViT-L-14"
        raise UsageError("the tower to start from is not here", where=source, fix=fix)
    from jvlm.model.adopt_tower import adopted_config, is_open_clip  # torch, which plans of new towers do without
    from jvlm.model.towers import tower_config

    ready = adopted_config(source) if is_open_clip(source) else tower_config(Path(source))
    return ready.changed(**start.changes)
