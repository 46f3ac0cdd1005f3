"""Reading an answer out of generated Japanese text. What cannot be read is None: counted, never drawn by lot.

The parser is part of the benchmark: `VERSION` goes into the results, its rules are the elements of `answer_rules`, and
the tests' table of cases is their meaning.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from jvlm.eval.answer_rules import Alphabet, Rules, announced, any_of, fold, without_asides
from jvlm.eval.items import ExamItem, Option
from jvlm.eval.numerals import read_number

VERSION = "ja-answers-v3"
RULES = Rules()


def parse_answer(text: str, item: ExamItem) -> list[str] | None:
    """The answer to an exam item: labels in label order, one number, or a free answer as text; None when unreadable."""
    if item.answer_type == "numeric":
        number = parse_number(text)
        return None if number is None else [number]
    if item.answer_type == "open":
        return [text.strip()] if text.strip() else None
    return parse_choices(text, item.options, item.n_select)


def parse_number(text: str, rules: Rules = RULES) -> str | None:
    """The one number stated in `text`, in plain decimal form ("1200", "0.5", "-3"); None for none or several."""
    return read_number(rules, text)


def parse_choices(text: str, options: Sequence[Option], n_select: int, rules: Rules = RULES) -> list[str] | None:
    """Labels named in `text` by letter, kana, number, circled label or choice text, in label order.

    Naming more options than may be marked, or labels and texts that contradict each other, says nothing: None. What is
    announced as the answer is read first, then a line that is nothing but an answer, then the whole.
    """
    reader = _reader(rules, tuple(options), n_select)
    folded = fold(rules, without_asides(rules, text))
    whole = reader.nothing_but(folded)
    for part in [*announced(rules, folded), *reader.lone_line(folded), folded]:
        found = whole or reader.nothing_but(part) or reader.named_in(part)
        if found is None or found:
            return found if found and len(found) <= n_select else None
    return None


@lru_cache
def _reader(rules: Rules, options: tuple[Option, ...], n_select: int) -> "_Reader":
    return _Reader(rules, options, n_select)


class _Reader:
    """The rules applied to the options of one question."""

    def __init__(self, rules: Rules, options: Sequence[Option], n_select: int) -> None:
        self.rules, self.options, self.n_select = rules, options, n_select
        self.texts = [fold(rules, option.text) for option in options]
        self.alphabets = self._alphabets([fold(rules, option.label) for option in options])

    def nothing_but(self, text: str) -> list[str]:
        """The option whose text this is, or the labels of which it consists; empty for anything else.

        Asked first: a choice text such as "3個" or "A型" must not be read as a label.
        """
        bare = self._bare(text)
        same = [i for i, text in enumerate(self.texts) if self._bare(text) == bare != ""]
        if same:
            return self._labels(same[:1])
        for alphabet in self.alphabets:
            if alphabet.runs or len(bare) == 1:
                places = [alphabet.signs.index(sign) if sign in alphabet.signs else -1 for sign in bare]
                apart = len(set(places)) == len(places) > 0 and -1 not in places
                if apart and (places == sorted(places) or len(places) == self.n_select):  # "cab" may be a word
                    return self._labels(places)
        return []

    def lone_line(self, text: str) -> list[str]:
        """The one line of several that is nothing but an answer, if there is just one."""
        lines = text.split("\n")
        bare = [line for line in lines if self.nothing_but(line)]
        return bare if len(bare) == 1 < len(lines) else []

    def named_in(self, text: str) -> list[str] | None:
        """Labels named in the text; None when a label and a choice text contradict each other."""
        named, rest = self._by_text(text)
        labelled = self._by_label(rest)
        if named and labelled and set(labelled) != set(named):
            is_number = re.search(r"\d", rest) and not re.search(r"[a-z]", rest)
            return self._labels(named) if is_number else None  # a number beside a choice text need not be a label
        return self._labels([*named, *labelled])

    def _by_text(self, text: str) -> tuple[list[int], str]:
        """Options whose text occurs (longest first, each place used once), and the text without them."""
        named = []
        for i in sorted(range(len(self.texts)), key=lambda i: -len(self.texts[i])):
            wanted = self.texts[i]
            if not wanted or wanted not in text:
                continue
            start = "".join(f"(?<!{side})" for kind, side in self.rules.edges if re.match(kind, wanted[0]))
            end = "".join(f"(?!{side})" for kind, side in self.rules.edges if re.match(kind, wanted[-1]))
            pattern = start + re.escape(wanted) + end
            text = re.sub(pattern + _negated(self.rules), " ", text)
            if re.search(pattern, text):
                named.append(i)
                text = re.sub(pattern, " ", text)
        return named, text

    def _by_label(self, text: str) -> list[int]:
        """Options named by the paper's own labels, else by those of another alphabet; never a mixture."""
        for alphabet in self.alphabets:
            label, rejected, between = _label_patterns(self.rules, alphabet)
            found = label.findall(rejected.sub(" ", between.sub(" ", text)))
            if found:
                return sorted({alphabet.signs.index(one) for one in found})
        return []

    def _alphabets(self, labels: list[str]) -> list[Alphabet]:
        """Letters, digits and kana of the options, that of the paper first; digits not before a unit."""
        counted = rf"\s*{any_of(self.rules.counters)}"
        digits = replace(self.rules.digits, not_after=(*self.rules.digits.not_after, counted))
        known = (self.rules.letters, digits, self.rules.kana)
        own = next((one for one in known if set(labels) <= set(one.signs)), None)
        if own is None:
            return [replace(self.rules.letters, signs=tuple(labels))]
        places = [own.signs.index(label) for label in labels]  # a paper may lack one: a, b, d, e
        signs = [replace(one, signs=tuple(one.signs[place] for place in places)) for one in known]
        return sorted(signs, key=lambda one: one.signs != tuple(labels))

    def _labels(self, places: Sequence[int]) -> list[str]:
        return [self.options[i].label for i in sorted(set(places))]

    def _bare(self, text: str) -> str:
        """Without spaces, and without marks, brackets and a closing です around."""
        trims = "".join(self.rules.trims)
        text = re.sub(r"\s", "", text).strip(trims)
        return re.sub(rf"{any_of(self.rules.endings)}$", "", text).strip(trims)


@lru_cache
def _label_patterns(rules: Rules, alphabet: Alphabet) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """A label of the alphabet, one that is rejected, and two with a range between."""
    sign = any_of(tuple(sorted(map(re.escape, alphabet.signs), key=len, reverse=True)))
    before = "".join(f"(?<!{side})" for side in alphabet.not_before)
    after = "".join(f"(?!{side})" for side in alphabet.not_after)
    label = f"{before}({sign}){after}"
    between = rf"{sign}\s*{any_of(rules.ranges)}\s*{sign}"
    return re.compile(label), re.compile(label + _negated(rules)), re.compile(between)


@lru_cache
def _negated(rules: Rules) -> str:
    return rf"(?=[」』)】\]\s]*{any_of(rules.particles)}\s*{any_of(rules.negations)})"
