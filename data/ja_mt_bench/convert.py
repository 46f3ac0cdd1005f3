"""Japanese MT-Bench as published (github.com/swallow-llm/swallow-evaluation or, with the judgments of GPT-4,
github.com/Stability-AI/FastChat, branch jp-stable) → its questions, and judgments where they are.

Layout: ``japanese_mt_bench/question.jsonl``, rows of question_id, category and turns; reference answers in
``reference_answer/*.jsonl`` (question_id, choices[0].turns), of which one file is taken, the corrected one where it is;
``model_judgment/gpt-4_single.jsonl`` with what the judge read (user_prompt) and its score.
"""

import re
from pathlib import Path
from typing import Any

from jvlm_data.rows import Fault, read_rows, text, value
from jvlm_data.task_sets import TaskSet, open_question, read_questions, reference_answers

from jvlm.errors import DataError
from jvlm.eval.judge_check import Judgment
from jvlm.eval.judging import Case

LAYOUT = "a clone of github.com/swallow-llm/swallow-evaluation: japanese_mt_bench/question.jsonl"
REFERENCES = ("gpt-4o-2024-08-06.jsonl", "base-gpt4o-with-human-annotation.jsonl", "gpt-4.jsonl")
"""From the one to be preferred: the first was corrected for the questions on mathematics, reasoning and coding."""

_READ = re.compile(
    r"\[指示\].*?\n\n\[質問\]\n(?P<question>.*?)\n\n"
    r"(?:\[参考回答の開始\]\n(?P<reference>.*?)\n\[参考回答の終了\]\n\n)?"
    r"\[アシスタントの回答の開始\]\n(?P<answer>.*)\n\[アシスタントの回答の終了\]",
    re.S,
)


def convert(source: Path, out: Path) -> dict[str, int]:
    """``out/test.jsonl``, ``out/judgments.jsonl``. Raises DataError when nothing in `source` is usable."""
    found = TaskSet(source, LAYOUT)
    references = reference_answers(source, REFERENCES, found.faults)
    questions = read_questions(source, "question.jsonl", found.faults)
    found.add("test", questions, lambda place, row: open_question(place, row, references))
    for path in sorted(source.rglob("gpt-4_single.jsonl")):
        _judgments(found, path, source, found.faults)
    return found.write(out)


def _judgments(found: TaskSet, path: Path, source: Path, faults: list[Fault]) -> None:
    seen: set[tuple[str, ...]] = set()
    for place, row in read_rows(path, source, faults):
        try:
            judgment = _judgment(row)
            key = (judgment.case.id, *judgment.given)
            if key in seen:
                raise DataError("the same answer is judged once more; the first judgment was kept")
        except DataError as error:
            faults.append({"where": place, "error": error.what})
            continue
        seen.add(key)
        found.judgments.append(judgment)


def _judgment(row: dict[str, Any]) -> Judgment:
    read = _READ.fullmatch(text(row, "user_prompt"))
    if not read:
        raise DataError("what the judge read is not of the known form")
    identity, score = str(value(row, "question_id", int | str)), float(value(row, "score", int | float))
    if score < 1:
        raise DataError("the judge gave no score")
    reference = read["reference"]
    kind = "referenced" if reference is not None else ""
    references = [reference] if reference is not None else []
    case = Case(f"{identity} {text(row, 'model')}", identity, kind, [read["question"]], [read["answer"]], references)
    return Judgment(case, "mt_bench_ja", "gpt-4", {f"turn {value(row, 'turn', int)}": score})
