"""The rules by which answers are read, one element each: without any one of them an answer is read otherwise.

What is a pattern here is a regular expression over folded text: NFKC, lower case (`folds`), one kind of minus.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

KANA = "アイウエオカキクケコ"
DIGITS = tuple(str(number) for number in range(1, 11))
LETTERS = "abcdefghij"


@dataclass(frozen=True)
class Alphabet:
    """Signs that stand for the first, the second, … option; `runs`: several may stand together ("ac").

    Patterns of what may not touch a sign: `not_before` of one fixed width each, `not_after`.
    """

    signs: tuple[str, ...]
    not_before: tuple[str, ...]
    not_after: tuple[str, ...]
    runs: bool


@dataclass(frozen=True)
class Rules:
    """Every rule of `parsing` and `numerals`.

    Attributes:
        asides: patterns of what is no answer, taken out first.
        signs: families of ten signs that NFKC leaves or runs together: the first, and the label that it means.
        forms: (pattern, replacement) of signs with several forms.
        boxes: patterns whose group is the answer.
        cues, cue_tails, closings, links: 「正解」「番号」「」」「は」: what follows is the answer. So it is after
            `conclusions`.
        stops: where such a part ends.
        particles, negations: between a label and what rejects it, 「aではなく」.
        trims, endings: what may stand around an answer that is nothing else.
        ranges: signs between two labels that name none of those between.
        edges: a choice text that begins or ends with the first may not be touched there by the second.
        counters: units after a number that is no label; with `kanji_ends` what may follow a number in kanji.
        number_edges: what may not stand before a number that answers; `approximations` may, before one in kanji.
        equals: signs after which, at last, the result stands.
    """

    asides: tuple[str, ...] = (r"<think>.*?</think>", r"^.*</think>", r"<think>.*")
    signs: tuple[tuple[str, str], ...] = (
        ("①", "1"), ("❶", "1"), ("➀", "1"), ("➊", "1"), ("⓵", "1"), ("🅰", "a"), ("㋐", "ア")
    )  # fmt: skip
    folds: tuple[Callable[[str], str], ...] = (lambda text: unicodedata.normalize("NFKC", text), str.lower)
    forms: tuple[tuple[str, str], ...] = ((r"[−‐–—]", "-"), (r"[*_`]+(?!\s*10)", ""))

    boxes: tuple[str, ...] = (r"\\boxed\{(?:\\text\{)?([^{}]*)\}",)
    cues: tuple[str, ...] = ("正解", "答え", "答", "結論", "正しいの", "適切なの", "answer")
    cue_tails: tuple[str, ...] = ("番号", "記号", "の?選択肢")
    closings: tuple[str, ...] = ('"', "」")
    links: tuple[str, ...] = ("は", "が", ":", "=", "→", r"\s")
    conclusions: tuple[str, ...] = ("よって", "したがって", "以上より", "ゆえに", "最終的に")
    stops: tuple[str, ...] = (r"\n", "。", "なぜなら", "理由")

    particles: tuple[str, ...] = ("は", "では", "じゃ", "も", ":", "")
    negations: tuple[str, ...] = (
        "なく", "ない", "ありません", "誤", "違", "間違(?!いな[いくし]|いあり)", "不適", "正しくな", "除外", "否定", "×"
    )  # fmt: skip

    trims: tuple[str, ...] = tuple("。、.,!?・:;「」『』()[]【】\"'")
    endings: tuple[str, ...] = ("です", "である", "だ", "でしょう")
    ranges: tuple[str, ...] = ("~", "〜", "から")
    edges: tuple[tuple[str, str], ...] = ((r"\d", r"[\d.]"), ("[a-z]", "[a-z]"))

    letters: Alphabet = Alphabet(
        tuple(LETTERS),
        ("[a-z]", "[0-9]", "[ァ-ヴー]", "°"),
        (
            "[a-z]", "[0-9]", r"\.[a-z]", "-[a-z]", "型", "群", "細胞", "反応性", "抗原", "線維",
            r"\s(?!and\b|or\b)[a-z]{2}",
        ),
        True,
    )  # fmt: skip
    digits: Alphabet = Alphabet(DIGITS, (r"\d", r"\d\.", "[a-z]", "第"), (r"\d", r"\.\d"), False)
    kana: Alphabet = Alphabet(tuple(KANA), ("[ァ-ヴー]",), ("[ァ-ヴー]",), True)

    counters: tuple[str, ...] = (
        "つ", "個", "本", "枚", "人", "回", "度", "日", "年", "か月", "ヶ月", "月", "週", "歳", "時", "分", "秒",
        "件", "例", "倍", "点", "割", "期", "型", "%", "mg", "ml", "cm", "mm", "kg", "g",
    )  # fmt: skip
    number_edges: tuple[str, ...] = ("[a-z]", r"\d", r"\.", r"\^", "問", "第", "図", "表")
    number_forms: tuple[tuple[str, str], ...] = (
        (r"(?<=\d),(?=\d{3}(?!\d))", ""), (r"マイナス\s*(?=\d)", "-"), (r"(?<![\d.x×*])(?<![x×*]\s)10\^", "1×10^")
    )  # fmt: skip
    equals: tuple[str, ...] = ("=", "≒")
    times: tuple[str, ...] = ("x", "×", r"\*")
    kanji_digits: tuple[tuple[str, int], ...] = (
        ("〇", 0), ("零", 0), ("一", 1), ("二", 2), ("三", 3), ("四", 4), ("五", 5), ("六", 6), ("七", 7), ("八", 8),
        ("九", 9),
    )  # fmt: skip
    kanji_scales: tuple[tuple[str, int], ...] = (("十", 10), ("百", 100), ("千", 1000), ("万", 10**4), ("億", 10**8))
    kanji_points: tuple[str, ...] = ("点", "・")
    kanji_ends: tuple[str, ...] = ("$", r"\s", "[」』)]", "[、,.!]", "で", "だ", "と", "/")
    approximations: tuple[str, ...] = ("約", "計")


def any_of(patterns: tuple[str, ...]) -> str:
    """One group that matches any of the patterns; nothing at all where there is none."""
    return f"(?:{'|'.join(patterns)})" if patterns else r"(?!)"


def fold(rules: Rules, text: str) -> str:
    """The text as patterns see it."""
    for first, label in rules.signs:
        text = text.translate(_meanings(first, label))
    for function in rules.folds:
        text = function(text)
    for pattern, replacement in rules.forms:
        text = re.sub(pattern, replacement, text)
    return text.strip()


def without_asides(rules: Rules, text: str) -> str:
    """The text without thoughts."""
    for pattern in rules.asides:
        text = re.sub(pattern, "", text, flags=re.S)
    return text


def announced(rules: Rules, folded: str) -> list[str]:
    """What stands in boxes, and after the words that announce an answer, the last first."""
    boxed = [match.group(1) for pattern in rules.boxes for match in re.finditer(pattern, folded)]
    cue, stop = _cue_and_stop(rules)
    parts = [stop.split(folded[match.end() :])[0] for match in cue.finditer(folded)]
    return [*reversed(boxed), *reversed(parts)]


@lru_cache
def _cue_and_stop(rules: Rules) -> tuple[re.Pattern[str], re.Pattern[str]]:
    cue = rf"{any_of(rules.cues)}{any_of(rules.cue_tails)}?{any_of(rules.closings)}*\s*{any_of(rules.links)}+\s*"
    return re.compile(rf"{cue}|{any_of(rules.conclusions)}[、,]?"), re.compile(any_of(rules.stops))


@lru_cache
def _meanings(first: str, label: str) -> dict[int, str]:
    labels = next(run for run in (DIGITS, LETTERS, KANA) if run[0] == label)
    return {ord(first) + i: f" {labels[i]} " for i in range(10)}
