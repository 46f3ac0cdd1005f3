"""Published exams, as papers: points and passing marks, with the images and without, beside chance and constants."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jvlm.errors import DataError, UsageError
from jvlm.eval import requests
from jvlm.eval.arms import blank, mismatched, other_pictures, shuffled
from jvlm.eval.audits import image_removal_audit, order_audit, paired_test
from jvlm.eval.calibration import calibration
from jvlm.eval.contamination import Leak
from jvlm.eval.exam import is_correct, picture_kind, score_exam
from jvlm.eval.exam_prompts import PLAIN, ExamPrompt, load_exam_prompts
from jvlm.eval.exam_task import Marks, ask_exam, read_marks, score_by, score_marks
from jvlm.eval.items import ExamItem, exam_sample, load_items
from jvlm.eval.ledger import FILE, Record
from jvlm.eval.parsing import VERSION as PARSER
from jvlm.eval.pass_rules import PassRules, field_of, load_pass_rules
from jvlm.files import read_json_lines
from jvlm.infer.types import Model
from jvlm.sample import Sample

MAX_NEW_TOKENS = 16
PICTURE_ARMS = ("removed", "blank", "other_image")
ARMS = (*PICTURE_ARMS, "written", "order", "prompts")
DEFAULT_ARMS = ("removed",)
WRITTEN_TOKENS = 128
"""Cap of an answer in the arm `written`; reaching it is recorded."""
ORDERS = 3
"""Other orders of the options in which the arm `order` asks."""
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
) -> dict[str, Record]:
    """Every exam of ``folder/items.jsonl``, by its name; records go to ``out/samples.jsonl`` under `name`.

    Choices are compared by the log-likelihood of their texts, numbers are generated. Questions that leave the model
    no room, or whose picture cannot be read, are wrong everywhere, and listed in `not_asked` with the reason.

    Args:
        arms: what else is asked: of the questions with pictures `removed`, `blank`, `other_image`; of all of them to be
            answered in words of the model's own (`written`), with the options in three other `order`s, and with the
            other `prompts` of `evals/exam_prompts.yaml`.
        leaked: what of each question stands in the training text (`contamination.leaks`), by id.

    Returns per exam: `all`, and of its questions `text`, `image`, `image_missing`, `fields`, `kinds`; per arm its
    accuracy and in `audits` the comparison with the picture shown; `order`, `prompts`, `calibration`, `contamination`
    with the scores of the `clean` questions; `not_asked`; and where a rule is published `sheet`, with `points_missing`:
    points of published questions not in the records, and `taboo_known`: whether the records say of any choice that it
    is taboo. Raises DataError when the records are missing, UsageError for an unknown arm.
    """
    unknown = sorted(set(arms) - set(ARMS))
    if unknown:
        raise UsageError(f"unknown arm {unknown[0]!r}", fix=f"arms: {', '.join(ARMS)}")
    items = sorted(load_exam(folder), key=lambda item: item.id)
    rules = load_pass_rules()
    results = {}
    for exam in sorted({item.exam for item in items}):
        own = [item for item in items if item.exam == exam]
        asker = _Asker(model, own, folder.name, out, name, _refused(model, own))
        results[exam] = _evaluate(asker, rules, seed, arms, leaked)
    return results


def load_exam(folder: Path) -> list[ExamItem]:
    """The items of a folder of exam records. Raises DataError that says how to make them when there are none."""
    path = folder / "items.jsonl"
    if not path.is_file():
        build = f"jvlm data build {folder.name} --source FOLDER --out {folder}"
        raise DataError("no exam records", where=path, fix=f"make them from the published files: `{build}`")
    return load_items(path)


def compare_models(folder: Path, out: Path, first: str, second: str, seed: int = 0) -> dict[str, Record]:
    """Per exam the paired test of two models whose records are in ``out/samples.jsonl``, by today's rules.

    Of the questions as printed, with their images. Raises DataError when one of them was not asked what the other was.
    """
    items = {item.id: item for item in load_exam(folder)}
    right: dict[str, dict[str, bool]] = {first: {}, second: {}}
    for record in read_json_lines(out / FILE):
        asked = record.get("model") in right and record.get("task") == folder.name and record.get("arm") == "image"
        if asked and record["id"] in items:
            item = items[record["id"]]
            right[record["model"]][item.id] = is_correct(item, read_marks(item, record).answer)
    groups = {item.id: item.group_id for item in items.values()}
    results = {}
    for exam in sorted({item.exam for item in items.values()}):
        one, other = (
            {i: flag for i, flag in right[name].items() if items[i].exam == exam and items[i].excluded != "all"}
            for name in (first, second)
        )
        results[exam] = paired_test(one, other, groups, seed)
    return results


@dataclass(frozen=True)
class _Asker:
    """One model before one exam; `refused`: why an item cannot be asked, by id."""

    model: Model
    items: list[ExamItem]
    task: str
    out: Path
    name: str
    refused: dict[str, str]

    def records(
        self, arm: str, items: Sequence[ExamItem], questions: Sequence[Sample], *, written: bool = False
    ) -> list[Record]:
        return ask_exam(
            self.model,
            items,
            [requests.question(question) for question in questions],
            self.out,
            name=self.name,
            task=self.task,
            arm=arm,
            max_new_tokens=WRITTEN_TOKENS if written else MAX_NEW_TOKENS,
            written=written,
            refused=self.refused,
        )

    def ask(self, arm: str, items: Sequence[ExamItem], questions: Sequence[Sample]) -> dict[str, Marks]:
        records = self.records(arm, items, questions)
        return {item.id: read_marks(item, record) for item, record in zip(items, records, strict=True)}


def _evaluate(
    asker: _Asker, rules: PassRules, seed: int, arms: Collection[str], leaked: Mapping[str, Leak] | None
) -> Record:
    items = asker.items
    records = asker.records("image", items, [exam_sample(item) for item in items])
    said = {item.id: read_marks(item, record) for item, record in zip(items, records, strict=True)}
    marks = [said[item.id] for item in items]
    result: Record = {"not_asked": asker.refused, "marks": rules.version, "parser": PARSER}
    result |= {"all": score_marks(items, marks, seed)} | score_by(items, marks, picture_kind, seed)
    result["kinds"] = score_by(items, marks, lambda item: item.answer_type, seed)
    result["fields"] = score_by(items, marks, field_of, seed)
    result |= _picture_arms(asker, said, seed, arms)
    if "written" in arms:
        result["written"] = _written(asker, seed)
    if "order" in arms:
        result["order"] = _order(asker, said, seed)
    if "prompts" in arms:
        result["prompts"] = _prompts(asker, said, seed)
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


def _picture_arms(asker: _Asker, said: Mapping[str, Marks], seed: int, arms: Collection[str]) -> Record:
    """Each arm's score on the questions with pictures, and `audits`: the picture shown against the arm.

    `drawn_options`: the removal audit of those whose options are pictures; without them nobody can answer.
    """
    pictured = [item for item in asker.items if item.pictures]
    result: Record = {}
    audits: Record = {}
    for arm in (arm for arm in PICTURE_ARMS if arm in arms):
        asked, questions = _without_picture(arm, pictured, asker.refused)
        if not asked:
            continue
        answers = asker.ask(arm, asked, questions)
        result[arm] = score_marks(asked, [answers[item.id] for item in asked], seed)
        audits[arm] = _audit(asked, said, answers, seed)
        drawn = [item for item in asked if any(option.image for option in item.options)]
        if arm == "removed" and drawn:
            audits["drawn_options"] = _audit(drawn, said, answers, seed)
    return result | {"audits": audits}


def _without_picture(arm: str, items: list[ExamItem], refused: Collection[str]) -> tuple[list[ExamItem], list[Sample]]:
    """The items that the arm can ask, and how. What was refused with its picture is refused without."""
    if arm == "removed":
        return items, [exam_sample(item, with_image=False) for item in items]
    if arm == "blank":
        return items, [exam_sample(i, False) if i.id in refused else blank(exam_sample(i)) for i in items]
    pictures = other_pictures([item for item in items if item.id not in refused])
    asked = [item for item in items if item.id in pictures]
    return asked, [mismatched(item, pictures[item.id]) for item in asked]


def _audit(items: Sequence[ExamItem], said: Mapping[str, Marks], answers: Mapping[str, Marks], seed: int) -> Record:
    """The four transitions from the arm `image` to another, and `changed`: the share of answers that differ."""
    right = [_right(items, marks) for marks in (said, answers)]
    changed = sum(said[item.id].answer != answers[item.id].answer for item in items)
    audit = image_removal_audit(right[0], right[1], _groups(items), seed)
    return audit | {"changed": changed / len(items)}


def _written(asker: _Asker, seed: int) -> Record:
    """The score of answers that the model writes, read by the parser, and `cut_off`: the share that met the cap."""
    refused = asker.refused | _refused(asker.model, asker.items, written=True)
    asking = replace(asker, refused=refused)
    records = asking.records("written", asker.items, [exam_sample(item) for item in asker.items], written=True)
    marks = [read_marks(item, record) for item, record in zip(asker.items, records, strict=True)]
    cut_off = sum(record.get("finish_reason") == "length" for record in records) / len(records)
    return score_marks(asker.items, marks, seed) | {"cut_off": cut_off, "not_asked": len(refused)}


def _order(asker: _Asker, said: Mapping[str, Marks], seed: int) -> Record | None:
    items = [item for item in asker.items if shuffled(item, 1) is not item]
    if not items:
        return None
    chosen, right = [_contents(items, said)], [_right(items, said)]
    for number in range(1, ORDERS + 1):
        moved = [shuffled(item, number) for item in items]
        answers = asker.ask(f"order-{number}", moved, [exam_sample(item) for item in moved])
        chosen.append(_contents(moved, answers))
        right.append(_right(moved, answers))
    return order_audit(chosen, right, _groups(items), seed)


def _prompts(asker: _Asker, said: Mapping[str, Marks], seed: int) -> Record:
    """Per prompt its accuracy, and `against_plain`: the paired test of it against the plain prompt."""
    results: Record = {}
    for name, prompt in load_exam_prompts().items():
        longer = asker.refused | _refused(asker.model, asker.items, prompt)
        asking = replace(asker, refused=longer)
        answers = asking.ask(f"prompt {name}", asker.items, [exam_sample(i, prompt=prompt) for i in asker.items])
        score = score_marks(asker.items, [answers[item.id] for item in asker.items], seed)
        pair = paired_test(_right(asker.items, answers), _right(asker.items, said), _groups(asker.items), seed)
        results[name] = score | {"against_plain": pair, "not_asked": len(longer)}
    return results


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
    flagged = {item.id: asdict(leaked[item.id]) for item in items if leaked[item.id].found}
    clean = [item for item in items if item.id not in flagged]
    short = sum(leaked[item.id].runs == 0 for item in items)
    told = {"n": len(items), "flagged": flagged, "too_short": short}
    return {"contamination": told, "clean": score_marks(clean, [said[item.id] for item in clean], seed)}


def _right(items: Iterable[ExamItem], marks: Mapping[str, Marks]) -> dict[str, bool]:
    return {item.id: is_correct(item, marks[item.id].answer) for item in items}


def _groups(items: Iterable[ExamItem]) -> dict[str, str]:
    return {item.id: item.group_id for item in items}


def _contents(items: Iterable[ExamItem], marks: Mapping[str, Marks]) -> dict[str, frozenset[str]]:
    """By item the texts (or pictures) of the options marked."""
    return {
        item.id: frozenset(
            option.image or option.text for option in item.options if option.label in (marks[item.id].answer or ())
        )
        for item in items
    }


def _refused(
    model: Model, items: Sequence[ExamItem], prompt: ExamPrompt = PLAIN, written: bool = False
) -> dict[str, str]:
    """Why an item cannot be asked, by id: too long for the model's window, or a picture that cannot be read."""
    refused = {}
    for item in items:
        answers = [option.words for option in item.options] or ["0" * MAX_NEW_TOKENS]
        answers = ["0" * WRITTEN_TOKENS] if written else answers
        try:
            model.check(exam_sample(item, prompt=prompt), answers)
        except DataError as error:
            refused[item.id] = error.what
    return refused


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
        score = result.get(arm)
        asked = score is not None and score["value"] is not None
        cells[label] = f"{score['value']:.1%}" if asked else NONE
        cells[f"{label}, 95 %"] = "{:.1%} – {:.1%}".format(*score["interval"]) if asked else NONE
    for key, label in (("chance", "chance"), ("best_constant", "best constant")):
        value = result["all"][key]
        cells[label] = NONE if value is None else f"{value:.1%}"
    for arm, label in (("all", "parse failures"), ("written", "parse failures, written")):
        score = result.get(arm)
        asked = score is not None and score["value"] is not None
        cells[label] = f"{score['parse_failures']} ({score['parse_failure_rate']:.1%})" if asked else NONE
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
