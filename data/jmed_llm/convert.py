"""JMED-LLM as published (github.com/sociocom/JMED-LLM) → questions of each of its sets.

Layout: ``datasets/NAME.csv`` with tag, question, optionA … and answer (a letter); or without options, and as answer a
list of the words to be found, written as Python does.
"""

import ast
from pathlib import Path
from typing import Any

from jvlm_data.task_sets import TaskSet, column, read_table

from jvlm.errors import DataError
from jvlm.eval.task_items import TaskItem

LAYOUT = "a clone of github.com/sociocom/JMED-LLM: datasets/crade.csv …"


def convert(source: Path, out: Path) -> dict[str, int]:
    """``out/NAME.jsonl`` of each table that is there. Raises DataError when nothing in `source` is usable."""
    found = TaskSet(source, LAYOUT)
    for path in sorted(source.glob("datasets/*.csv")):
        found.add(path.stem, read_table(path, source, found.faults), _item)
    return found.write(out)


def _item(place: str, row: dict[str, Any]) -> TaskItem:
    identity, fields, answer = place.rpartition(":")[2], {"question": column(row, "question")}, column(row, "answer")
    options = {name[-1]: str(row[name]).strip() for name in row if name.startswith("option")}
    letters = [letter for letter, option in options.items() if option]
    if not options:
        return TaskItem(identity, identity, column(row, "tag"), fields, [], None, _words(answer))
    if answer not in letters:
        raise DataError(f"the answer {answer!r} is none of {', '.join(letters)}")
    choices = [options[letter] for letter in letters]
    return TaskItem(identity, identity, column(row, "tag"), fields, choices, letters.index(answer), [])


def _words(answer: str) -> list[str]:
    try:
        words = ast.literal_eval(answer)
    except (ValueError, SyntaxError):
        raise DataError("the answer is no list of words") from None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise DataError("the answer is no list of words")
    return list(dict.fromkeys(words))
