"""Published exams, as papers: points and passing marks, with the images and without, beside chance and constants."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from pydantic import Field

from jvlm.assets import asset
from jvlm.config import Config, load_config
from jvlm.errors import DataError
from jvlm.eval import requests
from jvlm.eval.audits import image_removal_audit
from jvlm.eval.exam import is_correct, score_exam
from jvlm.eval.exam_task import Marks, ask_exam, read_marks, score_marks
from jvlm.eval.items import ExamItem, exam_sample, load_items
from jvlm.eval.ledger import Record
from jvlm.infer.types import Model

MAX_NEW_TOKENS = 16
NONE = "–"


class Mark(Config):
    """Points needed of points counted, as announced."""

    points: int = Field(description="Points of the general part that pass", ge=0)
    total: int = Field(description="Points of the general part that counted, after exclusions", ge=1)
    paper: int = Field(description="Points on the whole paper, before exclusions", ge=1)


class PassingMarks(Config):
    """The passing marks of `evals/exams.yaml`."""

    version: str = Field(description="Version of the marks, written into the results")
    general: dict[str, Mark] = Field(description="By the `exam` of an item")


def evaluate_exam_set(model: Model, folder: Path, out: Path, *, name: str, seed: int = 0) -> dict[str, Record]:
    """Every exam of ``folder/items.jsonl``, by its name; records go to ``out/samples.jsonl`` under `name`.

    Choices are compared by the log-likelihood of their texts, numbers are generated. Questions that leave the model
    no room, or whose picture cannot be read, are wrong everywhere, and listed in `not_asked` with the reason.

    Returns per exam: `image` and `removed` (accuracy on the questions with pictures), `all`, `audit`, `not_asked`, and
    where a passing mark is published `sheet`, with `points_missing`: points of published questions not in the records,
    and `taboo_known`: whether the records say of any choice that it is taboo.
    Raises DataError when the records are missing.
    """
    path = folder / "items.jsonl"
    if not path.is_file():
        build = f"jvlm data build {folder.name} --source FOLDER --out {folder}"
        raise DataError("no exam records", where=path, fix=f"make them from the published files: `{build}`")
    marks = load_config(PassingMarks, asset("evals", "exams.yaml"))
    items = sorted(load_items(path), key=lambda item: item.id)
    exams = sorted({item.exam for item in items})
    return {
        exam: _evaluate(model, [i for i in items if i.exam == exam], folder.name, out, name, marks, seed)
        for exam in exams
    }


def _evaluate(
    model: Model, items: list[ExamItem], task: str, out: Path, name: str, marks: PassingMarks, seed: int
) -> Record:
    refused = _refused(model, items)
    said = _ask(model, items, refused, task, out, name, "image")
    pictured = [item for item in items if item.pictures]
    blind = _ask(model, pictured, refused, task, out, name, "removed")
    result: Record = {"not_asked": refused, "marks": marks.version}
    for arm, group, answers in (("all", items, said), ("image", pictured, said), ("removed", pictured, blind)):
        if group:
            result[arm] = score_marks(group, [answers[item.id] for item in group], seed)
    if pictured:
        right = [{i.id: is_correct(i, answers[i.id].answer) for i in pictured} for answers in (said, blind)]
        result["audit"] = image_removal_audit(right[0], right[1], {i.id: i.group_id for i in pictured}, seed)
    mark = marks.general.get(items[0].exam)
    if mark is not None:
        answered = {i: marked.answer for i, marked in said.items() if marked.asked}
        sheet = score_exam(items, answered, Fraction(mark.points, mark.total))
        missing = mark.paper - sum(item.points for item in items)
        known = any(item.kinki for item in items)
        result["sheet"] = sheet.to_record() | {"points_missing": missing, "taboo_known": known}
    return result


def _refused(model: Model, items: Sequence[ExamItem]) -> dict[str, str]:
    """Why an item cannot be asked, by id: too long for the model's window, or a picture that cannot be read."""
    refused = {}
    for item in items:
        try:
            model.check(exam_sample(item), [option.words for option in item.options] or ["0" * MAX_NEW_TOKENS])
        except DataError as error:
            refused[item.id] = error.what
    return refused


def _ask(
    model: Model, items: list[ExamItem], refused: dict[str, str], task: str, out: Path, name: str, arm: str
) -> dict[str, Marks]:
    questions = [requests.question(exam_sample(item, with_image=arm == "image")) for item in items]
    records = ask_exam(
        model, items, questions, out, name=name, task=task, arm=arm, max_new_tokens=MAX_NEW_TOKENS, refused=refused
    )
    return {item.id: read_marks(item, record) for item, record in zip(items, records, strict=True)}


def summary(results: Mapping[str, Record]) -> list[list[str]]:
    """A table, its head first: one column per exam, one row per figure."""
    columns = {exam: _column(result) for exam, result in results.items()}
    labels = list(next(iter(columns.values()), {}))
    return [["", *columns], *([label, *(column[label] for column in columns.values())] for label in labels)]


def _column(result: Record) -> dict[str, str]:
    sheet = result.get("sheet")
    cells = {"questions": str(result["all"]["n"]), "not asked, so wrong": str(len(result["not_asked"]))}
    for part, label in (("required", "必修"), ("general", "general")):
        tally = sheet[part] if sheet else {"total": 0}
        there = bool(tally["total"])
        cells[f"{label} points"] = f"{tally['points']} / {tally['total']}" if there else NONE
        cells[f"{label} needed"] = str(sheet[f"{part}_needed"]) if sheet and there else NONE
    cells["必修 share"] = f"{sheet['required_share']:.1%}" if sheet and sheet["required"]["total"] else NONE
    cells["taboo chosen"] = str(sheet["taboo_count"]) if sheet and sheet["taboo_known"] else NONE
    cells["passed"] = NONE if not sheet else "yes" if sheet["passed"] else "no"
    cells["points absent"] = str(sheet["points_missing"]) if sheet else NONE
    for arm, label in (("all", "right"), ("image", "image questions"), ("removed", "without image")):
        score = result.get(arm)
        cells[label] = f"{score['value']:.1%}" if score else NONE
        cells[f"{label}, 95 %"] = "{:.1%} – {:.1%}".format(*score["interval"]) if score else NONE
    for key, label in (("chance", "chance"), ("best_constant", "best constant")):
        value = result["all"][key]
        cells[label] = NONE if value is None else f"{value:.1%}"
    cells["parse failures"] = str(result["all"]["parse_failures"])
    return cells
