"""What a model must be able to do to be asked questions, whoever implements it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from jvlm.sample import Sample


@dataclass(frozen=True)
class Generation:
    """One generated turn. `num_tokens` counts the generated tokens; "length" means the cap was reached."""

    text: str
    finish_reason: Literal["stop", "length"]
    num_tokens: int


class Likelihood(NamedTuple):
    """Sum of log p (natural) over the `num_tokens` tokens of a choice."""

    log_likelihood: float
    num_tokens: int


class Model(Protocol):
    """The interface that evaluation, jobs and apps code against."""

    def check(self, sample: Sample, answers: Sequence[str]) -> None:
        """Raises DataError when prompt and longest answer do not fit the window, or an image cannot be read."""
        ...

    def generate(
        self, samples: Sequence[Sample], *, max_new_tokens: int = 64, temperature: float = 0.0, seed: int = 0
    ) -> list[Generation]:
        """Continue each sample after its last user turn; temperature 0 is greedy."""
        ...

    def choice_log_likelihoods(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[list[float]]:
        """For each sample and each of its choices: sum of log p over the choice's text and the end mark."""
        ...


class TextModel(Protocol):
    """What the text benchmarks ask of a model."""

    @property
    def settings(self) -> dict[str, str | bool | int]:
        """What of this reader, beside the weights, its answers depend on: how a turn is written, precision."""
        ...

    def refusals(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[str | None]:
        """Why a sample cannot be put to the model: it has pictures, or prompt and choice do not fit the window.

        None where it can. Without choices, room for one token is enough.
        """
        ...

    def generate(
        self, samples: Sequence[Sample], *, max_new_tokens: int = 64, stop: Sequence[str] = ()
    ) -> list[Generation]:
        """Greedy continuations, cut before the first of the texts `stop`; reaching one is the finish reason "stop"."""
        ...

    def choice_likelihoods(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[list[Likelihood]]:
        """The likelihood of each sample's choices, in a conversation with the end mark."""
        ...
