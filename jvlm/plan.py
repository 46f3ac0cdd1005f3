"""What a recipe will cost before it is started: parameters, tokens, operations and memory of each training stage.

Operations are 6 × parameters × tokens (Kaplan et al. 2020), attention's own products left out; memory is what
weights, gradients and AdamW's two moments take in float32 (16 bytes a parameter), activations left out.
"""

from dataclasses import dataclass
from pathlib import Path

from jvlm.files import read_json
from jvlm.model.config import LanguageConfig, ProjectorConfig, VisionConfig, num_image_tokens
from jvlm.recipe import Recipe
from jvlm.settings import ClipStage, PhasedStage, TowerStart
from jvlm.train.config import LoopConfig, PackingConfig

BYTES_PER_PARAMETER = 16


@dataclass(frozen=True)
class StagePlan:
    """One training stage. `tokens` are packed positions (for CLIP patches and text places; for
    preferences the most that two answers can take)."""

    stage: str
    parameters: int
    tokens: int
    operations: float
    state_gib: float


def language_parameters(config: LanguageConfig, vocab_size: int) -> int:
    """Parameters of a language model of this shape, all its experts counted."""
    d, kv = config.hidden_size, config.hidden_size * (config.num_kv_heads or config.num_heads) // config.num_heads
    experts = config.num_experts
    block = 2 * d * d + 2 * d * kv + 3 * d * config.intermediate_size * max(1, experts) + experts * d + 2 * d
    embeddings = vocab_size * d * (1 if config.tie_embeddings else 2)
    return config.num_layers * block + embeddings + d


def tower_parameters(config: VisionConfig) -> int:
    """Parameters of the image tower, joint-space head included; one of open_clip's or timm's is built to be counted."""
    if config.timm_model or config.open_clip_cfg:
        import torch  # which the other plans do without

        from jvlm.model.vision import build_tower

        with torch.device("meta"):  # without its weights
            return sum(parameter.numel() for parameter in build_tower(config).parameters())
    d = config.width
    embeddings = 3 * config.patch_size**2 * d + d + (config.grid**2 + 1) * d
    return config.layers * _block(d) + embeddings + 4 * d + d * config.embed_dim


def text_tower_parameters(config: VisionConfig, vocab_size: int) -> int:
    """Parameters of CLIP's text tower of this shape, temperature included."""
    d = config.text_width
    return config.text_layers * _block(d) + (vocab_size + config.text_length + 2 + config.embed_dim) * d + 1


def projector_parameters(config: ProjectorConfig, vision: VisionConfig, language_size: int) -> int:
    """Parameters of the projector and of the marks of images."""
    width, d, tokens, marks = vision.feature_width, language_size, num_image_tokens(vision, config), 3 * language_size
    if config.kind == "linear":
        return marks + (width + 1) * d
    if config.kind == "mlp":
        return marks + (width + 1) * d + (d + 1) * d
    if config.kind == "resampler":
        return marks + tokens * d + width * d + 4 * (d + 1) * d + 6 * d
    folded = width * (config.shuffle or 1) ** 2
    return marks + 2 * folded + (folded + 1) * 2 * d + (2 * d + 1) * d + (1 + tokens) * d


def plan(recipe: Recipe) -> list[StagePlan]:
    """One line for each training stage the recipe has."""
    stages = recipe.stages
    out: list[StagePlan] = []
    vocab = stages.tokenizer.vocab_size if stages.tokenizer else 0
    whole = width = length = 0
    if stages.pretrain:
        if stages.pretrain.start_from:
            whole, width, length, vocab = _of_directory(stages.pretrain.start_from)
        else:
            shape = stages.pretrain.shape
            whole, width, length = language_parameters(shape, vocab), shape.hidden_size, shape.max_length
        out.append(_packed("pretrain", whole, stages.pretrain.loop, stages.pretrain.packing))
    if stages.clip:
        vision, text = stages.clip.vision, text_tower_parameters(stages.clip.vision, vocab)
        tokens = stages.clip.loop.steps * stages.clip.batch_size * (vision.grid**2 + vision.text_length)
        out.append(_stage("clip", tower_parameters(vision) + text, tokens))
    if stages.align:
        vision = _tower_of(stages.align.tower, stages.clip)
        whole += tower_parameters(vision) + projector_parameters(stages.align.projector, vision, width)
        out.append(_packed("align", whole, stages.align.loop, stages.align.packing))
    if stages.pretrain_vl:
        out.append(_packed("pretrain_vl", whole, stages.pretrain_vl.loop, stages.pretrain_vl.packing))
    out += _phases("instruct", stages.instruct, whole)
    if stages.prefer:
        # both answers of a pair, at most this long; the reference is computed beforehand, forward only
        out.append(_stage("prefer", whole, stages.prefer.loop.steps * stages.prefer.pairs * 2 * length))
    out += _phases("medical", stages.medical, whole)
    return out


def _tower_of(start: TowerStart, clip: ClipStage | None) -> VisionConfig:
    """Shape of the tower that is bridged."""
    if start.start_from is None:
        assert clip is not None  # or the recipe had been refused
        return clip.vision.changed(**start.changes)
    from jvlm.model.adopt_tower import adopted_config, is_open_clip  # torch, which plans of new towers do without
    from jvlm.model.towers import tower_config

    source = start.start_from
    ready = adopted_config(source) if is_open_clip(source) else tower_config(Path(source))
    return ready.changed(**start.changes)


def _of_directory(folder: Path) -> tuple[int, int, int, int]:
    """Parameters, width, longest sequence and vocabulary of the language model that a directory holds."""
    from jvlm.model.directory import WEIGHTS  # torch, which plans of new models do without
    from jvlm.model.tensors import TensorFolder

    config = read_json(folder / "config.json")
    config = config.get("language", config)
    weights = TensorFolder(folder, WEIGHTS)
    parts = [name for name in weights if not name.startswith(("tower.", "projector.", "markers."))]
    parameters = sum(weights[name].numel() for name in parts)
    return parameters, config["hidden_size"], config["max_position_embeddings"], config["vocab_size"]


def _block(width: int) -> int:
    return 12 * width**2 + 13 * width


def _phases(stage: str, config: PhasedStage | None, parameters: int) -> list[StagePlan]:
    folders = config.folders if config else {}
    return [_packed(f"{stage}/{name}", parameters, phase.loop, phase.packing) for name, phase in folders.items()]


def _packed(stage: str, parameters: int, loop: LoopConfig, packing: PackingConfig) -> StagePlan:
    return _stage(stage, parameters, loop.steps * packing.rows * packing.row_length)


def _stage(stage: str, parameters: int, tokens: int) -> StagePlan:
    return StagePlan(stage, parameters, tokens, 6.0 * parameters * tokens, parameters * BYTES_PER_PARAMETER / 2**30)
