"""Published exams, as papers: points and passing marks, with the images and without, beside chance and constants."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from pydantic import Field

from jvlm.assets import asset
from jvlm.config import Config, load_config
from jvlm.errors import DataError
from jvlm.eval import requests
from jvlm.eval.audits import image_removal_audit
from jvlm.eval.exam import is_correct, score_exam
from jvlm.eval.exam_task import ask_exam, read_marks, score_marks
from jvlm.eval.items import ExamItem, exam_sample, load_items
from jvlm.eval.ledger import Record
from jvlm.infer.types import Model
from jvlm.sample import Sample

MAX_NEW_TOKENS = 16
COLUMNS = (
    "exam", "n", "points", "必修", "passed", "accuracy", "with image", "removed", "chance", "best constant",
    "parse failures", "not asked",
)  # fmt: skip
"""Heads of the columns of `summary`."""


class Mark(Config):
    """Points needed of points counted, as announced."""

    points: int = Field(description="Points of the general part that pass", ge=0)
    total: int = Field(description="Points that counted, after exclusions", ge=1)


class Marks(Config):
    """The passing marks of `evals/exams.yaml`."""

    version: str = Field(description="Version of the marks, written into the results")
    general: dict[str, Mark] = Field(description="By the `exam` of an item")


def evaluate_exam_set(model: Model, folder: Path, out: Path, *, name: str, seed: int = 0) -> dict[str, Record]:
    """Every exam of ``folder/items.jsonl``, by its name; records go to ``out/samples.jsonl`` under `name`.

    Choices are compared by the log-likelihood of their texts, numbers are generated. Questions that leave the model
    no room, or whose picture cannot be read, count as not answered and are listed in `not_asked`.

    Returns per exam: `image` and `removed` (accuracy on the questions with pictures), `all`, `audit`, `not_asked`, and
    where a passing mark is published `sheet`, with `points_missing`: the published total less those on this paper.
    Raises DataError when the records are missing.
    """
    path = folder / "items.jsonl"
    if not path.is_file():
        build = f"jvlm data build {folder.name} --source FOLDER --out {folder}"
        raise DataError("no exam records", where=path, fix=f"make them from the published files: `{build}`")
    marks = load_config(Marks, asset("evals", "exams.yaml"))
    items = sorted(load_items(path), key=lambda item: item.id)
    exams = sorted({item.exam for item in items})
    return {
        exam: _evaluate(model, [i for i in items if i.exam == exam], folder.name, out, name, marks, seed)
        for exam in exams
    }


def _evaluate(model: Model, items: list[ExamItem], task: str, out: Path, name: str, marks: Marks, seed: int) -> Record:
    asked, not_asked = _askable(model, items)
    said = _asked(model, asked, task, out, name, "image", exam_sample)
    pictured = [item for item in asked if item.images]
    blind = _asked(model, pictured, task, out, name, "removed", lambda item: exam_sample(item, with_image=False))
    result: Record = {"not_asked": not_asked, "marks": marks.version}
    groups = (("all", asked, said), ("image", pictured, said), ("removed", pictured, blind))
    for arm, group, answers in groups:
        if group:
            result[arm] = score_marks(group, [answers[item.id] for item in group], seed)
    if pictured:
        right = [{i.id: is_correct(i, answers[i.id][0]) for i in pictured} for answers in (said, blind)]
        result["audit"] = image_removal_audit(right[0], right[1], {i.id: i.group_id for i in pictured}, seed)
    mark = marks.general.get(items[0].exam)
    if mark is not None:
        sheet = score_exam(items, {i: answer for i, (answer, _) in said.items()}, Fraction(mark.points, mark.total))
        result["sheet"] = sheet.to_record() | {"points_missing": mark.total - sheet.general.total}
    return result


def _askable(model: Model, items: Sequence[ExamItem]) -> tuple[list[ExamItem], dict[str, str]]:
    """The items that fit the model's window with pictures that can be read, and the others with the reason."""
    asked, not_asked = [], {}
    for item in items:
        try:
            model.check(exam_sample(item), [option.text for option in item.options] or ["0" * MAX_NEW_TOKENS])
        except DataError as error:
            not_asked[item.id] = error.what
            continue
        asked.append(item)
    return asked, not_asked


def _asked(
    model: Model,
    items: list[ExamItem],
    task: str,
    out: Path,
    name: str,
    arm: str,
    put: Callable[[ExamItem], Sample],
) -> dict[str, Any]:
    questions = [requests.question(put(item)) for item in items]
    records = ask_exam(model, items, questions, out, name=name, task=task, arm=arm, max_new_tokens=MAX_NEW_TOKENS)
    return {item.id: read_marks(item, record) for item, record in zip(items, records, strict=True)}


def summary(exam: str, result: Record) -> list[str]:
    """One line of a table with `COLUMNS`: shares in percent, with the 95 % interval where n is small."""
    whole, sheet = result.get("all", {}), result.get("sheet")
    points = f"{sheet['points']} / {sheet['total']}" if sheet else "–"
    if sheet and sheet["points_missing"]:
        points += f" ({sheet['points_missing']} absent)"
    required = f"{sheet['required_share']:.1%}" if sheet and sheet["required_share"] is not None else "–"
    passed = ("yes" if sheet["passed"] else "no") if sheet else "–"
    row = [exam, str(whole.get("n", 0)), points, required, passed]
    row += [_percent(result.get(arm)) for arm in ("all", "image", "removed")]
    row += [f"{whole[key]:.1%}" if whole.get(key) is not None else "–" for key in ("chance", "best_constant")]
    return [*row, str(whole.get("parse_failures", 0)), str(len(result["not_asked"]))]


def _percent(score: Record | None) -> str:
    if not score:
        return "–"
    low, high = score["interval"]
    return f"{score['value']:.1%} [{low:.1%}, {high:.1%}] n={score['n']}"
