"""Reading the one number that an answer states: in digits with powers of ten, or in kanji."""

import re
import unicodedata
from decimal import Decimal
from functools import lru_cache
from math import prod

from jvlm.eval.answer_rules import Rules, announced, any_of, fold, without_asides


def read_number(rules: Rules, text: str) -> str | None:
    """The number in plain decimal form ("1200", "0.5", "-3"); None for none or several."""
    folded = fold(rules, _superscripts(without_asides(rules, text)))
    for pattern, replacement in rules.number_forms:
        folded = re.sub(pattern, replacement, folded)
    parts = announced(rules, folded)
    results = re.split(any_of(rules.equals), folded)[1:]
    for part in [*parts, *(result.split("\n")[0] for result in results[-1:]), folded]:
        numbers = _in_digits(rules, part) or _in_kanji(rules, part)
        if numbers:
            return _plain(numbers[0]) if len(set(numbers)) == 1 else None
    return None


def _in_digits(rules: Rules, text: str) -> list[Decimal]:
    numbers = []
    for match in _digit_pattern(rules).finditer(text):
        sign, digits, exponent, scale, rest, rest_scale = match.groups()
        number = Decimal(digits).scaleb(int(exponent or 0)) * _scale(rules, scale)
        number += Decimal(rest or 0) * _scale(rules, rest_scale)
        numbers.append(number * (-1 if sign else 1))
    return numbers


@lru_cache
def _digit_pattern(rules: Rules) -> re.Pattern[str]:
    before = "".join(f"(?<!{edge})" for edge in rules.number_edges)
    scale = "".join(char for char, _ in rules.kanji_scales)
    power = rf"\s*{any_of(rules.times)}\s*10\^?(-?\d+)"
    scaled = rf"([{scale}]+)(?:(\d+)([{scale}]*))?"  # 5万, 1万2千
    return re.compile(rf"{before}(-?)(\d+(?:\.\d+)?|\.\d+)(?:{power}|{scaled})?(?!\d)")


def _scale(rules: Rules, signs: str | None) -> int:
    values = dict(rules.kanji_scales)
    return prod(values[sign] for sign in signs or "")


def _in_kanji(rules: Rules, text: str) -> list[Decimal]:
    """Numbers in kanji that end like a number (a counter, です, 。 or the end), so that 一般 and 三角 are none."""
    approximate, number = _kanji_patterns(rules)
    values = dict(rules.kanji_digits)
    numbers = []
    for match in number.finditer(approximate.sub(" ", text)):
        value = _value(rules, match.group(1))
        if match.group(2):
            value += Decimal("0." + "".join(str(values[char]) for char in match.group(2)))
        numbers.append(value)
    return numbers


@lru_cache
def _kanji_patterns(rules: Rules) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Words that may stand before a number, and a number: its whole part, its digits after the point."""
    digits = "".join(char for char, _ in rules.kanji_digits)
    signs = digits + "".join(char for char, _ in rules.kanji_scales)
    ends = any_of((*rules.kanji_ends, *rules.counters))
    number = rf"(?<![一-鿿])([{signs}]+)(?:{any_of(rules.kanji_points)}([{digits}]+))?(?={ends})"
    return re.compile(rf"{any_of(rules.approximations)}(?=[{signs}])"), re.compile(number)


def _value(rules: Rules, text: str) -> Decimal:
    digits, scales = dict(rules.kanji_digits), dict(rules.kanji_scales)
    if not set(text) & set(scales):  # 一二〇: read place by place
        return Decimal("".join(str(digits[char]) for char in text))
    total = group = digit = 0
    for char in text:
        if char in digits:
            digit = digit * 10 + digits[char]
        elif scales[char] >= 10**4:
            total, group, digit = total + (group + digit or 1) * scales[char], 0, 0
        else:
            group, digit = group + (digit or 1) * scales[char], 0
    return Decimal(total + group + digit)


def _superscripts(text: str) -> str:
    """10³ as 10^3, before NFKC makes it 103."""
    return re.sub(r"[⁻⁰¹²³⁴-⁹]+", lambda match: "^" + unicodedata.normalize("NFKC", match.group()), text)


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
