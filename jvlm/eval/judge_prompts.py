"""How answers are put to a judge, and how what it says is read: `evals/judge_prompts.yaml`.

What cannot be read is None: counted as a failure and left out of every figure, never taken for a low rating.
"""

import json
import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from jvlm.assets import asset
from jvlm.config import Config, load_config
from jvlm.errors import DataError, UsageError
from jvlm.eval.answer_rules import without_asides
from jvlm.eval.parsing import RULES
from jvlm.files import sha256_bytes
from jvlm.sample import Message, Sample

LOWEST, HIGHEST = 1.0, 10.0

_RATING = re.compile(r"\[\[(\d+(?:\.\d+)?)\]\]")
_BARE_RATING = re.compile(r"\[(\d+(?:\.\d+)?)\]")  # FastChat, too, takes single brackets where there are no double ones
_VERDICT = re.compile(r"\[\[([ABC])\]\]")
_OBJECT = re.compile(r"\{[^{}]*\}")


class JudgePrompt(Config):
    """One question to a judge."""

    system: str = Field(description="The system turn")
    template: str = Field(
        description="The user's turn; names {question_N}, {answer_N}, {reference_N} of turn N from 1, {answer_a}, "
        "{answer_b} of a pair, {context}"
    )


class Protocol(Config):
    """How the answers of a benchmark are judged."""

    version: str = Field(description="Version of the wording, written into the results")
    kind: Literal["single", "pair", "relative"] = Field(description="What is asked for: see the head of the file")
    plain: tuple[JudgePrompt, ...] = Field(description="A prompt for each turn of the conversation")
    referenced: tuple[JudgePrompt, ...] = Field((), description="The same beside reference answers")
    reference_kinds: tuple[str, ...] = Field((), description="Kinds of questions that are judged beside a reference")
    max_new_tokens: int = Field(ge=1, description="Cap of what a judge says")
    sources: tuple[str, ...] = Field((), description="Where the wordings come from")

    @model_validator(mode="after")
    def _whole(self) -> "Protocol":
        if self.reference_kinds and len(self.referenced) != len(self.plain):
            raise ValueError("each turn needs a prompt with a reference as well")
        return self

    @property
    def sha256(self) -> str:
        """Sixteen digits of the hash of all that is said to the judge."""
        said = [prompt.model_dump() for prompt in (*self.plain, *self.referenced)]
        text = json.dumps([said, self.reference_kinds, self.max_new_tokens], sort_keys=True, ensure_ascii=False)
        return sha256_bytes(text.encode())[:16]

    def question(self, identity: str, kind: str, turn: int, fields: Mapping[str, str]) -> Sample:
        """What the judge is asked of turn `turn`, from 0. Raises DataError when a field is missing."""
        prompt = (self.referenced if kind in self.reference_kinds else self.plain)[turn]
        try:
            text = prompt.template.format(**fields)
        except KeyError as missing:
            raise DataError(
                f"{missing.args[0]} is needed to judge it", where=identity, fix="build the data set again, whole"
            ) from None
        return Sample(identity, [Message("system", [prompt.system]), Message("user", [text])])


class JudgePrompts(Config):
    """The file of the protocols."""

    protocols: dict[str, Protocol] = Field(description="By name")


def load_protocol(name: str) -> Protocol:
    """A protocol that comes with jvlm. Raises UsageError for an unknown one."""
    known = load_config(JudgePrompts, asset("evals", "judge_prompts.yaml")).protocols
    if name not in known:
        raise UsageError(f"no way to judge is called '{name}'", fix=f"known: {', '.join(known)}")
    return known[name]


def read_rating(said: str) -> float | None:
    """A rating of 1 to 10, written [[5]]; the first one, as FastChat reads it."""
    said = without_asides(RULES, said)
    found = _RATING.search(said) or _BARE_RATING.search(said)
    rating = float(found.group(1)) if found else 0.0
    return rating if LOWEST <= rating <= HIGHEST else None


def read_verdict(said: str) -> str | None:
    """A, B or C, written [[A]]; several different ones say nothing."""
    found = set(_VERDICT.findall(without_asides(RULES, said)))
    return found.pop() if len(found) == 1 else None


def read_scores(said: str) -> tuple[float, float] | None:
    """(rating of the answer, rating of the reference), written as JSON with score and score_gpt."""
    for found in _OBJECT.findall(without_asides(RULES, said)):
        try:
            scores = json.loads(found)
            pair = float(scores["score"]), float(scores["score_gpt"])
        except (ValueError, KeyError, TypeError):
            continue
        if all(LOWEST <= score <= HIGHEST for score in pair):
            return pair
    return None
