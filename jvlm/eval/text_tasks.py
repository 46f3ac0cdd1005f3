"""Running a text benchmark: its questions to a model, what it said into `samples.jsonl`, figures from that.

Nothing of a figure is kept: it is computed from the records each time, so a changed scorer needs no new inference.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from jvlm.eval.answers import VERSION as PARSER
from jvlm.eval.answers import Read, read_answer, right_answer, words
from jvlm.eval.judge_prompts import load_protocol
from jvlm.eval.judges import Judge
from jvlm.eval.judging import Case, judge_cases, not_judged, score_verdicts
from jvlm.eval.ledger import Ledger, Record
from jvlm.eval.metrics import label_figures, measure
from jvlm.eval.task import Task, draft_question, prepare, question
from jvlm.eval.task_items import TaskItem
from jvlm.files import sha256_bytes
from jvlm.infer.types import TextModel
from jvlm.sample import ImageRef, Message, Sample

CHUNK = 256
"""Questions between two writes to the ledger: enough for questions of like length to be read together."""

REQUESTS = {"choices": "log-likelihood", "generate": "greedy generation"}
NORMS = {"sum": "accuracy", "character": "accuracy_per_character", "token": "accuracy_per_token"}


def evaluate_task(
    model: TextModel,
    task: Task,
    data: Path,
    out: Path,
    *,
    name: str,
    limit: int | None = None,
    judge: Judge | None = None,
) -> Record:
    """The figures of one model on one task; records go to ``out/TASK/MODEL-SETTINGS/samples.jsonl``.

    Args:
        data: folder of the built data sets. name: which model this is; records of two models never mix.
        limit: only the first questions. judge: who rates the answers of a task that has no right ones.

    Returns what was asked and how (`version`, `request`, `settings`, `shots`), `metrics` (the first is the task's),
    their `parse_failures`, `cut_off` and `ties`, `judged`, and `not_asked`: questions too long for the model, which
    are wrong. Raises DataError when the questions are not there, JvlmError when the judge cannot be reached.
    """
    items, shots = prepare(task, data, limit)
    settings = _settings(model, task, shots)
    folder = out / task.name / f"{name[:16]}-{fingerprint(settings)}"
    asked = _Asked(model, task, items, shots, folder, name, settings)
    records, talks = asked.conversations() if task.turns else (asked.answers(), [])
    result: Record = {
        "task": task.name,
        "version": task.version,
        "title": task.title,
        "model": name,
        "request": REQUESTS[task.request],
        "split": task.split,
        "licence": task.licence,
        "settings": settings,
        "records": str(folder.relative_to(out)),
        "n": len(items),
    }
    result |= score(task, items, records)
    if task.judge is not None:
        cases = _cases(items, talks)
        result["judged"] = _judged(task.judge, judge, cases, folder / "judged", task.name)
    return result


def _judged(name: str, judge: Judge | None, cases: Sequence[Case], folder: Path, task: str) -> Record:
    protocol = load_protocol(name)
    if judge is None:
        return not_judged(name, protocol, len(cases))
    return score_verdicts(judge, name, protocol, judge_cases(judge, protocol, cases, folder, task))


def _cases(items: Sequence[TaskItem], talks: Sequence[Sample]) -> list[Case]:
    """The conversations that were held, as a judge is told of them."""
    cases = []
    for item, talk in zip(items, talks, strict=True):
        questions, answers = ([m.text for m in talk.messages if m.role == role] for role in ("user", "assistant"))
        opponent, context = item.fields.get("opponent"), item.fields.get("context")
        if answers:
            cases.append(Case(item.id, item.group_id, item.kind, questions, answers, item.answers, opponent, context))
    return cases


def score(task: Task, items: Sequence[TaskItem], records: Sequence[Record]) -> Record:
    """The figures of records, one per item, by today's rules."""
    not_asked = {item.id: r["error"] for item, r in zip(items, records, strict=True) if "error" in r}
    result: Record = {"parser": PARSER, "not_asked": not_asked}
    put = [record for record in records if "error" not in record]
    if task.request == "choices":
        for norm in dict.fromkeys((task.norm, *NORMS)):
            answers = [_chosen(task, item, r, norm) for item, r in zip(items, records, strict=True)]
            result.setdefault("metrics", {})[NORMS[norm]] = measure("accuracy", task, items, answers)
            if norm == task.norm and task.labels:
                result["labels"] = label_figures(task, items, answers)
        tied = sum(len(s := r["scores"]) > 1 and sorted(s)[-1] == sorted(s)[-2] for r in put)
        return result | {"parse_failures": 0.0, "cut_off": 0.0, "ties": tied}
    said = answers_of(task, items, records)
    if task.metrics:
        result["metrics"] = {name: measure(name, task, items, said) for name in task.metrics}
    if task.labels:
        result["labels"] = label_figures(task, items, said)
    unread = sum(a is None for a, r in zip(said, records, strict=True) if "error" not in r)
    cut = sum(record.get("finish_reason") == "length" for record in put)
    return result | {"parse_failures": unread / max(1, len(put)), "cut_off": cut / max(1, len(put)), "ties": 0}


def answers_of(task: Task, items: Sequence[TaskItem], records: Sequence[Record]) -> list[Read | None]:
    """What was answered, by today's rules; None for what cannot be read or was not asked."""
    pairs = list(zip(items, records, strict=True))
    if task.request == "choices":
        return [_chosen(task, item, record, task.norm) for item, record in pairs]
    return [None if "error" in record else read_answer(task, item, record["output"]) for item, record in pairs]


def fingerprint(settings: Record) -> str:
    """Twelve hexadecimal digits of the hash of settings."""
    return sha256_bytes(json.dumps(settings, sort_keys=True, ensure_ascii=False).encode())[:12]


def _settings(model: TextModel, task: Task, shots: Sequence[TaskItem]) -> Record:
    """All that answers depend on, beside the weights and the questions."""
    wording = json.dumps(task.wording.model_dump(), sort_keys=True, ensure_ascii=False)
    settings: Record = {
        "version": task.version,
        "prompt_sha256": sha256_bytes(wording.encode())[:16],
        "request": task.request,
        "split": task.split,
        "shots": {"split": task.shots.split, "seed": task.shots.seed, "ids": [shot.id for shot in shots]},
        "model": dict(model.settings),
    }
    if task.request == "generate":
        settings |= {"max_new_tokens": task.max_new_tokens, "stop": list(task.stop), "temperature": 0}
    return settings


class _Asked:
    """One model, one task: what is put to it and what stands in the ledger of it."""

    def __init__(
        self,
        model: TextModel,
        task: Task,
        items: Sequence[TaskItem],
        shots: Sequence[TaskItem],
        folder: Path,
        name: str,
        settings: Record,
    ) -> None:
        self.model, self.task, self.items, self.shots = model, task, items, shots
        self.folder, self.name, self.how = folder, name, fingerprint(settings)
        # in a conversation the answer is a turn of its own: nothing stands before it
        self.delimiter = "" if model.settings["template"] == "chat" else task.wording.delimiter

    def answers(self) -> list[Record]:
        """One record per item; a task with drafts asks for them first."""
        extra: list[dict[str, str]] = [{} for _ in self.items]
        if self.task.wording.draft is not None:
            questions = [draft_question(self.task, item, self.shots) for item in self.items]
            drafts = self._generated(questions, "draft")
            extra = [{"draft": record.get("output", "").strip()} for record in drafts]
        questions = [question(self.task, item, self.shots, more) for item, more in zip(self.items, extra, strict=True)]
        return self._chosen(questions) if self.task.request == "choices" else self._generated(questions, "answer")

    def conversations(self) -> tuple[list[Record], list[Sample]]:
        """One record per item, and the conversations: a turn is asked after the answers before it.

        The record is that of the last turn, or of one that could not be asked, which ends the conversation before it.
        Pictures stand in the first turn.
        """
        talks = [Sample(i.id, [], [ImageRef(path=path) for path in i.images], None, {}) for i in self.items]
        records: dict[int, Record] = {}
        for turn, field in enumerate(self.task.turns, 1):
            goes_on = [
                i for i, item in enumerate(self.items) if field in item.fields and "error" not in records.get(i, {})
            ]
            for i in goes_on:
                pictures = range(len(talks[i].images)) if turn == 1 else ()
                talks[i].messages.append(Message("user", [*pictures, self.items[i].fields[field]]))
            asked = [Sample(talks[i].id, list(talks[i].messages), talks[i].images, None, {}) for i in goes_on]
            for i, record in zip(goes_on, self._generated(asked, f"turn {turn}"), strict=True):
                records[i] = record
                if "error" in record:
                    talks[i].messages.pop()
                else:
                    talks[i].messages.append(Message("assistant", [record["output"]]))
        return [records[i] for i in range(len(self.items))], talks

    def _chosen(self, questions: list[Sample]) -> list[Record]:
        choices = [[self.delimiter + said for said in self.task.said(item)] for item in self.items]
        ledger = self._ledger(questions, [f"choices {texts!r}" for texts in choices], "answer")
        for chunk in self._possible(ledger, choices):
            found = self.model.choice_likelihoods([questions[i] for i in chunk], [choices[i] for i in chunk])
            for i, row in zip(chunk, found, strict=True):
                said: Record = {
                    "scores": [one.log_likelihood for one in row],
                    "tokens": [one.num_tokens for one in row],
                    "choices": self.task.said(self.items[i]),
                }
                answer = _chosen(self.task, self.items[i], said, self.task.norm)
                ledger.add(i, said | self._verdict(i, answer))
        return ledger.records

    def _generated(self, questions: list[Sample], arm: str) -> list[Record]:
        task = self.task
        ledger = self._ledger(questions, [f"generate {task.max_new_tokens} {task.stop!r}"] * len(questions), arm)
        for chunk in self._possible(ledger, [[]] * len(questions)):
            asked = [questions[i] for i in chunk]
            found = self.model.generate(asked, max_new_tokens=task.max_new_tokens, stop=task.stop)
            for i, one in zip(chunk, found, strict=True):
                said: Record = {"output": one.text, "finish_reason": one.finish_reason, "num_tokens": one.num_tokens}
                answer = read_answer(task, self.items[i], one.text) if arm == "answer" else None
                ledger.add(i, said | (self._verdict(i, answer) if arm == "answer" else {}))
        return ledger.records

    def _ledger(self, questions: list[Sample], settings: list[str], arm: str) -> Ledger:
        return Ledger(self.folder, self.name, self.task.name, arm, questions, [f"{self.how} {s}" for s in settings])

    def _possible(self, ledger: Ledger, answers: Sequence[Sequence[str]]) -> Iterator[list[int]]:
        """Chunks of what is missing and fits the model; what does not is written down with the reason."""
        missing = ledger.missing
        for begin in range(0, len(missing), CHUNK):
            chunk = missing[begin : begin + CHUNK]
            refused = self.model.refusals([ledger.questions[i] for i in chunk], [answers[i] for i in chunk])
            for i, why in zip(chunk, refused, strict=True):
                if why is not None:
                    ledger.add(i, {"error": why})
            if possible := [i for i, why in zip(chunk, refused, strict=True) if why is None]:
                yield possible

    def _verdict(self, i: int, answer: Read | None) -> Record:
        task, item = self.task, self.items[i]
        gold = words(task, item, right_answer(task, item)) if item.answers or item.choices else None
        said = None if answer is None else words(task, item, answer)
        return {"kind": item.kind, "group": item.group_id, "gold": gold, "answer": said}


def _chosen(task: Task, item: TaskItem, record: Record, norm: str) -> int | None:
    """The first of the most likely choices; None where the question was not put."""
    if "error" in record:
        return None
    lengths = {
        "sum": [1] * len(record["scores"]),
        "character": [max(1, len(said)) for said in task.said(item)],
        "token": record["tokens"],
    }
    scores = [total / length for total, length in zip(record["scores"], lengths[norm], strict=True)]
    return scores.index(max(scores))
