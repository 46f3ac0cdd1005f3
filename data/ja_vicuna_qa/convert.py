"""Japanese Vicuna QA as published (github.com/ku-nlp/ja-vicuna-qa-benchmark) → its questions.

Layout: ``data/jp_bench/question.jsonl``, rows of question_id, category and turns.
"""

from pathlib import Path

from jvlm_data.task_sets import TaskSet, open_question, read_questions

LAYOUT = "a clone of github.com/ku-nlp/ja-vicuna-qa-benchmark: data/jp_bench/question.jsonl"


def convert(source: Path, out: Path) -> dict[str, int]:
    """``out/test.jsonl``. Raises DataError when nothing in `source` is usable."""
    found = TaskSet(source, LAYOUT)
    found.add("test", read_questions(source, "question.jsonl", found.faults), open_question)
    return found.write(out)
