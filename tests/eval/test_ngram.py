import math
from collections import Counter
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from jvlm.errors import DataError
from jvlm.eval.ngram import KneserNey

START, END, UNKNOWN = "START", "END", "UNKNOWN"


class SlowKneserNey:
    """Straight from the formula, with dictionaries of tuples; shares no code with the fast one."""

    def __init__(self, order: int, texts: Sequence[str]) -> None:
        self.order = order
        self.seen = {c for text in texts for c in text}
        raw: dict[int, Counter[tuple[str, ...]]] = {n: Counter() for n in range(1, order + 1)}
        for text in texts:
            symbols = [START] * (order - 1) + list(text) + [END]
            for t in range(order - 1, len(symbols)):
                for n in range(1, order + 1):
                    raw[n][tuple(symbols[t - n + 1 : t + 1])] += 1
        self.count: dict[int, Counter[tuple[str, ...]]] = {order: raw[order]}
        for n in range(1, order):
            self.count[n] = Counter(gram[1:] for gram in raw[n + 1])
        self.discount = {}
        for n, counts in self.count.items():
            once, twice = (sum(c == k for c in counts.values()) for k in (1, 2))
            self.discount[n] = (once / (once + 2 * twice) if once else 0) or 0.5

    def p(self, word: str, history: tuple[str, ...], n: int) -> float:
        if n == 0:
            return 1 / (len(self.seen) + 2)
        history = history[len(history) - (n - 1) :]
        following = {gram: c for gram, c in self.count[n].items() if gram[:-1] == history}
        lower = self.p(word, history[1:], n - 1)
        if not following:
            return lower
        total, d = sum(following.values()), self.discount[n]
        return max(following.get((*history, word), 0) - d, 0) / total + d * len(following) / total * lower

    def bits_per_character(self, texts: Sequence[str]) -> float:
        bits, length = 0.0, 0
        for text in texts:
            symbols = [START] * (self.order - 1) + [c if c in self.seen else UNKNOWN for c in text] + [END]
            for t in range(self.order - 1, len(symbols)):
                bits -= math.log2(self.p(symbols[t], tuple(symbols[t - self.order + 1 : t]), self.order))
                length += 1
        return bits / length


def random_texts(seed: int, count: int, letters: str) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list(letters), rng.integers(0, 12))) for _ in range(count)]


@pytest.mark.parametrize(("order", "seed"), product([1, 2, 3, 5], [0, 1]))
def test_equal_to_the_slow_reference(order: int, seed: int) -> None:
    train, held_out = random_texts(seed, 25, "あいう、"), random_texts(seed + 100, 8, "あいう、未")
    fast, slow = KneserNey(order).fit(train), SlowKneserNey(order, train)
    assert fast.bits_per_character(held_out) == pytest.approx(slow.bits_per_character(held_out), abs=1e-6)
    assert fast.bits_per_character(train) == pytest.approx(slow.bits_per_character(train), abs=1e-6)


def test_by_hand() -> None:
    # One document "aab" at order 2: bigrams Sa, aa, ab, bE all once, so D2 = 4/(4+0) = 1.
    # Continuation counts: a after {S, a} = 2, b after {a} = 1, E after {b} = 1; D1 = 2/(2+2) = 1/2, total 4, 3 types.
    # Outcomes a, b, E, unknown: base 1/4. p1(a) = 1.5/4 + (0.5*3/4)/4 = 15/32; p1(b) = 0.5/4 + 3/32 = 7/32.
    # p2(.|a) = 0 + 1*2/2*p1, so p(b|a) = 7/32; an unknown one has 3/32; p(E|b) = 7/32.
    model = KneserNey(2).fit(["aab"])
    assert model.probability("a") == pytest.approx(15 / 32)
    assert model.probability("b", "a") == pytest.approx(7 / 32)
    assert model.probability("?", "a") == pytest.approx(3 / 32)
    assert model.probability(None, "aab") == pytest.approx(7 / 32)
    assert model.bits_per_character(["ab"]) == pytest.approx(-math.log2(15 / 32 * 7 / 32 * 7 / 32) / 3)


@pytest.mark.parametrize("history", ["", "あ", "あいう", "いいいいい", "未知", "、あ未い"])
def test_probabilities_sum_to_one(history: str) -> None:
    model = KneserNey(4).fit(random_texts(3, 30, "あいう、"))
    outcomes: list[str | None] = [*model.alphabet, "未", None]
    assert sum(model.probability(outcome, history) for outcome in outcomes) == pytest.approx(1, abs=1e-12)


def test_structure_is_found_and_documents_do_not_leak() -> None:
    texts = ["赤い丸がある。", "青い星がある。"] * 20
    model = KneserNey(5).fit(texts)
    assert model.bits_per_character(texts) < 0.5 < model.bits_per_character(["ある。青い星が赤い丸が"])
    assert model.probability("赤") == pytest.approx(model.probability("青"))  # no history from the document before
    assert model.bits_per_character(texts[:1]) == pytest.approx(model.bits_per_character(texts[:1] * 3))


def test_no_text_is_an_error() -> None:
    with pytest.raises(DataError):
        KneserNey().fit([""])
    with pytest.raises(DataError):
        KneserNey().fit(["あ"]).bits_per_character([])


def test_bits_belong_to_their_documents() -> None:
    model = KneserNey(3).fit(["ある。", "青い星。"])
    texts = ["青い", "", "ある。"]
    assert model.bits(texts) == pytest.approx([model.bits([text])[0] for text in texts])
    assert model.bits([""])[0] == pytest.approx(-math.log2(model.probability(None)))
