"""JMMMU: multi-discipline questions about pictures in Japanese, asked and scored as its authors do.

The same answers are read by our own parser as well: on one set of answers two parsers have been seen to differ by four
points, so a figure says which parser is its own.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field

from jvlm.assets import asset
from jvlm.config import Config, load_config
from jvlm.eval import requests
from jvlm.eval.audits import image_removal_audit
from jvlm.eval.baselines import best_constant_marks, exam_chance
from jvlm.eval.exam import is_correct
from jvlm.eval.exam_arms import groups_of, refusals
from jvlm.eval.exam_prompts import ExamPrompt
from jvlm.eval.exam_task import ask_exam
from jvlm.eval.exams import load_exam
from jvlm.eval.items import ExamItem, exam_sample
from jvlm.eval.jmmmu_answers import VERSION, open_is_right, read_letter
from jvlm.eval.ledger import Record
from jvlm.eval.parsing import VERSION as OWN_PARSER
from jvlm.eval.parsing import parse_answer
from jvlm.eval.pass_rules import field_of
from jvlm.eval.statistics import accuracy
from jvlm.infer.types import Model

Judged = tuple[ExamItem, bool | None]
"""An item, and whether its answer is right; None: it could not be read."""


class Jmmmu(Config):
    """`evals/jmmmu.yaml`."""

    version: str = Field(description="Version of prompt and scoring")
    max_new_tokens: int = Field(ge=1, description="Cap of an answer")
    prompt: ExamPrompt = Field(description="How a question is put")
    culture_specific: tuple[str, ...] = Field(description="Subjects that are about Japan and its culture")
    domains: dict[str, tuple[str, ...]] = Field(description="The other subjects by domain")
    sources: tuple[str, ...] = Field((), description="Where prompt and scoring come from")


def load_jmmmu() -> Jmmmu:
    return load_config(Jmmmu, asset("evals", "jmmmu.yaml"))


def evaluate_jmmmu(model: Model, folder: Path, out: Path, *, name: str, seed: int = 0) -> Record:
    """The figures of one model on ``folder/items.jsonl``; records go to ``out/samples.jsonl`` under `name`.

    Returns `model`, `all`, `image`, `culture_specific`, `culture_agnostic`, `domains`, `fields` (subjects), `kinds`,
    `removed` and `audits` (the pictures shown against none, but for a language model alone, which takes none),
    `parsers` (all, as each parser reads the same answers), `cut_off` and `not_asked` (wrong everywhere). Raises
    DataError when the records are missing.
    """
    setting = load_jmmmu()
    items = sorted(load_exam(folder), key=lambda item: item.id)
    refused = unseeing = refusals(model, items, setting.prompt, written=True)
    if len(refused) == len(items):  # a language model alone, which can be asked without pictures
        unseeing = refusals(model, items, setting.prompt, written=True, with_image=False)

    def asked(arm: str, with_image: bool) -> list[Record]:
        questions = [requests.question(exam_sample(item, with_image, setting.prompt)) for item in items]
        return ask_exam(
            model,
            items,
            questions,
            out,
            name=name,
            task=folder.name,
            arm=arm,
            max_new_tokens=setting.max_new_tokens,
            written=True,
            refused=refused if with_image else unseeing,
        )

    records = asked(f"{setting.version} image", True)
    blind = asked(f"{setting.version} removed", False)
    read = [(item, _official(item, record)) for item, record in zip(items, records, strict=True)]
    without = [(item, _official(item, record)) for item, record in zip(items, blind, strict=True)]
    own = [(item, _own(item, record)) for item, record in zip(items, records, strict=True)]
    domain_of = {subject: name for name, subjects in setting.domains.items() for subject in subjects}
    cultural = setting.culture_specific
    right, unseen = ({item.id: flag is True for item, flag in part} for part in (read, without))
    audits = {"removed": image_removal_audit(right, unseen, groups_of(items), seed)}
    whole = _score(read, seed)
    return {
        "model": name,
        "not_asked": refused,
        "prompt": setting.version,
        "parser": VERSION,
        "request": "greedy generation",
        "max_new_tokens": setting.max_new_tokens,
        "all": whole,
        "image": _score([pair for pair in read if pair[0].pictures], seed),
        "culture_specific": _score([pair for pair in read if field_of(pair[0]) in cultural], seed),
        "culture_agnostic": _score([pair for pair in read if field_of(pair[0]) not in cultural], seed),
        "domains": _score_by(read, lambda item: domain_of.get(str(field_of(item)), "Culture"), seed),
        "fields": _score_by(read, lambda item: str(field_of(item)), seed),
        "kinds": _score_by(read, lambda item: item.answer_type, seed),
        "removed": _score(without, seed),
        "audits": audits if refused is unseeing else {},
        "parsers": {VERSION: whole, OWN_PARSER: _score(own, seed)},
        "cut_off": sum(record.get("finish_reason") == "length" for record in records) / len(records),
    }


def _official(item: ExamItem, record: Record) -> bool | None:
    if "error" in record:
        return False
    if not item.options:
        return open_is_right(record["output"], [answer[0] for answer in item.accept])
    letter = read_letter(record["output"], {option.label: option.text for option in item.options})
    return None if letter is None else is_correct(item, [letter])


def _own(item: ExamItem, record: Record) -> bool | None:
    answer = None if "error" in record else parse_answer(record["output"], item)
    return None if answer is None else is_correct(item, answer)


def _score(read: Sequence[Judged], seed: int) -> Record:
    """Accuracy with what needs no model beside it; unreadable answers are wrong, and counted."""
    items = [item for item, _ in read]
    constants, best = best_constant_marks(items)
    groups = [item.group_id for item in items]
    right = [flag is True for _, flag in read]
    score = accuracy(right, chance=exam_chance(items), best_constant=best, groups=groups, seed=seed)
    failures = sum(flag is None for _, flag in read)
    rate = failures / len(read) if read else None
    return {**score, "constant": constants, "parse_failures": failures, "parse_failure_rate": rate}


def _score_by(read: Sequence[Judged], name_of: Callable[[ExamItem], str], seed: int) -> Record:
    names = sorted({name_of(item) for item, _ in read})
    return {name: _score([pair for pair in read if name_of(pair[0]) == name], seed) for name in names}
