"""When an exam is passed: what each part of its paper needs, as announced for the exam.

`evals/exams.yaml` holds the rules. A need is written as it is published: 「208/299」 (points needed of points that
counted; for another number that counts, the same share), 「80%」, or 「65」 (points, whatever the paper holds).
"""

import re
from fractions import Fraction
from math import ceil
from typing import Annotated

from pydantic import AfterValidator, Field

from jvlm.assets import asset
from jvlm.config import Config, load_config
from jvlm.eval.items import ExamItem

REQUIRED_SHARE = "80%"
MAX_TABOO = 3
_NEED = re.compile(r"\d+(%|/[1-9]\d*)?")
_FIELD_TAGS = ("field=", "category=")


def _check_need(text: str) -> str:
    if not _NEED.fullmatch(text):
        raise ValueError(f"{text!r} is not of the form 208/299, 80% or 65")
    return text


Need = Annotated[str, AfterValidator(_check_need)]


class PassRule(Config):
    """Passed when every need is met and no limit is passed."""

    paper: int | None = Field(None, description="Points on the whole paper, before exclusions, when known", ge=1)
    needs: dict[str, Need] = Field(
        description="Points that pass, by part: all, required (必修), general (the rest) or a tag of the items; "
        "`general:3` is its questions of 3 points alone"
    )
    each_field: dict[str, Need] = Field({}, description="By part: what each of its fields needs for itself")
    max_taboo: int | None = Field(None, description="Questions in which a taboo option may be chosen", ge=0)
    max_empty_fields: int | None = Field(None, description="Fields of the paper that may end without a point", ge=0)


class PassRules(Config):
    """The rules of `evals/exams.yaml`."""

    version: str = Field(description="Version of the rules, written into the results")
    papers: dict[str, PassRule] = Field(description="By the `exam` of an item, or by what stands before its first -")

    def of(self, exam: str) -> PassRule | None:
        """The rule of an exam; None where none is published."""
        return self.papers.get(exam) or self.papers.get(exam.partition("-")[0])


def load_pass_rules() -> PassRules:
    """The rules that come with jvlm."""
    return load_config(PassRules, asset("evals", "exams.yaml"))


def physicians(cutoff: float | Fraction) -> PassRule:
    """The physicians' rule since their 112th exam, with the general cut-off of the year as a share (0 to 1)."""
    share = Fraction(str(cutoff))  # 0.6 is meant as three fifths, not as the nearest float
    need = f"{share.numerator}/{share.denominator}"
    return PassRule(needs={"required": REQUIRED_SHARE, "general": need}, max_taboo=MAX_TABOO)


def needed(need: str, total: int) -> int:
    """Points that meet a need where `total` points count for this examinee."""
    if need.isdigit():
        return int(need)
    points, _, of = need.removesuffix("%").partition("/")
    return ceil(Fraction(int(points), int(of or 100)) * total)


def in_part(item: ExamItem, part: str) -> bool:
    """Whether a question belongs to a part of the paper as rules name it."""
    name, _, points = part.partition(":")
    if points and item.points != int(points):
        return False
    named = {"all": True, "required": item.required, "general": not item.required}
    return named.get(name, name in item.tags)


def field_of(item: ExamItem) -> str | None:
    """The field (診療科, 科目) that an item's tags name; None when they name none."""
    found = (tag.removeprefix(prefix) for tag in item.tags for prefix in _FIELD_TAGS if tag.startswith(prefix))
    return next(found, None)
