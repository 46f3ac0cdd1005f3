"""Scoring an exam paper by the official rules of the Japanese national exams.

The rule of an exam says what passes (`pass_rules`); for physicians, since their 112th round: 必修 at least 80 % AND the
general part at least its cut-off AND taboo options (禁忌肢) chosen in at most three questions. Several answers asked
for: all or nothing. A removed question ("採点除外") leaves the denominator, for everybody or for those who got it
wrong: total - points(removed items answered wrong).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, TypeVar

from jvlm.errors import DataError, JvlmError
from jvlm.eval.items import ExamItem
from jvlm.eval.metrics import folded
from jvlm.eval.pass_rules import PassRule, field_of, in_part, needed, physicians

Label = TypeVar("Label")


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
    """The sheet an examinee gets. `parse_failures` were answered unreadably, `unanswered` not at all.

    `parts`: the points of each part that the rule names; `field_parts`: of those parts in which every field counts, the
    points of each.
    """

    rule: PassRule
    all: Tally = field(default_factory=Tally)
    required: Tally = field(default_factory=Tally)
    general: Tally = field(default_factory=Tally)
    parts: dict[str, Tally] = field(default_factory=dict)
    field_parts: dict[str, dict[str, Tally]] = field(default_factory=dict)
    taboo_count: int = 0
    taboo_items: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    parse_failures: int = 0
    unanswered: int = 0
    by_section: dict[str, Tally] = field(default_factory=dict)
    by_kind: dict[str, Tally] = field(default_factory=dict)
    by_field: dict[str, Tally] = field(default_factory=dict)
    correct: dict[str, bool] = field(default_factory=dict)

    def needed(self, part: str) -> int:
        """Points that pass in a part, of those that count for this examinee; 0 where the rule asks for none."""
        need = self.rule.needs.get(part)
        return needed(need, self.parts[part].total) if need else 0

    def part_passed(self, part: str) -> bool:
        """At least the points needed: exactly the mark is enough. True for a part that the paper does not have."""
        return part not in self.parts or self.parts[part].points >= self.needed(part)

    @property
    def required_passed(self) -> bool:
        return self.part_passed("required")

    @property
    def general_passed(self) -> bool:
        return self.part_passed("general")

    @property
    def taboo_passed(self) -> bool:
        return self.rule.max_taboo is None or self.taboo_count <= self.rule.max_taboo

    @property
    def fields_passed(self) -> bool:
        """No more fields without a point than allowed, and in each field what it needs for itself."""
        empty = sum(tally.points == 0 for tally in self.by_field.values())
        allowed = self.rule.max_empty_fields
        return (allowed is None or empty <= allowed) and all(
            tally.points >= needed(self.rule.each_field[part], tally.total)
            for part, fields in self.field_parts.items()
            for tally in fields.values()
        )

    @property
    def passed(self) -> bool:
        return all(map(self.part_passed, self.parts)) and self.taboo_passed and self.fields_passed

    def to_record(self) -> dict[str, Any]:
        """JSON form; shares are fractions 0 to 1, None where no point was to be won."""
        record = asdict(self)
        del record["correct"], record["all"], record["rule"], record["parts"], record["field_parts"]
        record["needs"] = {
            part: asdict(tally) | {"needed": self.needed(part), "passed": self.part_passed(part)}
            for part, tally in self.parts.items()
        }
        record |= {"points": self.all.points, "total": self.all.total, "n": self.all.n, "n_correct": self.all.correct}
        record |= {"required_share": self.required.share, "general_share": self.general.share, "share": self.all.share}
        record |= {"required_needed": self.needed("required"), "general_needed": self.needed("general")}
        names = ("required_passed", "general_passed", "taboo_passed", "fields_passed", "passed")
        return record | {name: getattr(self, name) for name in names} | {"max_taboo": self.rule.max_taboo}


def score_exam(
    items: Sequence[ExamItem], answers: Mapping[str, list[str] | None], rule: PassRule | float | Fraction
) -> ExamSheet:
    """Score one examinee.

    Args:
        answers: per item id the labels marked (or one number as text); None = could not be read as an answer.
        rule: when the paper is passed; a number is the general cut-off of the physicians' rule, 0 to 1.

    Raises DataError for answers to items that are not on the paper.
    """
    unknown = sorted(set(answers) - {item.id for item in items})
    if unknown:
        raise DataError(f"answers to items not on the paper, such as {unknown[0]!r}")
    sheet = ExamSheet(rule if isinstance(rule, PassRule) else physicians(rule))
    sheet.parts = {part: Tally() for part in sheet.rule.needs}
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
        for tally in _tallies(sheet, item):
            tally.add(item.points, correct)
    sheet.taboo_count = len(sheet.taboo_items)
    return sheet


def picture_kind(item: ExamItem) -> str:
    """`image`, `image_missing` where the records lack the picture that the question needs, or `text`."""
    return "image" if item.pictures else "image_missing" if "image_missing" in item.tags else "text"


def _tallies(sheet: ExamSheet, item: ExamItem) -> list[Tally]:
    """Every tally of the sheet in which the question counts."""
    found = [sheet.all, sheet.required if item.required else sheet.general]
    found += [tally for part, tally in sheet.parts.items() if in_part(item, part)]
    found += [sheet.by_section.setdefault(item.section, Tally())]
    found += [sheet.by_kind.setdefault(kind, Tally()) for kind in (item.answer_type, picture_kind(item))]
    name = field_of(item)
    if name is not None:
        found.append(sheet.by_field.setdefault(name, Tally()))
        for part in sheet.rule.each_field:
            if in_part(item, part):
                found.append(sheet.field_parts.setdefault(part, {}).setdefault(name, Tally()))
    return found


def is_correct(item: ExamItem, answer: list[str] | None) -> bool:
    """Whether the marks equal one of the accepted answers: as sets of labels, numbers or texts (`folded`)."""
    if not answer:
        return False
    if item.answer_type == "numeric":
        return len(answer) == 1 and any(_same_number(answer[0], accepted[0]) for accepted in item.accept)
    if item.answer_type == "open":
        return len(answer) == 1 and any(folded(answer[0]) == folded(accepted[0]) for accepted in item.accept)
    return len(set(answer)) == len(answer) and any(set(answer) == set(accepted) for accepted in item.accept)


def choose(log_likelihoods: Sequence[float], labels: Sequence[Label], n_select: int) -> tuple[list[Label], bool]:
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
