"""L(N) = E + A / N^α through a few points, robustly: the law of a ladder whose budgets are matched (Kaplan et al. 2020,
Hoffmann et al. 2022, whose Huber loss on relative errors this takes).

For each exponent of a fine grid the floor E and the scale A follow from linear least squares, repeated with Huber's
weights; the exponent with the least loss wins. No start to choose, nothing that does not converge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np

from jvlm.errors import UsageError

EXPONENTS = np.linspace(0.02, 1.5, 741)
HUBER = 1e-3
"""Relative error from which a point pulls no harder than in proportion (Hoffmann et al. 2022, D.2)."""
ROUNDS = 20


@dataclass(frozen=True)
class Law:
    """Loss = `floor` + exp(`log_scale` − `exponent` × log N)."""

    floor: float
    log_scale: float
    exponent: float

    def loss(self, parameters: float) -> float:
        return self.floor + exp(self.log_scale - self.exponent * log(parameters))


@dataclass(frozen=True)
class Prediction:
    """Of a size that was not fitted. `low` to `high`: twice the spread of the laws that leave out a point, and of the
    points about the law, on either side; None below four points."""

    loss: float
    low: float | None
    high: float | None


def fit(parameters: Sequence[float], losses: Sequence[float]) -> Law:
    """Raises UsageError for fewer than three sizes, or losses that do not fall."""
    if len(set(parameters)) < 3:
        raise UsageError(f"{len(set(parameters))} sizes", fix="a law of three numbers takes three sizes at least")
    targets = np.asarray(losses, float)
    logs = np.log(np.asarray(parameters, float))
    middle = float(logs.mean())
    powers = np.exp(-EXPONENTS[:, None] * (logs - middle))  # [exponents, sizes]
    floors, scales = _linear(powers, targets)
    errors = _huber((floors[:, None] + scales[:, None] * powers) / targets - 1).sum(1)
    errors[scales <= 0] = np.inf
    best = int(errors.argmin())
    if not np.isfinite(errors[best]):
        raise UsageError("the loss does not fall with the size", fix="train longer, or look at the learning rates")
    exponent = float(EXPONENTS[best])
    return Law(float(floors[best]), log(float(scales[best])) + exponent * middle, exponent)


def predict(parameters: Sequence[float], losses: Sequence[float], size: float) -> Prediction:
    """The loss of another size by the law through all points, with an interval."""
    law = fit(parameters, losses)
    predicted, count = law.loss(size), len(losses)
    if count < 4:
        return Prediction(predicted, None, None)
    others = np.array([_without(parameters, losses, i).loss(size) for i in range(count)])
    jackknife = (count - 1) / count * float(((others - others.mean()) ** 2).sum())
    errors = np.array([law.loss(n) - loss for n, loss in zip(parameters, losses, strict=True)])
    noise = float((errors**2).sum()) / max(1, count - 3)
    spread = 2 * sqrt(jackknife + noise)
    return Prediction(predicted, predicted - spread, predicted + spread)


def leave_one_out(parameters: Sequence[float], losses: Sequence[float]) -> list[float] | None:
    """Relative error of each point by the law through the others; None below four points."""
    if len(losses) < 4:
        return None
    return [_without(parameters, losses, i).loss(n) / losses[i] - 1 for i, n in enumerate(parameters)]


def _without(parameters: Sequence[float], losses: Sequence[float], index: int) -> Law:
    return fit([*parameters[:index], *parameters[index + 1 :]], [*losses[:index], *losses[index + 1 :]])


def _linear(powers: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Floor, not below zero, and scale for each exponent: least squares of relative errors, points far off weighing
    less each round. powers ``[exponents, sizes]``, targets ``[sizes]``."""
    weights = np.ones_like(powers)
    floors = scales = np.zeros(len(powers))
    for _ in range(ROUNDS):
        by = weights / targets**2
        one, first, second = by.sum(1), (by * powers).sum(1), (by * powers**2).sum(1)
        left, right = (by * targets).sum(1), (by * powers * targets).sum(1)
        size = one * second - first**2
        floors, scales = (second * left - first * right) / size, (one * right - first * left) / size
        scales = np.where(floors < 0, right / second, scales)
        floors = np.maximum(floors, 0.0)
        off = np.abs((floors[:, None] + scales[:, None] * powers) / targets - 1)
        weights = HUBER / np.maximum(off, HUBER)
    return floors, scales


def _huber(errors: np.ndarray) -> np.ndarray:
    size = np.abs(errors)
    return np.where(size <= HUBER, errors**2 / 2, HUBER * (size - HUBER / 2))
