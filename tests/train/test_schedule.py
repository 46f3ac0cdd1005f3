"""Learning-rate schedules are pure functions of the step."""

from itertools import pairwise

import pytest

from jvlm.train.schedule import learning_rate_factor


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_warm_up_peak_and_end(schedule):
    factors = [learning_rate_factor(step, 100, 10, schedule, 0.1, 0.3) for step in range(100)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert max(factors) == pytest.approx(1.0)
    assert factors[-1] == pytest.approx(0.1, abs=0.01)
    assert all(a >= b for a, b in pairwise(factors[10:]))


def test_wsd_is_stable_until_it_decays():
    assert all(learning_rate_factor(s, 100, 10, "wsd", 0.1, 0.3) == 1.0 for s in range(10, 70))
    assert learning_rate_factor(70, 100, 10, "wsd", 0.1, 0.3) < 1.0
