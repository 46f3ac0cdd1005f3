"""Memory of one process of a training, by part, for each of DeepSpeed's ZeRO stages.

What is always there (weights, optimizer state), what stands while a step is computed (activations, autocast's copies of
the weights in bfloat16, the chunk of the vocabulary's scores), and gradients, which come as activations go. Counted as
the engines hold them: weights, gradients and moments in float32 (`jvlm.train.config.EngineConfig`), for ZeRO 1 to 3 a
second float32 copy of each process's share of the weights, and the buckets gradients are sent in.

Activations are what autograd keeps of a decoder block of transformers' Llama and of a ViT's block, tensor by tensor; a
test compares them with what it really keeps. Frozen parts in front of everything that learns keep nothing. What
adapters keep of their own is left out.
"""

from dataclasses import dataclass
from math import ceil

from jvlm.model.config import LanguageConfig, VisionConfig, num_image_tokens
from jvlm.plan.parameters import expert_parameters
from jvlm.plan.work import Work

STATE = 4  # bytes of a weight, a gradient, a moment
BUCKET = 5e8  # elements DeepSpeed reduces at once (reduce_bucket_size)
LIVE = 1e9  # elements that ZeRO 3 keeps gathered (stage3_max_live_parameters)
CHUNK = {"cuda": 2**27, "cpu": 2**22}  # scores of a chunk (jvlm.model.loss, which is not imported for torch's sake)
CONTEXT = 1.0 * 2**30  # CUDA's context, its libraries' workspaces and NCCL's buffers
FRAGMENTS = 0.06  # of what is allocated, lost between the blocks of torch's allocator


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU. `parts` do not all stand at once: `peak` says how much does."""

    zero: int | None
    parts: dict[str, float]
    peak: float
    """Most that tensors take at once: while the backward pass begins, or while the optimizer steps."""
    main: float
    """In main memory, of an optimizer that is kept there."""

    @property
    def total(self) -> float:
        """What a GPU needs: the peak, what lies unused between its blocks, and what CUDA itself takes."""
        return self.peak * (1 + FRAGMENTS) + CONTEXT


def memory(work: Work, gpus: int, zero: int | None, device: str = "cuda") -> Memory:
    """Of one of `gpus` processes; `zero` None is plain torch, where Muon may be the optimizer."""
    share = 1 / gpus
    parted = {stage: share if (zero or 0) >= stage else 1.0 for stage in (1, 2, 3)}
    trained, whole = work.trained, work.parameters
    moments = STATE * (trained + _adamw_only(work) if work.muon and zero is None else 2 * trained) * parted[1]
    master = STATE * trained * share if zero else 0.0
    gathered = STATE * min(whole, LIVE) if zero == 3 and gpus > 1 else 0.0
    main = moments + master if work.engine.offload and zero else 0.0
    parts = {
        "weights": STATE * whole * parted[3] + gathered - work.saved,
        "master copy": 0.0 if main else master,
        "moments": 0.0 if main else moments,
        "gradients": STATE * trained * parted[2],
        "copies in bfloat16": _copies(work),
        "activations": _language_activations(work, gpus, device),
        "tower": _tower_activations(work, gpus, device),
        "head": _head(work, gpus, device),
        "buckets": STATE * BUCKET if zero else 0.0,
        "update": 2 * STATE * trained * share if zero and not main else 0.0,
    }
    always = sum(parts[name] for name in ("weights", "master copy", "moments", "buckets"))
    step = sum(parts[name] for name in ("copies in bfloat16", "activations", "tower", "head"))
    if pieces(work, gpus) > 1:  # those of the pieces before are still there
        step += parts["gradients"]
    return Memory(zero, parts, always + max(step, parts["gradients"] + parts["update"]), main)


def pieces(work: Work, gpus: int) -> int:
    """Micro-batches of one process in a step."""
    return max(1, work.accumulation // gpus)


def micro_rows(work: Work, gpus: int) -> int:
    """Rows of one micro-batch of one process; rounded up where rows cannot be dealt out evenly."""
    return max(1, ceil(work.rows / (gpus * pieces(work, gpus))))


def block_bytes(shape: LanguageConfig, precision: str, device: str = "cuda") -> float:
    """What autograd keeps of one decoder block, for one token.

    The residual stream, the norms and what goes into them are float32; under autocast each linear layer keeps its own
    bfloat16 copy of its input (only weights are cast once), in float32 those of one input share it.
    """
    d, f = shape.hidden_size, shape.intermediate_size
    kv = d * (shape.num_kv_heads or shape.num_heads) // shape.num_heads
    low = precision == "bfloat16"
    c = 2 if low else 4
    seen = d if device == "cuda" else kv  # xformers is given keys and values for every query head
    norms = 2 * (4 * d + 4 * d + (0 if low else 4 * d))
    attention = c * (2 * d + 2 * seen) + 4 * shape.num_heads + (3 * c * d if low else 0)
    if not shape.num_experts:
        return norms + attention + (2 * c * d if low else 0) + 4 * c * f
    # a token's copies for its experts, their two products and what lies between, and their outputs to be weighed
    return norms + attention + c * d + shape.experts_per_token * (2 * c * d + 5 * c * f)


def view_bytes(vision: VisionConfig, precision: str, device: str = "cuda") -> float:
    """What autograd keeps of one block of open_clip's ViT, for one patch.

    What goes into the norms and comes out of them, queries, keys, values and output, the four-fold feed-forward before
    and after its activation. Under autocast a GPU's norms are float32, a processor's are not.
    """
    c = 2 if precision == "bfloat16" else 4
    norm = c if device == "cpu" else 4
    return vision.width * (2 * norm + 2 * c + 3 * c + c + 2 * 4 * c) + 4 * 4


def _language_activations(work: Work, gpus: int, device: str) -> float:
    shape = work.language
    if shape is None or not ({"language", "projector", "tower"} & set(work.learns)):
        return 0.0
    tokens = micro_rows(work, gpus) * work.row_length
    block = block_bytes(shape, work.engine.precision, device)
    blocks = block * (shape.num_layers + 1)  # and the gradients of the one that is gone back through
    if work.engine.recompute:  # what enters each block, and one block whole with its gradients, at most
        blocks = 4 * shape.hidden_size * shape.num_layers + 2 * block
    return tokens * (blocks + 4 * 4 * shape.hidden_size)  # embeddings, the last norm and the gradient that comes back


def _tower_activations(work: Work, gpus: int, device: str) -> float:
    """Of the tower, as far as it learns, of the projector, and of the pictures themselves; CLIP's texts too."""
    vision = work.vision
    if vision is None:
        return 0.0
    views = micro_rows(work, gpus) * work.views
    places, c = vision.grid**2 + 1, 2 if work.engine.precision == "bfloat16" else 4
    pixels = 3 * vision.image_size**2 * (1 + 4)
    kept = view_bytes(vision, work.engine.precision, device) * places
    used = max(layer % vision.layers for layer in vision.feature_layers) + 1
    learns = 1.0 if "tower" in work.adapters else work.learns.get("tower", 0.0)
    blocks = max(1.0, vision.layers * learns - (vision.layers - used))
    features = places * vision.feature_width * (4 + c)
    if work.projector is not None and work.language is not None:
        features += num_image_tokens(vision, work.projector) * work.language.hidden_size * (8 + 2 * c)
    text = 0.0
    if "text" in work.parts:
        as_tower = VisionConfig(width=vision.text_width)
        text = view_bytes(as_tower, work.engine.precision, device) * vision.text_layers * vision.text_length
    return views * (pixels + kept * blocks + features + text)


def _head(work: Work, gpus: int, device: str) -> float:
    """Scores of a chunk: float32, the product and its gradient in the lower precision; or all scores, as others do."""
    if work.language is None:
        return 0.0
    tokens = micro_rows(work, gpus) * work.row_length * work.targets
    scores, low = tokens * work.vocab_size, work.engine.precision == "bfloat16"
    if not work.chunked_head:  # in the low precision, as float32, their logarithms, and the gradients of two of them
        return scores * (2 + 4 + 4 + 4 if low else 4 + 4 + 4)
    table = work.vocab_size * work.language.hidden_size
    rests = "language" not in work.learns or "language" in work.adapters
    own = 0.0 if rests else STATE * table  # its gradient is there as soon as the loss is
    return min(scores, CHUNK[device]) * (4 + 2 + 2 if low else 4) + own


def _copies(work: Work) -> float:
    """Weights that autocast has cast, of blocks and head: those that learn until the forward pass is over."""
    if work.engine.precision != "bfloat16":
        return 0.0
    copies = 0.0
    for part, parameters in work.parts.items():
        frozen = part not in work.learns or part in work.adapters
        if part == "language" and frozen and work.learns:
            frozen = work.engine.recompute  # its cast weights are kept for the gradient that passes through
        layers = 1
        if part == "language" and work.language is not None:
            layers = work.language.num_layers
            parameters -= work.vocab_size * work.language.hidden_size  # the embedding is looked up as it is
        elif part == "tower" and work.vision is not None:
            layers = work.vision.layers
        copies += 2 * parameters / (layers if frozen else 1)
    return copies


def _adamw_only(work: Work) -> float:
    """Parameters that learn but are not Muon's: all but the matrices of blocks and of the projector."""
    shape = work.language
    if shape is None:
        return work.trained
    rest = work.trained - work.learns.get("projector", 0.0) * work.parts.get("projector", 0)
    if "language" not in work.learns or "language" in work.adapters:
        return rest
    d, kv = shape.hidden_size, shape.hidden_size * (shape.num_kv_heads or shape.num_heads) // shape.num_heads
    matrices = 2 * d * d + 2 * d * kv + (0 if shape.num_experts else expert_parameters(shape))
    return rest - shape.num_layers * matrices
