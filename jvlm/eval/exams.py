"""Published exams, as papers: points and passing marks, with the images and without, beside chance and constants."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from jvlm.errors import DataError, UsageError
from jvlm.eval.calibration import calibration
from jvlm.eval.contamination import Leak, told
from jvlm.eval.exam import picture_kind, score_exam
from jvlm.eval.exam_arms import ARMS, Asker, order_score, picture_arms, prompt_scores, refusals, written_score
from jvlm.eval.exam_prompts import PLAIN, load_exam_prompts
from jvlm.eval.exam_task import Marks, read_marks, score_by, score_marks
from jvlm.eval.items import ExamItem, load_items
from jvlm.eval.ledger import Record
from jvlm.eval.parsing import VERSION as PARSER
from jvlm.eval.pass_rules import PassRules, field_of, load_pass_rules
from jvlm.infer.types import Model

DEFAULT_ARMS = ("removed",)
NONE = "–"


def evaluate_exam_set(
    model: Model,
    folder: Path,
    out: Path,
    *,
    name: str,
    seed: int = 0,
    arms: Collection[str] = DEFAULT_ARMS,
    leaked: Mapping[str, Leak] | None = None,
    prompt: str | None = None,
) -> dict[str, Record]:
    """Every exam of ``folder/items.jsonl``, by its name; records go to ``out/samples.jsonl`` under `name`.

    Choices are compared by the log-likelihood of their texts, numbers are generated. Questions that leave the model
    no room, or whose picture cannot be read, are wrong everywhere, and listed in `not_asked` with the reason.

    Args:
        arms: what else is asked: of the questions with pictures `removed`, `blank`, `other_image`; of all of them to be
            answered in words of the model's own (`written`), with the options in three other `order`s, and with the
            other `prompts` of `evals/exam_prompts.yaml`.
        leaked: what of each question stands in the training text (`contamination.leaks`), by id.
        prompt: one of `evals/exam_prompts.yaml` in place of the plain one, for a model that was taught no turns.

    Returns per exam: `model`, `prompt`, `all`, and of its questions `text`, `image`, `image_missing`, `fields`,
    `kinds`; per arm its accuracy and in `audits` the comparison with the picture shown; `order`, `prompts`,
    `calibration`, `contamination` with the scores of the `clean` questions; `not_asked`; and where a rule is published
    `sheet`, with `points_missing`: points of published questions not in the records, and `taboo_known`: whether the
    records say of any choice that it is taboo. Raises DataError when the records are missing, UsageError for an unknown
    arm.
    """
    unknown = sorted(set(arms) - set(ARMS))
    if unknown:
        raise UsageError(f"unknown arm {unknown[0]!r}", fix=f"arms: {', '.join(ARMS)}")
    items = sorted(load_exam(folder), key=lambda item: item.id)
    rules, wording = load_pass_rules(), load_exam_prompts()[prompt] if prompt else PLAIN
    results = {}
    for exam in sorted({item.exam for item in items}):
        own = [item for item in items if item.exam == exam]
        asker = Asker(model, own, folder.name, out, name, refusals(model, own, wording), wording)
        results[exam] = {"model": name, "prompt": prompt or "plain"} | _evaluate(asker, rules, seed, arms, leaked)
    return results


def load_exam(folder: Path) -> list[ExamItem]:
    """The items of a folder of exam records. Raises DataError that says how to make them when there are none."""
    path = folder / "items.jsonl"
    if not path.is_file():
        build = f"jvlm data build {folder.name} --source FOLDER --out {folder}"
        raise DataError("no exam records", where=path, fix=f"make them from the published files: `{build}`")
    return load_items(path)


def _evaluate(
    asker: Asker, rules: PassRules, seed: int, arms: Collection[str], leaked: Mapping[str, Leak] | None
) -> Record:
    items = asker.items
    records = asker.records("image", items, [asker.sample(item) for item in items])
    said = {item.id: read_marks(item, record) for item, record in zip(items, records, strict=True)}
    marks = [said[item.id] for item in items]
    result: Record = {"not_asked": asker.refused, "marks": rules.version, "parser": PARSER}
    result |= {"all": score_marks(items, marks, seed)} | score_by(items, marks, picture_kind, seed)
    result["kinds"] = score_by(items, marks, lambda item: item.answer_type, seed)
    result["fields"] = score_by(items, marks, field_of, seed)
    result |= picture_arms(asker, said, seed, arms)
    if "written" in arms:
        result["written"] = written_score(asker, seed)
    if "order" in arms:
        result["order"] = order_score(asker, said, seed)
    if "prompts" in arms:
        result["prompts"] = prompt_scores(asker, said, seed)
    result["calibration"] = _calibration(items, records)
    if leaked is not None:
        result |= _clean(items, said, leaked, seed)
    rule = rules.of(items[0].exam)
    if rule is not None:
        answered = {i: marked.answer for i, marked in said.items() if marked.asked}
        sheet = score_exam(items, answered, rule)
        missing = None if rule.paper is None else rule.paper - sum(item.points for item in items)
        known = any(item.kinki for item in items)
        result["sheet"] = sheet.to_record() | {"points_missing": missing, "taboo_known": known}
    return result


def _calibration(items: Sequence[ExamItem], records: Sequence[Record]) -> Record | None:
    """Of the single-choice questions that were answered by the likelihood of their choices."""
    chosen = [
        (record["scores"], {item.labels.index(answer[0]) for answer in item.accept}, item.group_id)
        for item, record in zip(items, records, strict=True)
        if "scores" in record and item.answer_type == "mcq_single" and item.excluded != "all"
    ]
    scores, golds, groups = zip(*chosen, strict=True) if chosen else ((), (), ())
    return calibration(scores, golds, groups)


def _clean(items: Sequence[ExamItem], said: Mapping[str, Marks], leaked: Mapping[str, Leak], seed: int) -> Record:
    """What stood in training, and the accuracy without it; `all` stands beside it."""
    found = told(leaked, [item.id for item in items])
    clean = [item for item in items if item.id not in found["flagged"]]
    return {"contamination": found, "clean": score_marks(clean, [said[item.id] for item in clean], seed)}


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
        cells[f"{label} needed"] = _need(sheet, part)
    cells["必修 share"] = f"{sheet['required_share']:.1%}" if sheet and sheet["required"]["total"] else NONE
    cells["taboo chosen"] = str(sheet["taboo_count"]) if sheet and sheet["taboo_known"] else NONE
    cells["passed"] = NONE if not sheet else "yes" if sheet["passed"] else "no"
    cells["points absent"] = NONE if not sheet or sheet["points_missing"] is None else str(sheet["points_missing"])
    for arm, label in _SHOWN_ARMS:
        value, interval = _at(result, arm, "value"), _at(result, arm, "interval")
        cells[label] = NONE if value is None else f"{value:.1%}"
        cells[f"{label}, 95 %"] = NONE if value is None else "{:.1%} – {:.1%}".format(*interval)
    for key, label in (("chance", "chance"), ("best_constant", "best constant")):
        value = result["all"][key]
        cells[label] = NONE if value is None else f"{value:.1%}"
    for arm, label in (("all", "parse failures"), ("written", "parse failures, written")):
        rate = _at(result, arm, "parse_failure_rate")
        cells[label] = NONE if rate is None else f"{result[arm]['parse_failures']} ({rate:.1%})"
    return cells


_SHOWN_ARMS = (
    ("all", "right"),
    ("text", "text only"),
    ("image", "image questions"),
    ("removed", "without image"),
    ("written", "right, written"),
)


def _need(sheet: Any, part: str) -> str:
    """Points needed in a part: those of the whole paper where the rule knows no parts of it."""
    needs = sheet["needs"] if sheet else {}
    if part in needs and needs[part]["total"]:
        return str(needs[part]["needed"])
    return str(needs["all"]["needed"]) if part == "general" and "all" in needs else NONE


def _at(result: Record, arm: str, key: str) -> Any:
    return result[arm][key] if arm in result else None
