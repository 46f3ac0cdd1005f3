"""Interpolated Kneser-Ney over characters: the yardstick a language model's bits per character must beat.

The model (Kneser & Ney 1995; interpolated form of Chen & Goodman 1999, section 4.1.6), for history h of n-1 symbols:

    p_n(w | h) = max(c_n(hw) - D_n, 0) / c_n(h) + D_n * N1+(h •) / c_n(h) * p_{n-1}(w | h')

with raw counts c_N at the highest order and continuation counts c_n(u) = |{v : c_{n+1}(vu) > 0}| below it. A history
never seen passes everything to the shorter one. One discount per order, D = n1 / (n1 + 2 n2) from its counts of
counts; 0.5 where that is zero or undefined, so that unseen symbols always keep some mass.

Symbols: a document is `order - 1` start marks (history only, never predicted), its characters, one end mark. The
outcomes are the characters seen in training, the end mark and one symbol for every unseen character; the recursion
ends in the uniform distribution over these.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from jvlm.errors import DataError

_START, _END, _UNKNOWN, _FIRST_CHARACTER = 0, 1, 2, 3
Ids = NDArray[np.int64]


class KneserNey:
    """Character n-gram model. At order 5 it fits some 0.3 M characters a second in about 150 bytes a character."""

    def __init__(self, order: int = 5) -> None:
        assert order >= 1
        self.order = order

    def fit(self, texts: Iterable[str]) -> "KneserNey":
        """Count `texts`, one document each. Raises DataError when they hold no character."""
        code_points, lengths = _code_points(texts)
        if not len(code_points):
            raise DataError("no text to fit the n-gram model on")
        self._alphabet = np.unique(code_points)
        self._base = len(self._alphabet) + _FIRST_CHARACTER
        self._keys: list[Ids] = []
        symbols, predicted = self._symbols(code_points, lengths)
        grams = self._grams(symbols, learn=True)
        at = np.flatnonzero(predicted)
        self._counts, self._totals, self._types, self._discounts = [], [], [], []
        for n in range(1, self.order + 1):
            size = len(self._keys[n - 1])
            if n == self.order:
                counts = np.bincount(grams[n][at], minlength=size)
            else:  # each longer type votes once for its last n symbols
                _, first = np.unique(grams[n + 1][at], return_index=True)
                counts = np.bincount(grams[n][at[first]], minlength=size)
            seen, first = np.unique(grams[n][at], return_index=True)
            contexts = grams[n - 1][at[first] - 1]
            num_contexts = 1 if n == 1 else len(self._keys[n - 2])
            self._counts.append(counts)
            self._totals.append(np.bincount(contexts, weights=counts[seen], minlength=num_contexts))
            self._types.append(np.bincount(contexts, minlength=num_contexts))
            self._discounts.append(_discount(counts))
        return self

    def bits_per_character(self, texts: Iterable[str]) -> float:
        """Bits of all characters and one end mark per document, divided by the number of characters plus documents."""
        documents = list(texts)
        if not documents:
            raise DataError("no text to measure")
        return sum(self.bits(documents)) / sum(len(text) + 1 for text in documents)

    def bits(self, texts: Sequence[str]) -> list[float]:
        """−log2 p of each document with its end mark."""
        scores = -np.log2(self._score(texts))
        ends = np.cumsum([len(text) + 1 for text in texts])
        return [float(part.sum()) for part in np.split(scores, ends[:-1])]

    def probability(self, symbol: str | None, history: str = "") -> float:
        """P(symbol | document so far); `None` is the end mark. Any unseen character gets the unknown symbol's share."""
        return float(self._score([history + symbol])[-2] if symbol is not None else self._score([history])[-1])

    @property
    def alphabet(self) -> list[str]:
        """The characters seen in training, sorted."""
        return [chr(code) for code in self._alphabet]

    def _score(self, texts: Iterable[str]) -> NDArray[np.float64]:
        """Probability of every character and end mark, in order."""
        symbols, predicted = self._symbols(*_code_points(texts))
        grams = self._grams(symbols, learn=False)
        at = np.flatnonzero(predicted)
        p = np.full(len(at), 1 / (len(self._alphabet) + 2))
        for n in range(1, self.order + 1):
            counts, totals, types = self._counts[n - 1], self._totals[n - 1], self._types[n - 1]
            context, gram = grams[n - 1][at - 1], grams[n][at]
            total = np.where(context >= 0, totals[context], 0)
            known = total > 0
            kept = np.maximum(np.where(gram >= 0, counts[gram], 0) - self._discounts[n - 1], 0)
            mass = self._discounts[n - 1] * types[context]
            p[known] = ((kept + mass * p)[known]) / total[known]
        return p

    def _symbols(self, code_points: Ids, lengths: Ids) -> tuple[Ids, NDArray[np.bool_]]:
        """The stream start*(order) characters end … as symbol ids, and a mask of what is predicted.

        One start mark more than the history needs, so that position - 1 exists at order 1 too.
        """
        index = np.minimum(np.searchsorted(self._alphabet, code_points), len(self._alphabet) - 1)
        ids = np.where(self._alphabet[index] == code_points, index + _FIRST_CHARACTER, _UNKNOWN)
        spans = lengths + self.order + 1
        ends = np.cumsum(spans)
        symbols = np.full(int(spans.sum()), _START, np.int64)
        predicted = np.zeros(len(symbols), bool)
        predicted[ends - 1] = True
        document = np.repeat(np.arange(len(lengths)), lengths)
        place = np.arange(len(ids)) + (document + 1) * self.order + document
        symbols[place], predicted[place] = ids, True
        symbols[ends - 1] = _END
        return symbols, predicted

    def _grams(self, symbols: Ids, learn: bool) -> list[Ids]:
        """`grams[n][t]`: number of the n-gram ending at t, -1 when never seen; the empty one is 0.

        An n-gram is named by (name of its first n-1 symbols) * base + last symbol, which keeps keys in 64 bits.
        """
        grams = [np.zeros(len(symbols), np.int64)]
        for n in range(1, self.order + 1):
            before = np.roll(grams[-1], 1)
            keys = before * self._base + symbols
            if learn:
                known, names = np.unique(keys, return_inverse=True)
                self._keys.append(known)
            else:
                known = self._keys[n - 1]
                names = np.minimum(np.searchsorted(known, keys), len(known) - 1)
                names[(known[names] != keys) | (before < 0)] = -1
            grams.append(names)
        return grams


def _code_points(texts: Iterable[str]) -> tuple[Ids, Ids]:
    documents = list(texts)
    data = "".join(documents).encode("utf-32-le", "surrogatepass")
    lengths = np.array([len(text) for text in documents], np.int64)
    return np.frombuffer(data, "<u4").astype(np.int64), lengths


def _discount(counts: Ids) -> float:
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    discount = once / (once + 2 * twice) if once else 0.0
    return discount if discount > 0 and math.isfinite(discount) else 0.5
