"""How JMMMU's authors read an answer (rules of MMMU's `eval_utils`, widened to Japanese).

Two things differ, and are meant to: what cannot be read is None, never drawn by lot, and 回答は announces an answer
like 解答は (in the published list a missing comma joins the two).
"""

import re
from collections.abc import Mapping, Sequence

VERSION = "jmmmu-v1"

_MARKS = ",.!?;:'、。！？；："
_JAPANESE = r"[\u3040-\u30FF\u4E00-\u9FFF]"
_ANNOUNCES = (
    "よって",
    "よって、",
    "答えは",
    "答えは、",
    "最終的に",
    "最終的に、",
    "解答は",
    "解答は、",
    "回答は",
    "回答は、",
)
_SENTENCE = re.compile(r"[。！？.]\s*|\n")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+)(?![eE][+-]?\d+)(?![,\d])"),
    re.compile(r"(\d+)(?:つ|個|度|円|人|年|匹|台|%)"),
)
_LEAST_WORDS = 5
"""Only an answer of more words than this is searched for the texts of options."""


def read_letter(said: str, options: Mapping[str, str]) -> str | None:
    """The option that an answer names, by the first rule that finds one; of several the one named last.

    Args:
        options: text by letter.
    """
    for mark in _MARKS:
        said = said.strip(mark)
    said = f" {said} "
    rules = (
        lambda letter: f"({letter})" in said,
        lambda letter: f"{letter} " in said,
        lambda letter: re.search(f"{_JAPANESE}{letter}{_JAPANESE}", said) is not None,
        lambda letter: f"{letter}." in said,
    )
    for number, names in enumerate(rules):
        if found := [letter for letter in options if names(letter)]:
            shape = "({})" if number == 0 else " {} "
            return max(found, key=lambda letter: said.rfind(shape.format(letter)))  # the first of those not found so
    if len(said.split()) > _LEAST_WORDS:
        low = said.lower()
        found = [letter for letter, text in options.items() if text.lower() in low]
        return max(found, key=lambda letter: low.rfind(options[letter].lower()), default=None)
    return None


def open_is_right(said: str, accepted: Sequence[str]) -> bool:
    """Whether an open answer holds an accepted one: a number among its numbers, a text within what it announces."""
    read = {value for part in _announced(said) for text in (part, *_numbers(part)) for value in _normal(text)}
    wanted = {value for text in accepted for value in _normal(text)}
    texts = [value for value in read if isinstance(value, str)]
    return any(value in read if isinstance(value, float) else any(value in text for text in texts) for value in wanted)


def _announced(said: str) -> list[str]:
    """What stands behind the words that announce an answer, sentence by sentence; the whole without such words."""
    sentences = _SENTENCE.split(said.strip().strip("。"))
    found = []
    for number, sentence in enumerate(sentences):
        marks = (*_ANNOUNCES, "＝", "=") if number == len(sentences) - 1 else _ANNOUNCES
        shortest = ""
        for mark in (mark for mark in marks if mark in sentence):
            tail = sentence.split(mark)[-1].strip()
            if not shortest or len(tail) < len(shortest):
                shortest = tail
        if shortest and shortest not in set(_MARKS):
            found.append(shortest)
    return found or [said.strip()]


def _numbers(text: str) -> list[str]:
    return [found for pattern in _NUMBERS for found in pattern.findall(text)]


def _normal(text: str) -> list[str | float]:
    """A number to two digits, or the text in lower case; a single letter only where a space stands beside it."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]
