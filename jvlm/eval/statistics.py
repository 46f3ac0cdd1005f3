"""Intervals and tests for accuracies: no figure of a report stands without its n and its 95 % interval."""

import math
from collections.abc import Hashable, Sequence
from fractions import Fraction
from statistics import NormalDist
from typing import Any

import numpy as np

DRAWS = 2000


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927); (0, 1) when nothing was asked."""
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p, z2 = correct / n, z * z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def cluster_bootstrap(
    values: Sequence[float], groups: Sequence[Hashable], seed: int = 0, draws: int = DRAWS
) -> tuple[float, float, float]:
    """Mean and its 95 % percentile interval when whole groups (linked cases, shared images) are redrawn."""
    array = np.asarray(values, dtype=np.float64)
    totals, sizes = _by_group(array, groups)
    means = _redrawn_means(totals, sizes, seed, draws)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(array.mean()), float(low), float(high)


def paired_bootstrap(
    first: Sequence[float],
    second: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> tuple[float, float, float]:
    """mean(first) - mean(second) of the same items in the same order, with its 95 % interval."""
    assert len(first) == len(second)
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return cluster_bootstrap(difference.tolist(), groups or range(len(difference)), seed, draws)


def ratio_bootstrap(totals: Sequence[float], sizes: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """sum(totals) / sum(sizes) of documents, with its 95 % percentile interval when whole documents are redrawn.

    The difference of two models' bits per character: `totals` holds each document's difference of bits, `sizes` its
    characters.
    """
    first, second = (np.asarray(column, dtype=np.float64) for column in (totals, sizes))
    assert len(first) == len(second)
    low, high = np.percentile(_redrawn_means(first, second, seed, DRAWS), [2.5, 97.5])
    return {"value": float(first.sum() / second.sum()), "n": len(first), "interval": [float(low), float(high)]}


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided exact McNemar p of the discordant counts: are they two halves of a fair coin's throws?"""
    n, smaller = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, i) for i in range(smaller + 1))
    return float(min(Fraction(1), Fraction(2 * tail, 2**n)))


def macro_interval(counts: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """95 % interval of the unweighted mean of several proportions (correct, n).

    MOVER (Zou & Donner 2008) on Wilson intervals: closed form, and not of zero width when all are right.
    """
    shares = [correct / n for correct, n in counts]
    intervals = [wilson_interval(correct, n) for correct, n in counts]
    mean = sum(shares) / len(shares)
    below = math.sqrt(sum((p - low) ** 2 for p, (low, _) in zip(shares, intervals, strict=True))) / len(shares)
    above = math.sqrt(sum((high - p) ** 2 for p, (_, high) in zip(shares, intervals, strict=True))) / len(shares)
    return max(0.0, mean - below), min(1.0, mean + above)


def accuracy(
    correct: Sequence[bool],
    *,
    chance: float | None,
    best_constant: float | None,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The object every accuracy of a report is: value, n, interval, chance, best_constant.

    Groups with several items widen Wilson's interval to that of the cluster bootstrap where it reaches further: near 0
    and 1 the bootstrap alone is too short. A value of 0 or 1 has no spread, so there it is Wilson's over the groups.
    """
    n, right = len(correct), sum(bool(c) for c in correct)
    value = right / n if n else None
    clusters = len(set(groups)) if groups is not None else n
    if groups is not None and clusters < n and 0 < right < n:
        _, low, high = cluster_bootstrap([float(c) for c in correct], groups, seed)
        least, most = wilson_interval(right, n)
        interval = min(low, least), max(high, most)
    else:
        interval = wilson_interval(clusters * right // n if n else 0, clusters)
    return {"value": value, "n": n, "interval": list(interval), "chance": chance, "best_constant": best_constant}


def _by_group(values: np.ndarray, groups: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    assert len(values) == len(groups)
    order: dict[Hashable, int] = {}
    index = np.array([order.setdefault(group, len(order)) for group in groups])
    return np.bincount(index, weights=values), np.bincount(index).astype(np.float64)


def _redrawn_means(totals: np.ndarray, sizes: np.ndarray, seed: int, draws: int) -> np.ndarray:
    generator = np.random.default_rng([seed, len(totals)])
    means = np.empty(draws)
    for start in range(0, draws, 100):  # in slices, so that memory stays small for large sets
        count = min(100, draws - start)
        drawn = generator.integers(0, len(totals), (count, len(totals)))
        means[start : start + count] = totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return means
