"""Repeated strings by definition, and words that SentencePiece alone does not find."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from jvlm.text.seeds import repeated_strings
from jvlm.text.tokenizer import train_tokenizer

LONGEST = 4


def by_definition(runs: list[str]) -> dict[str, int]:
    counts = Counter(run[i : i + n] for run in runs for n in range(2, LONGEST + 1) for i in range(len(run) - n + 1))
    repeated = {string: times for string, times in counts.items() if times > 1}
    inside = {
        part for string, times in repeated.items() for part in (string[1:], string[:-1]) if repeated.get(part) == times
    }
    return {string: times for string, times in repeated.items() if string not in inside}


@given(st.lists(st.text("abc", max_size=9), max_size=12))
def test_as_by_definition(runs):
    assert repeated_strings(runs, LONGEST) == by_definition(runs)


def test_only_the_longest_of_equally_frequent_strings():
    assert repeated_strings(["狭心症", "狭心症", "心電図"], 16) == {"狭心症": 2}
    assert repeated_strings(["狭心症", "狭心症状", "狭心症"], 16) == {"狭心症": 3}


def test_words_that_always_end_a_run_get_pieces(tmp_path):
    """SentencePiece's own seeds leave every one of them to single characters: each is followed by a boundary only."""
    words = ("狭心症", "硝酸薬", "心電図", "患者")
    lines = ["狭心症の患者に硝酸薬を。", "心電図で狭心症の。", "硝酸薬と心電図の。", "患者へ。"] * 5
    tokenizer = train_tokenizer(lines, 386, tmp_path / "tokenizer")
    assert [len(tokenizer.encode(word)) for word in words] == [1, 1, 1, 1]
