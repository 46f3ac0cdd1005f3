"""An exam asked in other ways, each beside the first: without its pictures, in words, in other orders and prompts."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jvlm.errors import DataError
from jvlm.eval import requests
from jvlm.eval.arms import blank, mismatched, other_pictures, shuffled
from jvlm.eval.audits import image_removal_audit, order_audit, paired_test
from jvlm.eval.exam import is_correct
from jvlm.eval.exam_prompts import PLAIN, ExamPrompt, load_exam_prompts
from jvlm.eval.exam_task import Marks, ask_exam, read_marks, score_marks
from jvlm.eval.items import ExamItem, exam_sample
from jvlm.eval.ledger import Record
from jvlm.infer.types import Model
from jvlm.sample import Sample

PICTURE_ARMS = ("removed", "blank", "other_image")
ARMS = (*PICTURE_ARMS, "written", "order", "prompts")
WRITTEN_TOKENS = 128
"""Cap of an answer that the model writes: of a number always, in the arm `written` of all. Reaching it is recorded.

A model that calculates before it says the number must not be cut off in the middle and count as wrong.
"""
NUMBER_TOKENS = 16
"""Room that the question must leave for a number, said without more ado."""
ORDERS = 3
"""Other orders of the options in which the arm `order` asks."""


@dataclass(frozen=True)
class Asker:
    """One model before one exam; `refused`: why an item cannot be asked, by id; `prompt`: how questions are put."""

    model: Model
    items: list[ExamItem]
    task: str
    out: Path
    name: str
    refused: dict[str, str]
    prompt: ExamPrompt = PLAIN

    def sample(self, item: ExamItem, with_image: bool = True) -> Sample:
        return exam_sample(item, with_image, self.prompt)

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
            max_new_tokens=WRITTEN_TOKENS,
            written=written,
            refused=self.refused,
        )

    def ask(self, arm: str, items: Sequence[ExamItem], questions: Sequence[Sample]) -> dict[str, Marks]:
        records = self.records(arm, items, questions)
        return {item.id: read_marks(item, record) for item, record in zip(items, records, strict=True)}


def picture_arms(asker: Asker, said: Mapping[str, Marks], seed: int, arms: Collection[str]) -> Record:
    """Each arm's score on the questions with pictures, and `audits`: the picture shown against the arm.

    `drawn_options`: the removal audit of those whose options are pictures; without them nobody can answer. A model that
    was refused every picture (a language model alone) is asked without, and there is nothing to compare that with.
    """
    pictured = [item for item in asker.items if item.pictures]
    result: Record = {}
    audits: Record = {}
    if pictured and all(item.id in asker.refused for item in pictured):
        if "removed" in arms:
            result["removed"] = _unseen_score(asker, pictured, seed)
        return result | {"audits": audits}
    for arm in (arm for arm in PICTURE_ARMS if arm in arms):
        asked, questions = _without_picture(arm, pictured, asker)
        if not asked:
            continue
        answers = asker.ask(arm, asked, questions)
        result[arm] = score_marks(asked, [answers[item.id] for item in asked], seed)
        audits[arm] = _audit(asked, said, answers, seed)
        drawn = [item for item in asked if any(option.image for option in item.options)]
        if arm == "removed" and drawn:
            audits["drawn_options"] = _audit(drawn, said, answers, seed)
    return result | {"audits": audits}


def _unseen_score(asker: Asker, items: list[ExamItem], seed: int) -> Record:
    longer = refusals(asker.model, items, asker.prompt, with_image=False)
    answers = replace(asker, refused=longer).ask("removed", items, [asker.sample(item, False) for item in items])
    return score_marks(items, [answers[item.id] for item in items], seed)


def _without_picture(arm: str, items: list[ExamItem], asker: Asker) -> tuple[list[ExamItem], list[Sample]]:
    """The items that the arm can ask, and how. What was refused with its picture is refused without."""
    refused = asker.refused
    if arm == "removed":
        return items, [asker.sample(item, False) for item in items]
    if arm == "blank":
        return items, [asker.sample(i, False) if i.id in refused else blank(asker.sample(i)) for i in items]
    pictures = other_pictures([item for item in items if item.id not in refused])
    asked = [item for item in items if item.id in pictures]
    return asked, [mismatched(item, pictures[item.id], asker.prompt) for item in asked]


def _audit(items: Sequence[ExamItem], said: Mapping[str, Marks], answers: Mapping[str, Marks], seed: int) -> Record:
    """The four transitions from the arm `image` to another, and `changed`: the share of answers that differ."""
    right = [right_answers(items, marks) for marks in (said, answers)]
    changed = sum(said[item.id].answer != answers[item.id].answer for item in items)
    audit = image_removal_audit(right[0], right[1], groups_of(items), seed)
    return audit | {"changed": changed / len(items)}


def written_score(asker: Asker, seed: int) -> Record:
    """The score of answers that the model writes, read by the parser, and `cut_off`: the share that met the cap."""
    refused = asker.refused | refusals(asker.model, asker.items, asker.prompt, written=True)
    asking = replace(asker, refused=refused)
    records = asking.records("written", asker.items, [asker.sample(item) for item in asker.items], written=True)
    marks = [read_marks(item, record) for item, record in zip(asker.items, records, strict=True)]
    cut_off = sum(record.get("finish_reason") == "length" for record in records) / len(records)
    return score_marks(asker.items, marks, seed) | {"cut_off": cut_off, "not_asked": len(refused)}


def order_score(asker: Asker, said: Mapping[str, Marks], seed: int) -> Record | None:
    items = [item for item in asker.items if shuffled(item, 1) is not item]
    if not items:
        return None
    chosen, right = [_contents(items, said)], [right_answers(items, said)]
    for number in range(1, ORDERS + 1):
        moved = [shuffled(item, number) for item in items]
        answers = asker.ask(f"order-{number}", moved, [asker.sample(item) for item in moved])
        chosen.append(_contents(moved, answers))
        right.append(right_answers(moved, answers))
    return order_audit(chosen, right, groups_of(items), seed)


def prompt_scores(asker: Asker, said: Mapping[str, Marks], seed: int) -> Record:
    """Per prompt its accuracy, and `against_plain`: the paired test of it against the prompt of the other arms."""
    results: Record = {}
    for name, prompt in load_exam_prompts().items():
        longer = asker.refused | refusals(asker.model, asker.items, prompt)
        asking = replace(asker, refused=longer, prompt=prompt)
        answers = asking.ask(f"prompt {name}", asker.items, [asking.sample(item) for item in asker.items])
        score = score_marks(asker.items, [answers[item.id] for item in asker.items], seed)
        pair = paired_test(
            right_answers(asker.items, answers), right_answers(asker.items, said), groups_of(asker.items), seed
        )
        results[name] = score | {"against_plain": pair, "not_asked": len(longer)}
    return results


def right_answers(items: Iterable[ExamItem], marks: Mapping[str, Marks]) -> dict[str, bool]:
    return {item.id: is_correct(item, marks[item.id].answer) for item in items}


def groups_of(items: Iterable[ExamItem]) -> dict[str, str]:
    return {item.id: item.group_id for item in items}


def _contents(items: Iterable[ExamItem], marks: Mapping[str, Marks]) -> dict[str, frozenset[str]]:
    """By item the texts (or pictures) of the options marked."""
    return {
        item.id: frozenset(
            option.image or option.text for option in item.options if option.label in (marks[item.id].answer or ())
        )
        for item in items
    }


def refusals(
    model: Model,
    items: Sequence[ExamItem],
    prompt: ExamPrompt = PLAIN,
    *,
    written: bool = False,
    with_image: bool = True,
) -> dict[str, str]:
    """Why an item cannot be asked, by id: too long for the model's window, or a picture that cannot be read."""
    refused = {}
    for item in items:
        answers = [option.words for option in item.options] or ["0" * NUMBER_TOKENS]
        answers = ["0" * WRITTEN_TOKENS] if written else answers
        try:
            model.check(exam_sample(item, with_image, prompt), answers)
        except DataError as error:
            refused[item.id] = error.what
    return refused
