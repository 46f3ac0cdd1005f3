"""Agreement of judges against figures counted one by one."""

import itertools

import numpy as np
import pytest

from jvlm.eval.agreement import agreement_of_ratings, agreement_of_verdicts, mean, ratio_of_means, weights_of


def draws(count, seed, top=6):
    generator = np.random.default_rng(seed)
    first = generator.integers(1, top, count)
    return first.tolist(), np.clip(first + generator.integers(-2, 3, count), 1, top).tolist()


def kendall(x, y):
    """tau-b, pair by pair."""
    concordant = discordant = tied_x = tied_y = 0
    for (a, b), (c, d) in itertools.combinations(zip(x, y, strict=True), 2):
        tied_x += a == c
        tied_y += b == d
        concordant += (a - c) * (b - d) > 0
        discordant += (a - c) * (b - d) < 0
    pairs = len(x) * (len(x) - 1) / 2
    return (concordant - discordant) / np.sqrt((pairs - tied_x) * (pairs - tied_y))


def ranks(values):
    return [sum(v < w for v in values) + (sum(v == w for v in values) + 1) / 2 for w in values]


def kappa(x, y):
    observed = np.mean([a == b for a, b in zip(x, y, strict=True)])
    expected = sum(np.mean([a == c for a in x]) * np.mean([b == c for b in y]) for c in {*x, *y})
    return (observed - expected) / (1 - expected)


@pytest.mark.parametrize("seed", range(4))
def test_figures_by_hand(seed):
    x, y = draws(23, seed)
    found = agreement_of_ratings(x, y, range(23))
    assert found["n"] == 23
    assert found["pearson"]["value"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found["spearman"]["value"] == pytest.approx(np.corrcoef(ranks(x), ranks(y))[0, 1])
    assert found["kendall"]["value"] == pytest.approx(kendall(x, y))
    assert found["equal"]["value"] == pytest.approx(np.mean(np.array(x) == np.array(y)))
    first, second = (["won", "lost", "tie"][v % 3] for v in x), (["won", "lost", "tie"][v % 3] for v in y)
    first, second = list(first), list(second)
    verdicts = agreement_of_verdicts(first, second, range(23))
    assert verdicts["kappa"]["value"] == pytest.approx(kappa(first, second))
    assert verdicts["exact"]["value"] == pytest.approx(np.mean([a == b for a, b in zip(first, second, strict=True)]))


def test_intervals_are_those_of_samples_drawn_out():
    """A row of weights gives what the sample that it stands for gives, whole groups at a time."""
    x, y = draws(12, 7)
    groups = [i // 3 for i in range(12)]
    rows = weights_of(groups, 0)[1:60].astype(int)
    assert all(len(set(row[g * 3 : g * 3 + 3])) == 1 for row in rows for g in range(4))
    values = {"pearson": [], "spearman": [], "kendall": []}
    whole = weights_of(groups, 0)[1:].astype(int)
    for row in whole:
        a, b = np.repeat(x, row).tolist(), np.repeat(y, row).tolist()
        if len(set(a)) > 1 and len(set(b)) > 1:
            values["pearson"].append(np.corrcoef(a, b)[0, 1])
            values["spearman"].append(np.corrcoef(ranks(a), ranks(b))[0, 1])
            values["kendall"].append(kendall(a, b))
    found = agreement_of_ratings(x, y, groups)
    for name, all_values in values.items():
        assert found[name]["interval"] == pytest.approx(np.percentile(all_values, [2.5, 97.5]).tolist()), name


def test_perfect_opposite_and_undefined():
    same = agreement_of_ratings([1, 2, 3, 4], [1, 2, 3, 4], range(4))
    assert [same[name]["value"] for name in ("pearson", "spearman", "kendall", "equal")] == pytest.approx([1] * 4)
    turned = agreement_of_ratings([1, 2, 3, 4], [4, 3, 2, 1], range(4))
    assert turned["kendall"]["value"] == pytest.approx(-1)
    constant = agreement_of_ratings([1, 2, 3, 4], [5, 5, 5, 5], range(4))
    assert constant["pearson"] == constant["kendall"] == {"value": None, "interval": None}
    assert constant["equal"]["value"] == 0.0
    for found in (agreement_of_ratings([], [], []), agreement_of_verdicts([], [], [])):
        assert found.pop("n") == 0
        assert all(figure["value"] is None for figure in found.values())
    assert agreement_of_verdicts(["A"] * 3, ["A"] * 3, range(3))["kappa"]["value"] is None
    assert agreement_of_verdicts(["A", "B"] * 5, ["B", "A"] * 5, range(10))["kappa"]["value"] == pytest.approx(-1)


def test_means_and_ratios():
    assert mean([], []) == {"value": None, "interval": None, "n": 0}
    assert mean([1, 3], ["a", "b"])["value"] == 2
    wide, narrow = (mean(list(range(40)), groups)["interval"] for groups in ([i // 20 for i in range(40)], range(40)))
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])
    part = ([1.0, 2.0], [4.0, 4.0], ["a", "b"])
    other = ([3.0], [6.0], ["c"])
    assert ratio_of_means([part, other])["value"] == pytest.approx((37.5 + 50) / 2)
    assert ratio_of_means([])["value"] is None
