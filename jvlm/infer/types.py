"""What a model must be able to do to be asked questions, whoever implements it."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from jvlm.errors import UsageError
from jvlm.sample import Sample


@dataclass(frozen=True)
class Generation:
    """One generated turn. `num_tokens` counts the generated tokens; "length" means the cap was reached."""

    text: str
    finish_reason: Literal["stop", "length"]
    num_tokens: int


@dataclass(frozen=True)
class Request:
    """A turn to be written by the engine (`jvlm.infer.engine`).

    `temperature` 0 is greedy; else draws depend on `seed` alone, out of the likeliest tokens that together have the
    share `top_p`. The text ends before the first of the texts `stop`. With `choices` the answer is one of these texts,
    chosen token by token and always whole: `max_new_tokens` does not count.
    """

    sample: Sample
    max_new_tokens: int = 96
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises UsageError for what cannot be done."""
        for wrong, what in (
            (self.max_new_tokens < 1, f"max_new_tokens is {self.max_new_tokens}, it must be at least 1"),
            (not 0 <= self.temperature < math.inf, f"temperature is {self.temperature}, it must be 0 or more"),
            (not 0 < self.top_p <= 1, f"top_p is {self.top_p}, it must be above 0 and at most 1"),
            ("" in self.stop, "a stop text is empty"),
        ):
            if wrong:
                raise UsageError(what, where=self.sample.id)


class Event(NamedTuple):
    """What a step brought to the request of `key`.

    `text` is new and final: no half characters, nothing that a stop text may still swallow. All texts of a request
    together are its answer. `generation` comes once, with the last of them.
    """

    key: Hashable
    text: str
    generation: Generation | None = None


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
        self,
        samples: Sequence[Sample],
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        seed: int | Sequence[int] = 0,
    ) -> list[Generation]:
        """Continue each sample after its last user turn; temperature 0 is greedy. One seed, or one for each."""
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
