"""How far two judges agree: correlations of their ratings, and their verdicts, each with a 95 % interval.

The interval redraws whole groups: answers of several models to one question are not independent. A sample is a row of
weights, how often each pair was drawn, so that all 2,000 of them are computed at once.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jvlm.eval.statistics import DRAWS

Floats = NDArray[np.float64]


def agreement_of_ratings(
    first: Sequence[float], second: Sequence[float], groups: Sequence[Hashable], seed: int = 0
) -> dict[str, Any]:
    """Pearson's r, Spearman's rho and Kendall's tau-b of ratings of the same answers, and the share that is equal.

    A figure that is not defined (a judge that always says the same) is None.
    """
    x, y = np.asarray(first, float), np.asarray(second, float)
    weights = weights_of(groups, seed)
    below = [(v[None] < v[:, None]).astype(float) + (v[None] == v[:, None]) / 2 for v in (x, y)]  # [n, n]: j under i
    signs = [np.sign(v[:, None] - v[None]) for v in (x, y)]
    ranks = [weights @ part.T for part in below]  # [samples, n]; a constant less than ranks from 1
    figures = {
        "pearson": _correlation(weights, np.broadcast_to(x, weights.shape), np.broadcast_to(y, weights.shape)),
        "spearman": _correlation(weights, *ranks),
        "kendall": _kendall(weights, *signs),
        "equal": (weights @ (x == y)) / _nonzero(weights.sum(1)),
    }
    return {"n": len(x)} | {name: _figure(values) for name, values in figures.items()}


def agreement_of_verdicts(
    first: Sequence[str], second: Sequence[str], groups: Sequence[Hashable], seed: int = 0
) -> dict[str, Any]:
    """The share of equal verdicts, and Cohen's kappa (Cohen 1960): what is beyond the agreement of chance."""
    labels = sorted({*first, *second})
    one, other = (np.array([[said == label for label in labels] for said in part], float) for part in (first, second))
    weights = weights_of(groups, seed)
    total = _nonzero(weights.sum(1))
    observed = weights @ (one * other).sum(1) / total if len(one) else np.full(len(weights), np.nan)
    expected = ((weights @ one) * (weights @ other)).sum(1) / total**2 if len(one) else observed
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa = np.where(expected < 1 - 1e-12, (observed - expected) / (1 - expected), np.nan)
    return {"n": len(one), "exact": _figure(observed), "kappa": _figure(kappa)}


def mean(values: Sequence[float], groups: Sequence[Hashable], seed: int = 0) -> dict[str, Any]:
    """Mean of values with its interval."""
    weights = weights_of(groups, seed)
    with np.errstate(invalid="ignore"):
        return _figure((weights @ np.asarray(values, float)) / weights.sum(1)) | {"n": len(values)}


def ratio_of_means(
    parts: Sequence[tuple[Sequence[float], Sequence[float], Sequence[Hashable]]], seed: int = 0
) -> dict[str, Any]:
    """The mean over parts of 100 sum(a) / sum(b), redrawn within each part by its groups."""
    ratios = []
    for number, (a, b, groups) in enumerate(parts):
        weights = weights_of(groups, seed + number)
        ratios.append(100 * (weights @ np.asarray(a, float)) / _nonzero(weights @ np.asarray(b, float)))
    values = np.mean(ratios, 0) if ratios else np.full(DRAWS + 1, np.nan)
    return _figure(values) | {"n": sum(len(a) for a, _, _ in parts)}


def weights_of(groups: Sequence[Hashable], seed: int) -> Floats:
    """``[1 + DRAWS, n]``: all ones, then how often each item stands in a sample of whole groups."""
    order: dict[Hashable, int] = {}
    index = np.array([order.setdefault(group, len(order)) for group in groups], int)
    if not order:
        return np.zeros((1 + DRAWS, 0))
    generator = np.random.default_rng([seed, len(order)])
    drawn = generator.multinomial(len(order), np.full(len(order), 1 / len(order)), DRAWS)
    return np.concatenate([np.ones((1, len(index))), drawn[:, index].astype(float)])


def _correlation(weights: Floats, x: Floats, y: Floats) -> Floats:
    """Weighted Pearson correlation of each row; not a number where one side has no spread."""
    total = _nonzero(weights.sum(1))[:, None]
    dx = x - (weights * x).sum(1)[:, None] / total
    dy = y - (weights * y).sum(1)[:, None] / total
    spread = (weights * dx * dx).sum(1) * (weights * dy * dy).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 1e-12, (weights * dx * dy).sum(1) / np.sqrt(spread), np.nan)


def _kendall(weights: Floats, x: Floats, y: Floats) -> Floats:
    """tau-b of each row: concordant less discordant pairs over the geometric mean of the pairs that are not tied.

    Args:
        x, y: ``[n, n]`` signs of the differences.
    """

    def pairs(of: Floats) -> Floats:
        return ((weights @ of) * weights).sum(1)

    spread = pairs(x * x) * pairs(y * y)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, pairs(x * y) / np.sqrt(spread), np.nan)


def _nonzero(values: Floats) -> Floats:
    return np.where(values == 0, np.nan, values)


def _figure(values: Floats) -> dict[str, Any]:
    """The first value, that of all items; the interval of the others, samples that do not define it left out."""
    if not np.isfinite(values[0]):
        return {"value": None, "interval": None}
    low, high = np.percentile(values[1:][np.isfinite(values[1:])], [2.5, 97.5])
    return {"value": float(values[0]), "interval": [float(low), float(high)]}
