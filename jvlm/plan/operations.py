"""Operations of a training stage, computed from shapes as `jvlm.model.flops` computes them from a model.

Of a language model, for each token forward: 2 × the weights of its blocks' matrices that the token goes through, 2 ×
the head for a token that is trained, and 2 × layers × width × row length for attention, a row taken as one document
under its causal mask: the most it can be. Backward is twice that where a part learns, once where a gradient only passes
through, as through weights that rest beside adapters.
"""

from functools import cache

from jvlm.model.config import VisionConfig, num_image_tokens
from jvlm.plan.parameters import active_parameters
from jvlm.plan.work import Work


def operations(work: Work) -> float:
    """Of the whole stage, forward and backward, on all GPUs together; what is computed twice is not counted twice."""
    return sum(by_part(work).values())


def recomputed(work: Work) -> float:
    """What `engine.recompute` computes again: the language model's blocks forward, where any gradient comes there."""
    if not work.engine.recompute or work.language is None:
        return 0.0
    return work.tokens * forward_token(work) if _passes(work, "language") > 1 else 0.0


def by_part(work: Work) -> dict[str, float]:
    """Operations of each part."""
    found: dict[str, float] = {}
    if work.language is not None:
        head = 2 * work.vocab_size * work.language.hidden_size * work.targets
        found["language"] = work.tokens * (forward_token(work) + head) * _passes(work, "language")
        if "language" in work.adapters:  # no gradient of the weights that rest beside them
            found["language"] -= work.tokens * (2 * _matrices(work) - 2 * work.adapters["language"] + head)
    if work.vision is not None:
        found["tower"] = work.all_views * forward_view(work.vision, work.parts["tower"])
        share = work.learns.get("tower", 0.0)
        found["tower"] *= 1 + share + (1 if "tower" in work.adapters else share)
    if work.projector is not None and work.vision is not None:
        tokens = num_image_tokens(work.vision, work.projector)
        found["projector"] = work.all_views * 2 * tokens * work.parts["projector"] * _passes(work, "projector")
    if "text" in work.parts and work.vision is not None:
        texts = work.steps * work.rows * work.vision.text_length
        found["text"] = texts * 2 * 12 * work.vision.text_layers * work.vision.text_width**2 * 3
    return found


def forward_token(work: Work) -> float:
    """Of one token through the language model's blocks, without the head."""
    assert work.language is not None
    return 2 * _matrices(work) + 2 * work.language.num_layers * work.language.hidden_size * work.row_length


def _matrices(work: Work) -> int:
    """Weights of the blocks' matrices that one token goes through, adapters among them."""
    shape = work.language
    assert shape is not None
    tables = work.vocab_size * shape.hidden_size * (1 if shape.tie_embeddings else 2)
    norms = (2 * shape.num_layers + 1) * shape.hidden_size
    return active_parameters(shape, work.vocab_size) - tables - norms + work.adapters.get("language", 0)


def forward_view(vision: VisionConfig, parameters: int) -> float:
    """Of one view of an image through the tower, as far as its features are taken."""
    if vision.timm_model is not None:
        return _counted(vision.model_dump_json())
    places, used = vision.grid**2 + 1, max(layer % vision.layers for layer in vision.feature_layers) + 1
    matrices = parameters - (places + 2) * vision.width
    share = used / vision.layers
    return share * (2 * matrices * places + 4 * vision.layers * vision.width * places**2)


def _passes(work: Work, part: str) -> int:
    """Forward, gradient of the weights, gradient of the input: of a part and of what comes before it."""
    before = {"language": ("tower", "projector"), "projector": ("tower",)}[part]
    learns = part in work.learns
    return 1 + learns + (learns or any(other in work.learns for other in before))


@cache
def _counted(config: str) -> float:
    """Of a convolutional trunk, whose products are counted one by one, on tensors without memory."""
    import torch

    from jvlm.model.flops import counted
    from jvlm.model.vision import build_tower

    vision = VisionConfig.model_validate_json(config)
    with torch.device("meta"):
        tower = build_tower(vision)
        pixels = torch.empty(1, 3, vision.image_size, vision.image_size)
        return counted(tower, lambda: tower(pixels))
