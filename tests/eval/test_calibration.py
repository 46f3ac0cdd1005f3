"""Calibration by hand-computed cases, and on examinees whose certainty is known."""

import math

import numpy as np
import pytest

from jvlm.eval.calibration import (
    brier,
    calibration,
    choices,
    confidence,
    ece,
    fit_platt,
    fit_temperature,
    fit_threshold,
    nll,
    probabilities,
    risk_coverage,
)

HALVES = [math.log(0.5), math.log(0.25), math.log(0.25)]


def test_probabilities_by_hand() -> None:
    asked = choices([HALVES, [-1000.0, -1001.0], [0.0, -math.inf]], [{0}, {0}, {1}])
    assert probabilities(asked)[0].tolist() == pytest.approx([0.5, 0.25, 0.25])
    assert probabilities(asked, 0.5)[0].tolist() == pytest.approx([4 / 6, 1 / 6, 1 / 6])  # squares, then to sum 1
    assert probabilities(asked).sum(axis=1).tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert probabilities(asked)[2].tolist() == [1.0, 0.0, 0.0]


def test_ece_by_hand() -> None:
    sure = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    right = np.array([True, True, True, False, True, False])
    # the bin of 0.9 to 1: accuracy 0.75, of four; that of 0.5 to 0.6: 0.5, of two
    assert ece(sure, right) == pytest.approx((4 * 0.20 + 2 * 0.05) / 6)
    assert ece(np.array([1.0, 1.0]), np.array([True, True])) == 0.0
    assert ece(np.array([1.0, 0.0]), np.array([False, False])) == 0.5


def test_brier_and_nll_by_hand() -> None:
    assert brier(choices([HALVES], [{0}])) == pytest.approx(0.25 + 2 * 0.0625)
    assert brier(choices([HALVES], [{1}])) == pytest.approx(0.25 + 0.5625 + 0.0625)
    assert brier(choices([HALVES], [{0, 1}])) == brier(choices([HALVES], [{0}]))  # the likelier of the accepted
    assert nll(choices([HALVES], [{1}])) == pytest.approx(math.log(4))
    assert nll(choices([HALVES], [{0, 1}])) == pytest.approx(-math.log(0.75))
    assert nll(choices([[0.0, -math.inf]], [{1}])) < 701


def test_confidence_of_equal_choices_takes_the_first() -> None:
    sure, right = confidence(choices([[-1.0, -1.0]], [{1}]))
    assert (sure.tolist(), right.tolist()) == ([0.5], [False])


def test_risk_and_coverage_by_hand() -> None:
    sure = np.array([0.9, 0.6, 0.8, 0.7])
    right = np.array([True, False, True, False])
    coverage, risk = risk_coverage(sure, right)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0.0, 0.0, 1 / 3, 0.5])
    assert fit_threshold(sure, right, 0.0) == 0.8
    assert fit_threshold(sure, right, 0.34) == 0.7
    assert fit_threshold(sure, np.zeros(4, bool), 0.1) is None
    tied = risk_coverage(np.array([0.5, 0.5]), np.array([True, False]))[1]
    assert tied.tolist() == [0.5, 0.5]  # which of two equals comes first says nothing


def overconfident(n: int, factor: float, seed: int = 0) -> tuple[list[list[float]], list[set[int]]]:
    """Questions whose key is drawn by the softmax of scores, which the model states times `factor`."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(n, 5)) * 1.5
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return (scores * factor).tolist(), [{int(generator.choice(5, p=row))} for row in shares]


def test_the_temperature_that_was_put_in_comes_out() -> None:
    assert fit_temperature(choices(*overconfident(4000, 3.0))) == pytest.approx(3.0, rel=0.08)
    assert fit_temperature(choices(*overconfident(4000, 1.0))) == pytest.approx(1.0, rel=0.08)


def test_platts_curve_goes_through_what_was_put_in() -> None:
    generator = np.random.default_rng(1)
    sure = generator.uniform(0.2, 0.99, 20_000)
    right = generator.random(20_000) < 1 / (1 + np.exp(-(0.5 * np.log(sure / (1 - sure)) - 0.3)))
    slope, offset = fit_platt(sure, right)
    assert (slope, offset) == (pytest.approx(0.5, abs=0.05), pytest.approx(-0.3, abs=0.05))
    assert all(map(math.isfinite, fit_platt(sure[:50], np.ones(50, bool))))


def test_scaling_mends_an_overconfident_model_on_the_other_half() -> None:
    scores, golds = overconfident(1200, 4.0, seed=2)
    found = calibration(scores, golds, [f"case {i // 2}" for i in range(1200)])
    assert found is not None
    assert found["n"] + found["n_fit"] == 1200
    assert 500 < found["n"] < 700
    assert found["ece"] > 0.2
    assert found["ece_temperature"] < 0.06
    assert found["ece_platt"] < 0.06
    assert found["brier_temperature"] < found["brier"]
    assert found["nll_temperature"] < found["nll"]
    assert found["risk_coverage"][-1][0] == 1.0
    kept = found["abstention"]
    assert kept["risk"] < 0.3
    assert 0 < kept["coverage"] < 1
    assert kept["risk_interval"][0] < kept["risk"] < kept["risk_interval"][1]


def test_cases_stay_together_and_few_questions_have_no_calibration() -> None:
    scores, golds = overconfident(200, 1.0)
    assert calibration(scores, golds, ["one case"] * 200) is None
    assert calibration(scores[:30], golds[:30], list(range(30))) is None
    assert calibration([], [], []) is None


def test_a_model_that_is_never_right_has_no_threshold() -> None:
    found = calibration([[0.0, -1.0]] * 200, [{1}] * 200, list(range(200)))
    assert found is not None
    assert found["abstention"] | {"risk_interval": None} == {
        "target_risk": 0.2, "threshold": None, "answered": 0, "coverage": 0.0, "risk": None, "risk_interval": None
    }  # fmt: skip
