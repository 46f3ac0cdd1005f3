"""The short plan, without a machine: parameters, tokens, operations and state of each training stage.

Operations are 6 × parameters × tokens (Kaplan et al. 2020), attention's own products left out; memory is what
weights, gradients and AdamW's two moments take in float32 (16 bytes a parameter), activations left out.
`jvlm.plan.report` says more, for GPUs that are named.
"""

from dataclasses import dataclass

from jvlm.plan.work import Like, works
from jvlm.recipe import Recipe

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


def plan(recipe: Recipe, like: Like | None = None) -> list[StagePlan]:
    """One line for each training stage the recipe has. `like` stands for models to start from that are not here."""
    return [_stage(work.stage, work.parameters, work.tokens) for work in works(recipe, like or Like())]


def _stage(stage: str, parameters: int, tokens: int) -> StagePlan:
    return StagePlan(stage, parameters, tokens, 6.0 * parameters * tokens, parameters * BYTES_PER_PARAMETER / 2**30)
