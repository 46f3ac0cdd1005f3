"""What a recipe will cost before it is started: parameters, tokens, operations and memory of each training stage.

Operations are 6 × parameters × tokens (Kaplan et al. 2020), attention's own products left out; memory is what
weights, gradients and AdamW's two moments take in float32 (16 bytes a parameter), activations left out.
"""

from dataclasses import dataclass

from jvlm.model.config import LanguageConfig, VisionConfig
from jvlm.recipe import Recipe
from jvlm.train.config import LoopConfig, PackingConfig

BYTES_PER_PARAMETER = 16


@dataclass(frozen=True)
class StagePlan:
    """One training stage. `tokens` are packed positions (pairs for CLIP count their patches and text places)."""

    stage: str
    parameters: int
    tokens: int
    operations: float
    state_gib: float


def language_parameters(config: LanguageConfig, vocab_size: int) -> int:
    """Parameters of a Llama of this shape."""
    d, kv = config.hidden_size, config.hidden_size * (config.num_kv_heads or config.num_heads) // config.num_heads
    block = 2 * d * d + 2 * d * kv + 3 * d * config.intermediate_size + 2 * d
    embeddings = vocab_size * d * (1 if config.tie_embeddings else 2)
    return config.num_layers * block + embeddings + d


def tower_parameters(config: VisionConfig) -> int:
    """Parameters of open_clip's ViT of this shape, joint-space head included."""
    d = config.width
    block = 12 * d * d + 13 * d
    embeddings = 3 * config.patch_size**2 * d + d + (config.grid**2 + 1) * d
    return config.layers * block + embeddings + 4 * d + d * config.embed_dim


def plan(recipe: Recipe) -> list[StagePlan]:
    """One line for each training stage the recipe has."""
    stages = recipe.stages
    out: list[StagePlan] = []
    vocab = stages.tokenizer.vocab_size if stages.tokenizer else 0
    language = language_parameters(stages.pretrain.language, vocab) if stages.pretrain else 0
    tower = tower_parameters(stages.clip.vision) if stages.clip else 0
    if stages.pretrain:
        out.append(_packed("pretrain", language, stages.pretrain.loop, stages.pretrain.packing))
    if stages.clip:
        vision = stages.clip.vision
        tokens = stages.clip.loop.steps * stages.clip.batch_size * (vision.grid**2 + vision.text_length)
        text = vision.text_layers * 12 * vision.text_width**2 + vocab * vision.text_width
        out.append(_stage("clip", tower + text, tokens))
    phases = {"align": stages.align, "instruct": stages.instruct}
    if stages.medical:
        phases |= {"medical/1-pretrain": stages.medical.pretrain, "medical/2-instruct": stages.medical.instruct}
    for name, phase in phases.items():
        if phase:
            out.append(_packed(name, language + tower, phase.loop, phase.packing))
    return out


def _packed(stage: str, parameters: int, loop: LoopConfig, packing: PackingConfig) -> StagePlan:
    return _stage(stage, parameters, loop.steps * packing.rows * packing.row_length)


def _stage(stage: str, parameters: int, tokens: int) -> StagePlan:
    return StagePlan(stage, parameters, tokens, 6.0 * parameters * tokens, parameters * BYTES_PER_PARAMETER / 2**30)
