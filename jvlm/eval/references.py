"""Published scores to hold ours against: `evals/references.yaml`, and what of their settings is another."""

from pydantic import Field

from jvlm.assets import asset
from jvlm.config import Config, load_config
from jvlm.eval.ledger import Record


class Reference(Config):
    """One published figure. Settings that its publication leaves open are None."""

    model: str = Field(description="Whose it is")
    task: str = Field(description="The benchmark, as `evals/tasks` names it")
    metric: str = Field(description="The figure, as ours are named")
    value: float = Field(ge=0, le=1, description="The score")
    at_least: bool = Field(False, description="It is said to be above the value")
    prompt: str | None = Field(None, description="Version of the wording")
    split: str | None = Field(None, description="What was asked")
    shots: int | None = Field(None, description="Number of examples")
    shots_from: str | None = Field(None, description="Split of the examples")
    source: str = Field(description="Where it was published")


class References(Config):
    """The file."""

    references: tuple[Reference, ...] = Field(description="All of them")


def load_references() -> tuple[Reference, ...]:
    """Those that come with jvlm."""
    return load_config(References, asset("evals", "references.yaml")).references


def differences(reference: Reference, result: Record) -> list[str]:
    """What of the settings of a published figure is not as in our result, or not stated; empty: comparable."""
    shots = result["settings"]["shots"]
    ours = {
        "prompt": result["version"].partition("@")[2],
        "split": result["split"],
        "shots": len(shots["ids"]),
        "shots_from": shots["split"],
    }
    theirs = {name: getattr(reference, name) for name in ours}
    return [
        f"{name.replace('_', ' ')} {'not stated' if theirs[name] is None else theirs[name]}"
        for name in ours
        if theirs[name] != ours[name]
    ]
