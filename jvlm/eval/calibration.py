"""Does a model know when it is right? Calibration of choice probabilities, and when to abstain.

Probabilities are the softmax of the choices' log-likelihoods; the confidence is the largest. Half of the cases, drawn
by the hash of their group, fit a temperature, Platt's curve and a threshold; the other half shows what they are worth.
"""

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jvlm.eval.statistics import wilson_interval
from jvlm.files import sha256_bytes

BINS = 10
LEAST = 20
"""Questions that each half must have at least."""
TARGET_RISK = 0.2
"""Share of wrong answers, of those given, that the threshold is to keep: what the physicians' 必修 part allows."""
_POINTS = 20
_GOLDEN = (5**0.5 - 1) / 2

Floats = NDArray[np.float64]


def calibration(
    scores: Sequence[Sequence[float]], golds: Sequence[Collection[int]], groups: Sequence[Hashable]
) -> dict[str, Any] | None:
    """Calibration on the held-out half, as it is and after temperature and Platt scaling, and the use of a threshold.

    Args:
        scores: [questions][choices] log-likelihoods of single-choice questions.
        golds: per question the numbers of its accepted choices.
        groups: cases that stay together in one half.

    Returns None when a half would have fewer than 20 questions. `risk_coverage`: (share answered, share of those wrong)
    when the least certain are left unanswered, `aurc` the mean risk over all coverages. `abstention`: the threshold of
    the confidence that keeps at most 20 % wrong in the first half with the most answers, None when none does, and what
    it gives in the other.
    """
    fitting = np.array([int(sha256_bytes(str(group).encode())[:8], 16) % 2 == 0 for group in groups], bool)
    if min(int(fitting.sum()), int((~fitting).sum())) < LEAST:
        return None
    asked = choices(scores, golds)
    fit, held_out = asked.part(fitting), asked.part(~fitting)
    temperature = fit_temperature(fit)
    slope, offset = fit_platt(*confidence(fit))
    sure, right = confidence(held_out)
    scaled, _ = confidence(held_out, temperature)
    threshold = fit_threshold(*confidence(fit), TARGET_RISK)
    coverage, risk = risk_coverage(sure, right)
    kept = right[sure >= threshold] if threshold is not None else right[:0]
    wrong = int((~kept).sum())
    return {
        "n": len(right),
        "n_fit": len(fit.scores),
        "ece": ece(sure, right),
        "brier": brier(held_out),
        "nll": nll(held_out),
        "temperature": temperature,
        "ece_temperature": ece(scaled, right),
        "brier_temperature": brier(held_out, temperature),
        "nll_temperature": nll(held_out, temperature),
        "platt": [slope, offset],
        "ece_platt": ece(_sigmoid(slope * _logit(sure) + offset), right),
        "aurc": float(risk.mean()),
        "risk_coverage": _thinned(coverage, risk),
        "abstention": {
            "target_risk": TARGET_RISK,
            "threshold": threshold,
            "answered": len(kept),
            "coverage": len(kept) / len(right),
            "risk": wrong / len(kept) if len(kept) else None,
            "risk_interval": list(wilson_interval(wrong, len(kept))),
        },
    }


@dataclass(frozen=True)
class Choices:
    """Questions side by side, those with fewer choices filled up with impossible ones.

    `scores` [questions, most choices] log-likelihoods; `accepted` likewise, whether the choice is right.
    """

    scores: Floats
    accepted: NDArray[np.bool_]

    def part(self, which: NDArray[np.bool_]) -> "Choices":
        return Choices(self.scores[which], self.accepted[which])


def choices(scores: Sequence[Sequence[float]], golds: Sequence[Collection[int]]) -> Choices:
    """Per question its choices' log-likelihoods, and the numbers of the accepted ones."""
    width = max(map(len, scores))
    filled = np.full((len(scores), width), -np.inf)
    accepted = np.zeros((len(scores), width), bool)
    for i, (row, gold) in enumerate(zip(scores, golds, strict=True)):
        filled[i, : len(row)] = row
        accepted[i, sorted(gold)] = True
    return Choices(filled, accepted)


def probabilities(asked: Choices, temperature: float = 1.0) -> Floats:
    """[questions, choices]: softmax of log-likelihoods divided by the temperature; 0 for an impossible choice."""
    scaled = asked.scores / temperature
    shares: Floats = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def confidence(asked: Choices, temperature: float = 1.0) -> tuple[Floats, NDArray[np.bool_]]:
    """Per question the probability of the most likely choice, and whether that is right (of equals the first)."""
    shares = probabilities(asked, temperature)
    return shares.max(axis=1), asked.accepted[np.arange(len(shares)), shares.argmax(axis=1)]


def ece(sure: Floats, right: NDArray[np.bool_], bins: int = BINS) -> float:
    """Expected calibration error (Guo et al. 2017): mean |accuracy - confidence| of bins of equal width."""
    place = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = np.abs(np.bincount(place, sure - right, bins))  # a bin's gap times its size
    return float(gaps.sum() / len(sure))


def brier(asked: Choices, temperature: float = 1.0) -> float:
    """Brier's score over all choices, 0 to 2; of several accepted ones the most likely is the truth."""
    shares = probabilities(asked, temperature)
    truth = np.zeros(shares.shape)
    truth[np.arange(len(shares)), np.where(asked.accepted, shares, -1.0).argmax(axis=1)] = 1.0
    return float(((shares - truth) ** 2).sum(axis=1).mean())


def nll(asked: Choices, temperature: float = 1.0) -> float:
    """Mean negative log-probability of an accepted choice, in nats; at most 700 for one that was held impossible."""
    held = np.where(asked.accepted, probabilities(asked, temperature), 0.0).sum(axis=1)
    return float(-np.log(np.maximum(held, 1e-304)).mean())


def fit_temperature(asked: Choices) -> float:
    """The temperature, 1/100 to 100, that makes the accepted choices most likely: golden section on its logarithm."""
    low, high = np.log(0.01), np.log(100.0)
    while high - low > 1e-4:
        first, second = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if nll(asked, float(np.exp(first))) <= nll(asked, float(np.exp(second))):
            high = second
        else:
            low = first
    return float(np.exp((low + high) / 2))


def fit_platt(sure: Floats, right: NDArray[np.bool_]) -> tuple[float, float]:
    """(slope, offset) of the logistic curve from the confidence's logit to being right, by Newton's steps.

    With Platt's (1999) softened targets, so that it stays finite where all are right, or wrong.
    """
    ups = int(right.sum())
    downs = len(right) - ups
    target = np.where(right, (ups + 1) / (ups + 2), 1 / (downs + 2))
    inputs = np.stack([_logit(sure), np.ones(len(sure))], axis=1)  # [n, 2]
    weights = np.zeros(2)
    for _ in range(50):
        said = _sigmoid(inputs @ weights)
        gradient = inputs.T @ (said - target)
        curvature = inputs.T @ (inputs * (said * (1 - said))[:, None]) + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step * min(1.0, 5 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    return float(weights[0]), float(weights[1])


def risk_coverage(sure: Floats, right: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """[n] share answered and [n] share of those wrong, from the surest answer alone to all of them.

    Answers that are equally sure count with the risk of all of them: their order says nothing.
    """
    order = np.argsort(-sure, kind="stable")
    wrong = np.cumsum(~right[order]).astype(np.float64)
    answered = np.arange(1, len(sure) + 1)
    last = np.searchsorted(-sure[order], -sure[order], "right") - 1  # the last answer as sure as this one
    coverage: Floats = answered / len(sure)
    return coverage, wrong[last] / answered[last]


def fit_threshold(sure: Floats, right: NDArray[np.bool_], target: float) -> float | None:
    """The lowest confidence from which on at most `target` of the answers are wrong; None when there is none."""
    _, risk = risk_coverage(sure, right)
    good = np.flatnonzero(risk <= target)
    return float(np.sort(sure)[::-1][good[-1]]) if len(good) else None


def _thinned(coverage: Floats, risk: Floats) -> list[list[float]]:
    places = np.unique(np.linspace(0, len(risk) - 1, _POINTS).round().astype(int))
    return [[float(coverage[i]), float(risk[i])] for i in places]


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def _logit(p: Floats) -> Floats:
    inside = np.clip(p, 1e-9, 1 - 1e-9)
    return np.log(inside / (1 - inside))
