"""Putting exam questions to a model and scoring its marks: by the likelihood of the choices, numbers by generation."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jvlm.eval import requests
from jvlm.eval.baselines import best_constant_marks, exam_chance
from jvlm.eval.exam import choose, is_correct
from jvlm.eval.items import ExamItem, exam_answer
from jvlm.eval.ledger import Ledger, Record
from jvlm.eval.parsing import parse_answer
from jvlm.eval.statistics import accuracy
from jvlm.infer.types import Model
from jvlm.sample import Sample


class Marks(NamedTuple):
    """The labels marked, None for none that could be read; whether a tie was broken; whether the question was put."""

    answer: list[str] | None
    tied: bool = False
    asked: bool = True


def ask_exam(
    model: Model,
    items: Sequence[ExamItem],
    questions: Sequence[Sample],
    out: Path,
    *,
    name: str,
    task: str,
    arm: str,
    max_new_tokens: int,
    written: bool = False,
    refused: Mapping[str, str] | None = None,
) -> list[Record]:
    """One record per item, in their order; what `out/samples.jsonl` holds is not asked again.

    Args:
        questions: each item as it is put to the model.
        name, task, arm: of the model, the task and the way it is asked, as the records say.
        written: generate and parse every answer, not only of questions without options.
        refused: why the model cannot be asked, by item id; the record says so under `error`.
    """
    refused = refused or {}
    written_down, not_put = f"generate {max_new_tokens}", "not asked"
    settings = [
        not_put if item.id in refused else written_down if written or not item.options else "choices" for item in items
    ]
    ledger = Ledger(out, name, task, arm, questions, settings)
    missing = ledger.missing
    numbers = [i for i in missing if settings[i] == written_down]
    choices = [i for i in missing if settings[i] == "choices"]
    for i in missing:
        if settings[i] == not_put:
            ledger.add(i, {"error": refused[items[i].id]} | _verdict(items[i], None))
    texts = [[option.words for option in items[i].options] for i in choices]
    position = iter(choices)
    for batch in requests.choice_log_likelihoods(model, [questions[i] for i in choices], texts):
        for scores in batch:
            i = next(position)
            answer, tied = choose(scores, items[i].labels, items[i].n_select)
            chosen = "、".join(option.words for option in items[i].options if option.label in answer)
            ledger.add(i, {"scores": scores, "output": chosen, "tied": tied} | _verdict(items[i], answer))
    position = iter(numbers)
    for generations in requests.generate(model, [questions[i] for i in numbers], max_new_tokens):
        for generation in generations:
            i = next(position)
            said = {"output": generation.text, "finish_reason": generation.finish_reason}
            ledger.add(i, said | _verdict(items[i], parse_answer(generation.text, items[i])))
    return ledger.records


def read_marks(item: ExamItem, record: Record) -> Marks:
    """The marks of a record, by today's rules."""
    if "error" in record:
        return Marks(None, asked=False)
    if "scores" in record:
        return Marks(*choose(record["scores"], item.labels, item.n_select))
    return Marks(parse_answer(record["output"], item))


def score_marks(items: Sequence[ExamItem], marks: Sequence[Marks], seed: int) -> Record:
    """Accuracy without the items removed for everybody; unreadable answers and questions not asked are wrong."""
    counted = [(item, mark) for item, mark in zip(items, marks, strict=True) if item.excluded != "all"]
    kept = [item for item, _ in counted]
    constants, best = best_constant_marks(kept)
    right = [is_correct(item, mark.answer) for item, mark in counted]
    groups = [item.group_id for item in kept]
    score = accuracy(right, chance=exam_chance(kept), best_constant=best, groups=groups, seed=seed)
    failures = sum(mark.asked and mark.answer is None for _, mark in counted)
    ties = sum(mark.tied for _, mark in counted)
    rate = failures / len(counted) if counted else None
    return {**score, "constant": constants, "parse_failures": failures, "parse_failure_rate": rate, "ties": ties}


def score_by(
    items: Sequence[ExamItem], marks: Sequence[Marks], name_of: Callable[[ExamItem], str | None], seed: int
) -> Record:
    """`score_marks` of each group of items that `name_of` names alike, by that name; None is no group."""
    groups: dict[str, list[tuple[ExamItem, Marks]]] = {}
    for item, mark in zip(items, marks, strict=True):
        name = name_of(item)
        if name is not None and item.excluded != "all":
            groups.setdefault(name, []).append((item, mark))
    return {
        name: score_marks([item for item, _ in group], [mark for _, mark in group], seed)
        for name, group in sorted(groups.items())
    }


def _verdict(item: ExamItem, answer: list[str] | None) -> Record:
    return {
        "kind": item.answer_type,
        "gold": exam_answer(item),
        "answer": answer,
        "correct": is_correct(item, answer),
    }
