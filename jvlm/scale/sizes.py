"""The shape and the training of a model of a given size, by one rule, so that only the size differs on a ladder."""

import re
from math import log

from jvlm.errors import UsageError
from jvlm.model.config import LanguageConfig
from jvlm.plan.parameters import language_parameters
from jvlm.recipe import Recipe, Stages
from jvlm.settings import PretrainStage

ASPECT = 32
"""Width of the residual stream over the number of blocks; the sizes of `configs/sizes/` of 1 to 30 M have 25 to 32."""
FEED_FORWARD = 2.75
"""Width of the feed-forward over that of the residual stream, as in those sizes."""
RATE, RATE_AT, RATE_POWER = 3e-3, 1e6, -0.176
"""The learning rate of 1 M parameters and how it falls with the size: those of `1m.yaml` and `10m.yaml`."""


def parse_sizes(text: str) -> dict[str, int]:
    """``0.5m,1m,2m`` → parameters by name, in ascending order. Raises UsageError for anything else."""
    found: dict[str, int] = {}
    for part in (part.strip().lower() for part in text.split(",")):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([km])", part)
        if match is None:
            raise UsageError(f"'{part}' is no size", fix="write sizes as 500k or 2m, with commas between them")
        found[part] = round(float(match[1]) * {"k": 1e3, "m": 1e6}[match[2]])
    return dict(sorted(found.items(), key=lambda item: item[1]))


def shape_of(parameters: int, vocab_size: int, like: LanguageConfig) -> LanguageConfig:
    """The shape nearest to so many parameters, embeddings counted, with heads as wide as those of `like`.

    Raises UsageError where the embeddings alone take so many.
    """
    head = like.hidden_size // like.num_heads
    shapes = [
        like.model_copy(
            update={
                "hidden_size": width,
                "num_heads": width // head,
                "num_kv_heads": None,
                "intermediate_size": round(FEED_FORWARD * width / 16) * 16,
                "num_layers": layers,
            }
        )
        for width in range(head, 1024 + 1, head)
        for layers in range(max(1, width // (2 * ASPECT)), max(2, 2 * width // ASPECT) + 1)
    ]
    counts = [language_parameters(shape, vocab_size) for shape in shapes]
    near = [
        (shape, count) for shape, count in zip(shapes, counts, strict=True) if abs(log(count / parameters)) < log(1.25)
    ]
    if not near:
        fix = f"choose larger sizes, or a smaller vocabulary than {vocab_size}"
        raise UsageError(f"no shape has about {parameters:,} parameters", fix=fix)

    def distance(found: tuple[LanguageConfig, int]) -> float:
        shape, count = found
        return abs(log(count / parameters)) + 0.1 * abs(log(shape.hidden_size / shape.num_layers / ASPECT))

    return min(near, key=distance)[0]


def recipe_of(recipe: Recipe, parameters: int, tokens_per_parameter: float) -> Recipe:
    """The recipe with a model of about that size, trained on so many tokens for each of its parameters.

    Rows are the recipe's for every size; the rate, the steps and the warm-up follow from the size. Raises UsageError
    for a recipe without a pretraining from scratch.
    """
    stages = recipe.stages
    if stages.pretrain is None or stages.pretrain.start_from is not None or stages.tokenizer is None:
        raise UsageError(f"recipe '{recipe.name}' has no pretraining from scratch", fix="give it a stage 'pretrain'")
    pretrain, vocab = stages.pretrain, stages.tokenizer.vocab_size
    shape = shape_of(parameters, vocab, pretrain.shape)
    count = language_parameters(shape, vocab)
    steps = max(1, round(tokens_per_parameter * count / (pretrain.packing.rows * pretrain.packing.row_length)))
    rate = RATE * (count / RATE_AT) ** RATE_POWER
    optimizer = pretrain.loop.optimizer.model_copy(update={"learning_rate": rate, "warmup": max(1, steps // 20)})
    loop = pretrain.loop.model_copy(update={"steps": steps, "optimizer": optimizer})
    pretrain = pretrain.model_copy(update={"language": shape, "loop": loop, "ngram_order": None})
    return recipe.model_copy(update={"stages": _only(recipe, pretrain)})


def _only(recipe: Recipe, pretrain: PretrainStage) -> Stages:
    """The stages up to the pretraining, and no others."""
    stages = recipe.stages
    kept = {"data": stages.data, "corpus": stages.corpus, "tokenizer": stages.tokenizer, "pretrain": pretrain}
    return stages.model_copy(update={name: kept.get(name) for name in type(stages).model_fields})
