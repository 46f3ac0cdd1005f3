"""Japanese Vicuna QA as published (github.com/ku-nlp/ja-vicuna-qa-benchmark) → its questions and judgments.

Layout: ``data/jp_bench/question.jsonl``, rows of question_id, category and turns; results.jsonl of
``reference_answer/gpt-4`` and ``model_answer/openai--text-davinci-003`` (question_id, choices[0].turns), the answers
that others are held against; ``model_judgment/pairwise/gpt-4/*.jsonl`` with two answers each and the winner in both
orders.
"""

from pathlib import Path
from typing import Any

from jvlm_data.rows import read_rows, text, value
from jvlm_data.task_sets import TaskSet, answers_by_question, open_question, read_questions

from jvlm.errors import DataError
from jvlm.eval.judge_check import Judgment
from jvlm.eval.judging import Case

LAYOUT = "a clone of github.com/ku-nlp/ja-vicuna-qa-benchmark: data/jp_bench/question.jsonl"
OPPONENT = "openai--text-davinci-003"


def convert(source: Path, out: Path) -> dict[str, int]:
    """``out/test.jsonl``, whose field `opponent` is the answer of text-davinci-003, and ``out/judgments.jsonl``.

    Raises DataError when nothing in `source` is usable.
    """
    found = TaskSet(source, LAYOUT)
    references = answers_by_question(sorted(source.rglob("reference_answer/*/results.jsonl")), source, found.faults)
    opponents = answers_by_question(sorted(source.rglob(f"{OPPONENT}/results.jsonl")), source, found.faults)
    kinds: dict[str, str] = {}
    rows = list(read_questions(source, "question.jsonl", found.faults))
    for _, row in rows:
        kinds[str(row.get("question_id"))] = str(row.get("category"))
    found.add("test", rows, lambda place, row: open_question(place, row, references, opponents))
    for path in sorted(source.rglob("model_judgment/pairwise/*/*.jsonl")):
        for place, row in read_rows(path, source, found.faults):
            try:
                found.judgments.append(_judgment(row, kinds, references))
            except DataError as error:
                found.faults.append({"where": place, "error": error.what})
    return found.write(out)


def _judgment(row: dict[str, Any], kinds: dict[str, str], references: dict[str, list[str]]) -> Judgment:
    """From the side of the first model; its answer stood first in the judgment g1."""
    identity = str(value(row, "question_id", int))
    models = text(row, "model_1"), text(row, "model_2")
    won = {"model_1": "won", "model_2": "lost", "tie": "tie"}
    orders = {"order 1": row.get("g1_winner"), "order 2": row.get("g2_winner")}
    given: dict[str, float | str] = {arm: won[said] for arm, said in orders.items() if said in won}
    if identity not in kinds or not given:
        raise DataError("a judgment without a question or a verdict")
    answers = value(row, "answer_1", str), value(row, "answer_2", str)
    case = Case(
        f"{identity} {' against '.join(models)}",
        identity,
        kinds[identity],
        [value(row, "question", str)],
        [answers[0]],
        references.get(identity, []),
        answers[1],
    )
    return Judgment(case, "vicuna", text(row, "judge_model"), given)
