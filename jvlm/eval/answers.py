"""Reading what a model said to a question of a text benchmark. What cannot be read is None: wrong, and counted."""

import re
import unicodedata

from jvlm.eval.answer_rules import without_asides
from jvlm.eval.items import Option
from jvlm.eval.parsing import RULES, parse_choices, parse_number
from jvlm.eval.parsing import VERSION as CHOICES_VERSION
from jvlm.eval.task import LETTERS, Task
from jvlm.eval.task_items import TaskItem

VERSION = f"text-answers-v2, {CHOICES_VERSION}"

Read = int | str | float | frozenset[str]
"""The place of a choice, a text, a number, or a set of members or triples."""

_TRIPLE = re.compile(r"(\d+)[\s,]+([A-Za-z]+)[\s,]+(\d+)")
_BULLET = re.compile(r"^\s*[・*-]\s+|^\s*・")


def read_answer(task: Task, item: TaskItem, said: str) -> Read | None:
    """The answer in a generated text."""
    said = without_asides(RULES, said)
    if task.parser == "choice":
        return _choice(task, item, said)
    if task.parser == "number":
        number = parse_number(said)
        return None if number is None else float(number)
    if task.parser == "triples":
        return frozenset(" ".join(found) for found in _TRIPLE.findall(unicodedata.normalize("NFKC", said))) or None
    if task.parser == "members":
        lines = (_BULLET.sub("", line).strip() for line in said.split("\n"))  # a name may hold 、 itself
        return frozenset(line for line in lines if line) or None
    return said.strip() or None


def right_answer(task: Task, item: TaskItem) -> Read:
    """The right answer in the form that `read_answer` gives."""
    right = task.right(item)
    if right is not None:
        return right
    if task.parser in ("members", "triples"):
        return frozenset(item.answers)
    return float(item.answers[0]) if task.parser == "number" else item.answers[0]


def words(task: Task, item: TaskItem, answer: Read) -> str:
    """An answer as a model would say it."""
    if isinstance(answer, frozenset):
        return "\n".join(sorted(answer))
    if task.choices(item) and isinstance(answer, int):
        return task.said(item)[answer]
    return str(answer)


def _choice(task: Task, item: TaskItem, said: str) -> int | None:
    choices, spelled = task.choices(item), task.said(item)
    bare = unicodedata.normalize("NFKC", said).strip().strip("。.「」()").strip()
    if bare in spelled:
        return spelled.index(bare)
    if task.wording.answer == "number":
        number = parse_number(said)
        return int(number) if number is not None and number.isdigit() and int(number) < len(choices) else None
    if task.labels:  # entailment is no word of non-entailment, no none of know
        words = [rf"(?<![a-z-]){re.escape(word.lower())}(?![a-z-])" for word in spelled]
        held = [i for i, word in enumerate(words) if re.search(word, bare.lower())]
        return held[0] if len(held) == 1 else None
    options = [Option(letter.lower(), text) for letter, text in zip(LETTERS, choices, strict=False)]
    found = parse_choices(said, options, 1)
    return [option.label for option in options].index(found[0]) if found else None
