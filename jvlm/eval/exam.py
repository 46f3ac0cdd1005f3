"""Scoring an exam paper by the rules of the Japanese national exam for physicians (since its 112th round).

Passed = 必修 at least 80 % AND general part at least its cut-off AND taboo options (禁忌肢) chosen in at most
three questions. Several answers asked for: all or nothing. A removed question ("採点除外") leaves the
denominator, for everybody or for those who got it wrong: total - points(removed items answered wrong).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import ceil
from typing import Any

from jvlm.errors import DataError, JvlmError
from jvlm.eval.items import ExamItem

REQUIRED_PERCENT = 80
MAX_TABOO = 3


@dataclass
class Tally:
    """Points won of points possible, over `n` counted questions of which `correct` were right."""

    points: int = 0
    total: int = 0
    correct: int = 0
    n: int = 0

    @property
    def share(self) -> float | None:
        return self.points / self.total if self.total else None

    def add(self, points: int, correct: bool) -> None:
        self.total += points
        self.n += 1
        self.points += points if correct else 0
        self.correct += correct


@dataclass
class ExamSheet:
    """The sheet an examinee gets. `parse_failures` were answered unreadably, `unanswered` not at all."""

    all: Tally = field(default_factory=Tally)
    required: Tally = field(default_factory=Tally)
    general: Tally = field(default_factory=Tally)
    cutoff: Fraction = Fraction(0)
    taboo_count: int = 0
    taboo_items: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    parse_failures: int = 0
    unanswered: int = 0
    by_section: dict[str, Tally] = field(default_factory=dict)
    by_kind: dict[str, Tally] = field(default_factory=dict)
    correct: dict[str, bool] = field(default_factory=dict)

    @property
    def required_passed(self) -> bool:
        """At least 80 % of the 必修 points that count; true for a paper without a 必修 part."""
        return self.required.points >= self.required_needed

    @property
    def general_passed(self) -> bool:
        """At least the passing mark: exactly the mark is enough."""
        return self.general.points >= self.general_needed

    @property
    def required_needed(self) -> int:
        """Points of the 必修 part that pass, of those that count."""
        return ceil(Fraction(REQUIRED_PERCENT, 100) * self.required.total)

    @property
    def general_needed(self) -> int:
        """Points of the general part that pass, of those that count."""
        return ceil(self.cutoff * self.general.total)

    @property
    def taboo_passed(self) -> bool:
        return self.taboo_count <= MAX_TABOO

    @property
    def passed(self) -> bool:
        return self.required_passed and self.general_passed and self.taboo_passed

    def to_record(self) -> dict[str, Any]:
        """JSON form; shares are fractions 0 to 1, None where no point was to be won."""
        record = asdict(self)
        del record["correct"], record["all"]
        record["cutoff"] = float(self.cutoff)
        record |= {"points": self.all.points, "total": self.all.total, "n": self.all.n, "n_correct": self.all.correct}
        record |= {"required_share": self.required.share, "general_share": self.general.share, "share": self.all.share}
        record |= {"required_needed": self.required_needed, "general_needed": self.general_needed}
        record |= {
            name: getattr(self, name) for name in ("required_passed", "general_passed", "taboo_passed", "passed")
        }
        return record


def score_exam(
    items: Sequence[ExamItem], answers: Mapping[str, list[str] | None], cutoff: float | Fraction
) -> ExamSheet:
    """Score one examinee.

    Args:
        answers: per item id the labels marked (or one number as text); None = could not be read as an answer.
        cutoff: the share of the general points needed, 0 to 1; a published mark (208 of 299 points) is a Fraction.

    Raises DataError for answers to items that are not on the paper.
    """
    unknown = sorted(set(answers) - {item.id for item in items})
    if unknown:
        raise DataError(f"answers to items not on the paper, such as {unknown[0]!r}")
    sheet = ExamSheet(cutoff=Fraction(str(cutoff)))  # 0.6 is meant as three fifths, not as the nearest float
    for item in items:
        answer = answers.get(item.id)
        sheet.unanswered += item.id not in answers
        sheet.parse_failures += item.id in answers and answer is None
        correct = is_correct(item, answer)
        sheet.correct[item.id] = correct
        if item.excluded == "all" or (item.excluded == "if_wrong" and not correct):
            sheet.removed.append(item.id)
            continue
        if set(answer or []) & set(item.kinki):
            sheet.taboo_items.append(item.id)
        image = "image" if item.pictures else "image_missing" if "image_missing" in item.tags else "text"
        tallies = [sheet.all, sheet.required if item.required else sheet.general]
        tallies += [sheet.by_section.setdefault(item.section, Tally())]
        tallies += [sheet.by_kind.setdefault(kind, Tally()) for kind in (item.answer_type, image)]
        for tally in tallies:
            tally.add(item.points, correct)
    sheet.taboo_count = len(sheet.taboo_items)
    return sheet


def is_correct(item: ExamItem, answer: list[str] | None) -> bool:
    """Whether the marks equal one of the accepted answers: as sets of labels, or as numbers."""
    if not answer:
        return False
    if item.answer_type == "numeric":
        return len(answer) == 1 and any(_same_number(answer[0], accepted[0]) for accepted in item.accept)
    return len(set(answer)) == len(answer) and any(set(answer) == set(accepted) for accepted in item.accept)


def choose(log_likelihoods: Sequence[float], labels: Sequence[str], n_select: int) -> tuple[list[str], bool]:
    """The `n_select` most likely labels, in label order, and whether a tie had to be broken (earlier label wins).

    Raises JvlmError when a log-likelihood is not a number.
    """
    assert len(log_likelihoods) == len(labels)
    assert 1 <= n_select <= len(labels)
    if any(score != score for score in log_likelihoods):
        raise JvlmError(
            "a choice's log-likelihood is not a number", fix="the model's weights or activations overflowed"
        )
    ranked = sorted(range(len(labels)), key=lambda i: (-log_likelihoods[i], i))
    last, rest = ranked[n_select - 1], ranked[n_select:]
    tied = bool(rest) and log_likelihoods[rest[0]] == log_likelihoods[last]
    return [labels[i] for i in sorted(ranked[:n_select])], tied


def _same_number(first: str, second: str) -> bool:
    try:
        return Decimal(first) == Decimal(second)
    except InvalidOperation:
        return False
