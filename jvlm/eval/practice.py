"""Exam questions one at a time: what a model thinks of each choice, how sure it is, and a person's sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

from jvlm.assets import asset
from jvlm.errors import DataError
from jvlm.eval.calibration import choices, probabilities
from jvlm.eval.exam import ExamSheet, choose, score_exam
from jvlm.eval.items import ExamItem, load_items
from jvlm.eval.pass_rules import PassRule, load_pass_rules
from jvlm.eval.toy import load_toy_config
from jvlm.files import read_json

_LEAST = 1e-300
"""Taken for a probability that is smaller than a float holds."""


@dataclass(frozen=True)
class Calibrated:
    """What an evaluation of the exam taught about the model's certainty (`jvlm.eval.calibration`).

    `threshold`: below it the model had better not answer; None where no threshold kept its promise.
    """

    temperature: float
    threshold: float | None


@dataclass(frozen=True)
class Opinion:
    """What the model thinks of one question.

    Attributes:
        probabilities: of each option, in their order; they sum to 1.
        marks: the labels it would mark.
        confidence: probability of the likeliest option after temperature scaling; None where nothing calibrates it.
        abstains: whether it had better not answer; None where no threshold is known.
    """

    probabilities: list[float]
    marks: list[str]
    confidence: float | None
    abstains: bool | None


def opinion(item: ExamItem, shares: Sequence[float], calibrated: Calibrated | None) -> Opinion:
    """From the probabilities of the item's choices."""
    logs = [log(max(share, _LEAST)) for share in shares]
    marks, _ = choose(logs, item.labels, item.n_select)
    confidence = abstains = None
    if calibrated is not None and item.answer_type == "mcq_single":
        confidence = float(probabilities(choices([logs], [[]]), calibrated.temperature)[0].max())
        abstains = None if calibrated.threshold is None else max(shares) < calibrated.threshold
    return Opinion(list(shares), marks, confidence, abstains)


def load_papers(place: Path) -> dict[str, list[ExamItem]]:
    """The exams of a JSONL file, or of every one in a folder, by their names, each in the order of its questions.

    Raises DataError when there is none.
    """
    files = [place] if place.is_file() else sorted(place.glob("*.jsonl"))
    if not files:
        raise DataError("no exam found", where=place, fix="build one with `jvlm data build`, or name another folder")
    papers: dict[str, list[ExamItem]] = {}
    for path in files:
        for item in load_items(path):
            papers.setdefault(item.exam, []).append(item)
    return {exam: sorted(items, key=lambda item: (item.section, item.number)) for exam, items in papers.items()}


def load_calibration(results: Path, exam: str) -> Calibrated | None:
    """What `results.json` of `jvlm eval` says of the model's certainty on `exam`; None where it says nothing.

    Raises DataError when the file is not readable as JSON.
    """
    if not results.is_file():
        return None
    found: Any = read_json(results)
    said = found.get(exam, {}).get("calibration") if isinstance(found, dict) else None
    return Calibrated(said["temperature"], said["abstention"]["threshold"]) if said else None


def sheet_of(items: Sequence[ExamItem], answers: Mapping[str, list[str] | None]) -> ExamSheet:
    """The official score sheet of one examinee; an exam without a published rule is marked like the toy one."""
    rule: PassRule | float | None = load_pass_rules().of(items[0].exam)
    return score_exam(items, answers, load_toy_config(asset("evals", "toy.yaml")).cutoff if rule is None else rule)
