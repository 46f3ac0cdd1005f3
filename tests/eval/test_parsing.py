"""The table of cases is what the parser means, and no rule of it is idle."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any

import pytest
from answer_cases import CHOICES, DISEASES, NUMBERS
from exam_items import make_item, multi, numeric

from jvlm.eval import answer_rules, numerals, parsing
from jvlm.eval.answer_rules import Rules
from jvlm.eval.parsing import RULES, parse_answer, parse_choices, parse_number


def test_choices() -> None:
    wrong = [
        (text, said, found) for options, n, text, said in CHOICES if (found := parse_choices(text, options, n)) != said
    ]
    assert wrong == []


def test_numbers() -> None:
    assert [(text, said, found) for text, said in NUMBERS if (found := parse_number(text)) != said] == []


def test_the_table_is_large_and_says_nothing_twice() -> None:
    cases = [(str(options), n_select, text) for options, n_select, text, _ in CHOICES]
    cases += [("", 0, text) for text, _ in NUMBERS]
    assert len(cases) == len(set(cases)) >= 300


def test_every_label_form_of_every_option() -> None:
    for i, option in enumerate(DISEASES):
        forms = ["abcde"[i], "ABCDE"[i], "ａｂｃｄｅ"[i], "アイウエオ"[i], "①②③④⑤"[i], "12345"[i], option.text]
        for form in forms:
            for sentence in (form, f"{form}です", f"答えは{form}です。", f"「{form}」", f"正解：{form}"):
                assert parse_choices(sentence, DISEASES, 1) == [option.label], sentence


def test_an_item_says_what_kind_of_answer_is_read() -> None:
    assert parse_answer("答えは12", numeric("n", "12")) == ["12"]
    assert parse_answer("たくさん", numeric("n", "12")) is None
    assert parse_answer("cとa", multi("m", "ac")) == ["a", "c"]
    assert parse_answer("cとa", make_item("s")) is None


# --- no rule is idle ----------------------------------------------------------------------------------------------


def _without_each(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """(name of a rule, the rules without it) of every rule of a table of rules, its tables included."""
    for entry in fields(value):
        table = getattr(value, entry.name)
        where = f"{name}{entry.name}"
        if is_dataclass(table):
            yield from (
                (inner, replace(value, **{entry.name: less})) for inner, less in _without_each(table, f"{where}.")
            )
        elif isinstance(table, bool):
            yield where, replace(value, **{entry.name: not table})
        elif where.endswith("signs") and name:  # of an alphabet: a shorter one would move the others
            used = table[:5]
            for i, sign in enumerate(used):
                yield f"{where}: {sign}", replace(value, **{entry.name: (*table[:i], "\0", *table[i + 1 :])})
        else:
            for i, rule in enumerate(table):
                yield f"{where}: {rule}", replace(value, **{entry.name: table[:i] + table[i + 1 :]})


MUTANTS = dict(_without_each(RULES, ""))


def _fails(rules: Rules, likely: str = "") -> bool:
    """Whether a case fails; those that hold the text `likely` are tried first."""
    cases = [(text, partial(parse_choices, text, options, n, rules), said) for options, n, text, said in CHOICES]
    cases += [(text, partial(parse_number, text, rules), said) for text, said in NUMBERS]
    return any(parse() != said for _, parse, said in sorted(cases, key=lambda case: likely not in case[0]))


def test_every_rule_is_among_the_mutants() -> None:
    tables = {entry.name for entry in fields(RULES)}
    assert {name.split(":")[0].split(".")[0] for name in MUTANTS} == tables
    assert len(MUTANTS) > 150
    assert not _fails(RULES)


def test_without_any_rule_a_case_fails() -> None:
    assert [name for name, rules in MUTANTS.items() if not _fails(rules, name.rpartition(": ")[2])] == []


STEPS = {
    "thoughts": (parsing, "without_asides", lambda rules, text: text),
    "thoughts of numbers": (numerals, "without_asides", lambda rules, text: text),
    "announced first": (parsing, "announced", lambda rules, text: []),
    "announced numbers first": (numerals, "announced", lambda rules, text: []),
    "last announced": (parsing, "announced", lambda rules, text: answer_rules.announced(rules, text)[::-1]),
    "powers of ten": (numerals, "_superscripts", lambda text: text),
    "kanji": (numerals, "_in_kanji", lambda rules, text: []),
    "digits": (numerals, "_in_digits", lambda rules, text: []),
    "plain form": (numerals, "_plain", str),
    "nothing but an answer": (parsing._Reader, "nothing_but", lambda self, text: []),
    "a line of its own": (parsing._Reader, "lone_line", lambda self, text: []),
    "choice texts": (parsing._Reader, "_by_text", lambda self, text: ([], text)),
    "labels": (parsing._Reader, "_by_label", lambda self, text: []),
    "marks around": (parsing._Reader, "_bare", lambda self, text: text),
}


@pytest.mark.parametrize("name", STEPS)
def test_without_any_step_a_case_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, replacement = STEPS[name]
    monkeypatch.setattr(owner, attribute, replacement)
    assert _fails(RULES), f"no case needs the step {name}"
