"""Open answers before a judge: what it says into `samples.jsonl`, figures from that.

Verdicts are kept per judge and wording, so that an interrupted judging goes on and figures are computed anew. A verdict
that cannot be read, and a question the judge refuses, are counted and left out. An empty answer gets the lowest
rating and loses, without a question: judges have been seen to praise nothing at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jvlm.eval.agreement import mean, ratio_of_means
from jvlm.eval.judge_prompts import LOWEST, Protocol, read_rating, read_scores, read_verdict
from jvlm.eval.judges import Judge
from jvlm.eval.ledger import Ledger, Record
from jvlm.files import sha256_bytes
from jvlm.sample import Sample

CHUNK = 16
"""Questions between two writes to the ledger."""

Value = float | str | tuple[float, float]
"""A rating; won, lost or tie; or the ratings of answer and reference."""

_OUTCOMES = {"won": 1.0, "tie": 0.5, "lost": 0.0}


@dataclass(frozen=True)
class Case:
    """A conversation to be judged.

    Attributes:
        group_id: cases of one question, or picture, are not independent. kind: what figures are told apart by.
        questions, answers: one per turn. references: reference answers by turn, empty where there are none.
        opponent: in a pair, the answer of the other side. context: what the judge is told of the picture.
    """

    id: str
    group_id: str
    kind: str
    questions: list[str]
    answers: list[str]
    references: list[str] = field(default_factory=list)
    opponent: str | None = None
    context: str | None = None

    @property
    def fields(self) -> dict[str, str]:
        """What a prompt may name."""
        named = {"question": self.questions, "answer": self.answers, "reference": self.references}
        found = {f"{name}_{n}": text for name, texts in named.items() for n, text in enumerate(texts, 1)}
        return found | ({"context": self.context} if self.context is not None else {})


@dataclass(frozen=True)
class Verdicts:
    """What a judge says of cases, by arm (`turn 1`, `order 2`) and place of the case; None: not to be read.

    `refused`: reasons for which no verdict was given, by ``CASE, ARM``.
    """

    cases: Sequence[Case]
    arms: dict[str, dict[int, Value | None]]
    refused: dict[str, str]

    @property
    def failures(self) -> int:
        return sum(value is None for values in self.arms.values() for value in values.values())

    @property
    def asked(self) -> int:
        return sum(map(len, self.arms.values()))


def judge_cases(judge: Judge, protocol: Protocol, cases: Sequence[Case], folder: Path, task: str) -> Verdicts:
    """The judge's verdict on every case; records go to ``folder/JUDGE-WORDING/samples.jsonl``.

    Raises DataError when a case lacks what the judge must be told, JvlmError when the judge cannot be reached.
    """
    folder = folder / f"{sha256_bytes(judge.name.encode())[:12]}-{protocol.sha256[:12]}"
    arms: dict[str, dict[int, Value | None]] = {}
    refused: dict[str, str] = {}
    for arm, turn, swapped in _arms(protocol):
        places = [i for i, case in enumerate(cases) if len(case.answers) > turn]
        values: dict[int, Value | None] = {i: _unasked(protocol, cases[i], turn) for i in places}
        places = [i for i in places if values[i] is None]
        questions = [_question(protocol, cases[i], turn, swapped) for i in places]
        for i, record in zip(places, _records(judge, protocol, questions, folder, task, arm), strict=True):
            if "error" in record:
                refused[f"{cases[i].id}, {arm}"] = record["error"]
            else:
                values[i] = _read(protocol, cases[i], record["output"], swapped)
        arms[arm] = dict(sorted(values.items()))
    return Verdicts(cases, arms, refused)


def score_verdicts(judge: Judge, name: str, protocol: Protocol, verdicts: Verdicts, seed: int = 0) -> Record:
    """The figures of verdicts, by today's rules, each with n and 95 % interval."""
    figures = {"single": _ratings, "pair": _pairs, "relative": _relative}[protocol.kind](verdicts, seed)
    asked, failures = verdicts.asked, verdicts.failures
    return {
        "judge": judge.about,
        "protocol": name,
        "version": protocol.version,
        "prompt_sha256": protocol.sha256,
        "max_new_tokens": protocol.max_new_tokens,
        "n_answers": len(verdicts.cases),
        "asked": asked,
        "failures": failures,
        "failure_rate": failures / asked if asked else None,
        "refused": verdicts.refused,
    } | figures


def not_judged(name: str, protocol: Protocol, answers: int) -> Record:
    """What stands in the place of figures where there was no judge: the answers are kept."""
    return {"judge": None, "protocol": name, "version": protocol.version, "status": "not judged", "n_answers": answers}


def outcome(values: Sequence[Value | None]) -> str | None:
    """won, lost or tie from the verdicts of both orders: a tie when they disagree, None when one cannot be read."""
    if len(values) != 2 or None in values:
        return None
    return str(values[0]) if values[0] == values[1] else "tie"


def _arms(protocol: Protocol) -> list[tuple[str, int, bool]]:
    """(name, turn from 0, whether the other answer stands first)."""
    if protocol.kind == "pair":
        return [("order 1", 0, False), ("order 2", 0, True)]
    return [(f"turn {turn + 1}", turn, False) for turn in range(len(protocol.plain))]


def _question(protocol: Protocol, case: Case, turn: int, swapped: bool) -> Sample:
    fields = case.fields
    if protocol.kind == "pair" and case.opponent is not None:
        own, other = case.answers[0], case.opponent
        fields |= {"answer_a": other if swapped else own, "answer_b": own if swapped else other}
    return protocol.question(case.id, case.kind, turn, fields)


def _unasked(protocol: Protocol, case: Case, turn: int) -> Value | None:
    """The verdict on an empty answer; None for one that must be asked about."""
    if case.answers[turn].strip() or protocol.kind == "relative":
        return None
    if protocol.kind == "pair":
        return "lost" if (case.opponent or "").strip() else "tie"
    return LOWEST


def _read(protocol: Protocol, case: Case, said: str, swapped: bool) -> Value | None:
    if protocol.kind == "single":
        return read_rating(said)
    if protocol.kind == "pair":
        first, second = ("lost", "won") if swapped else ("won", "lost")
        return {"A": first, "B": second, "C": "tie"}.get(read_verdict(said) or "")
    scores = read_scores(said)
    empty = not case.answers[0].strip()  # asked about all the same, for the rating of the reference
    return (LOWEST, scores[1]) if scores is not None and empty else scores


def _records(
    judge: Judge, protocol: Protocol, questions: Sequence[Sample], folder: Path, task: str, arm: str
) -> list[Record]:
    settings = [f"judge {protocol.sha256}"] * len(questions)
    ledger = Ledger(folder, judge.name, task, arm, questions, settings)
    missing = ledger.missing
    for begin in range(0, len(missing), CHUNK):
        chunk = missing[begin : begin + CHUNK]
        said = judge.answer([questions[i] for i in chunk], protocol.max_new_tokens)
        for i, one in zip(chunk, said, strict=True):
            if isinstance(one, str):
                ledger.add(i, {"error": one})
            else:
                ledger.add(i, {"output": one.text, "finish_reason": one.finish_reason, "num_tokens": one.num_tokens})
    return ledger.records


def _ratings(verdicts: Verdicts, seed: int) -> Record:
    """Mean rating over all turns, of each turn, and of each kind of question."""
    rows = [(arm, verdicts.cases[i], value) for arm, values in verdicts.arms.items() for i, value in values.items()]
    read = [(arm, case, float(value)) for arm, case, value in rows if isinstance(value, float)]

    def figure(chosen: Sequence[tuple[str, Case, float]]) -> dict[str, Any]:
        return mean([value for _, _, value in chosen], [case.group_id for _, case, _ in chosen], seed)

    turns = {arm: figure([row for row in read if row[0] == arm]) for arm in verdicts.arms}
    kinds = sorted({case.kind for _, case, _ in read})
    return {
        "score": figure(read),
        "turns": turns,
        "kinds": {kind: figure([row for row in read if row[1].kind == kind]) for kind in kinds},
    }


def _pairs(verdicts: Verdicts, seed: int) -> Record:
    """(wins + half the ties) / n, and how far the verdicts of the two orders can be trusted."""
    first, second = verdicts.arms["order 1"], verdicts.arms["order 2"]
    both = {i: (first[i], second[i]) for i in first if first[i] is not None and second[i] is not None}
    outcomes = {i: outcome(values) for i, values in both.items()}
    points = {i: _OUTCOMES[str(said)] for i, said in outcomes.items()}

    def figure(chosen: Sequence[int]) -> dict[str, Any]:
        return mean([points[i] for i in chosen], [verdicts.cases[i].group_id for i in chosen], seed)

    counts = {name: sum(said == name for said in outcomes.values()) for name in _OUTCOMES}
    in_front = sum((one == "won") + (other == "lost") for one, other in both.values())
    decided = sum((one != "tie") + (other != "tie") for one, other in both.values())
    kinds = sorted({verdicts.cases[i].kind for i in both})
    return {
        "score": figure(list(both)),
        "outcomes": counts,
        "disagreements": sum(one != other for one, other in both.values()),
        "first_preferred": in_front / decided if decided else None,
        "kinds": {kind: figure([i for i in both if verdicts.cases[i].kind == kind]) for kind in kinds},
    }


def _relative(verdicts: Verdicts, seed: int) -> Record:
    """100 x mean rating / mean rating of the reference by kind, and the mean of the kinds."""
    read = [(verdicts.cases[i], v) for i, v in verdicts.arms["turn 1"].items() if isinstance(v, tuple)]
    kinds: dict[str, tuple[list[float], list[float], list[str]]] = {}
    for case, (score, reference) in read:
        own, others, groups = kinds.setdefault(case.kind, ([], [], []))
        own.append(score)
        others.append(reference)
        groups.append(case.group_id)
    return {
        "score": ratio_of_means([kinds[kind] for kind in sorted(kinds)], seed),
        "rating": mean([score for _, (score, _) in read], [case.group_id for case, _ in read], seed),
        "kinds": {kind: ratio_of_means([kinds[kind]], seed) for kind in sorted(kinds)},
    }
