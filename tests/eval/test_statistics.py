import math

import numpy as np
import pytest

from jvlm.errors import DataError
from jvlm.eval.audits import image_removal_audit, order_audit, paired_test
from jvlm.eval.retrieval import retrieval_r1
from jvlm.eval.statistics import (
    accuracy,
    cluster_bootstrap,
    macro_interval,
    mcnemar_exact,
    paired_bootstrap,
    ratio_bootstrap,
    wilson_interval,
)


def test_wilson_against_published_values() -> None:
    """Newcombe 1998, table I: 81/263, 15/148, 0/20, 1/29."""
    for (correct, n), expected in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson_interval(correct, n) == pytest.approx(expected, abs=5e-5)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(7, 7)[1] == 1.0 > wilson_interval(7, 7)[0]


def test_mcnemar_exact_is_the_two_sided_binomial() -> None:
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(5, 5) == 1.0
    assert mcnemar_exact(1, 9) == pytest.approx(2 * (1 + 10) / 1024)
    assert mcnemar_exact(9, 1) == mcnemar_exact(1, 9)
    assert mcnemar_exact(2000, 0) == pytest.approx(2 * 0.5**2000)


def test_bootstrap_is_seeded_and_covers_about_95_percent() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(60):
        values = (rng.random(80) < 0.4).astype(float)
        mean, low, high = cluster_bootstrap(values.tolist(), range(80), seed=trial, draws=400)
        assert low <= mean <= high
        covered += low <= 0.4 <= high
    assert covered >= 52
    assert cluster_bootstrap([0, 1, 1, 0], "aabb", 7) == cluster_bootstrap([0, 1, 1, 0], "aabb", 7)


def test_clusters_widen_the_interval() -> None:
    flags = [i % 2 == 0 for i in range(20) for _ in range(10)]  # ten copies of twenty answers
    groups = [i for i in range(20) for _ in range(10)]
    alone = accuracy(flags, chance=0.5, best_constant=None)
    clustered = accuracy(flags, chance=0.5, best_constant=None, groups=groups)
    assert alone["value"] == clustered["value"] == 0.5
    assert alone["n"] == clustered["n"] == 200
    width = [score["interval"][1] - score["interval"][0] for score in (alone, clustered)]
    assert width[1] > 2 * width[0]
    certain = accuracy([True] * 200, chance=None, best_constant=None, groups=groups)
    assert certain["interval"] == list(wilson_interval(20, 20))


def test_two_groups_by_hand() -> None:
    """Redrawn, the mean of one right and one wrong group is 0, 1/2 or 1, a quarter of the time each end."""
    mean, low, high = cluster_bootstrap([1.0, 1.0, 0.0, 0.0], "aabb", seed=0)
    assert (mean, low, high) == (0.5, 0.0, 1.0)
    mean, low, high = cluster_bootstrap([1.0, 1.0, 1.0, 0.0], "aaab", seed=0)  # the groups weigh 3 and 1
    assert (mean, low, high) == (0.75, 0.0, 1.0)


def test_one_shared_group_does_not_shorten_the_interval() -> None:
    flags = [True] + [False] * 199
    alone = accuracy(flags, chance=None, best_constant=None)["interval"]
    shared = accuracy(flags, chance=None, best_constant=None, groups=[0, 0, *range(1, 199)])["interval"]
    assert shared[0] <= alone[0] < alone[1] <= shared[1]


def test_accuracy_of_nothing_has_no_value() -> None:
    assert accuracy([], chance=None, best_constant=None) == {
        "value": None, "n": 0, "interval": [0.0, 1.0], "chance": None, "best_constant": None
    }  # fmt: skip


def test_macro_interval_of_one_kind_is_wilsons() -> None:
    assert macro_interval([(30, 40)]) == pytest.approx(wilson_interval(30, 40))
    low, high = macro_interval([(30, 40)] * 4)
    one = wilson_interval(30, 40)
    assert high - low == pytest.approx((one[1] - one[0]) / 2)  # four times the items


def test_paired_bootstrap_sees_a_difference_that_unpaired_intervals_hide() -> None:
    second = [float(i % 2) for i in range(100)]
    first = [1.0 if i < 16 else value for i, value in enumerate(second)]  # right wherever second is, and 8 more
    difference, low, high = paired_bootstrap(first, second)
    assert difference == pytest.approx(0.08)
    assert 0 < low < 0.08 < high
    assert paired_bootstrap(second, second) == (0.0, 0.0, 0.0)


def test_paired_bootstrap_by_hand() -> None:
    """Two pairs that differ by 1 and 0: redrawn, their mean is 0, 1/2 or 1, a quarter of the time each end."""
    assert paired_bootstrap([1.0, 1.0], [0.0, 1.0]) == (0.5, 0.0, 1.0)
    assert paired_bootstrap([1.0, 1.0, 1.0], [0.0, 1.0, 1.0], "abb") == (pytest.approx(1 / 3), 0.0, 1.0)


def test_ratio_bootstrap_by_hand() -> None:
    """Two documents of 10 and 30 characters: redrawn, the ratio is 1/2, 7/8 or 1, a quarter of the time each end."""
    found = ratio_bootstrap([5.0, 30.0], [10.0, 30.0])
    assert found == {"value": 35 / 40, "n": 2, "interval": [0.5, 1.0]}
    same = ratio_bootstrap([3.0, 6.0, 1.5], [2.0, 4.0, 1.0])
    assert same == {"value": 1.5, "n": 3, "interval": [1.5, 1.5]}


def test_audit_transitions_and_shares() -> None:
    states = [(True, True)] * 10 + [(True, False)] * 30 + [(False, True)] * 5 + [(False, False)] * 55
    with_image = {f"q{i}": pair[0] for i, pair in enumerate(states)}
    without = {f"q{i}": pair[1] for i, pair in enumerate(states)}
    audit = image_removal_audit(with_image, without)
    assert audit["transitions"] == {"persistent": 10, "gain": 30, "harm": 5, "unresolved": 55}
    assert (audit["accuracy_with"], audit["accuracy_without"]) == (0.40, 0.15)
    assert audit["net_effect"] == pytest.approx(audit["accuracy_with"] - audit["accuracy_without"])
    assert (audit["retention"], audit["gain"], audit["harm"]) == (0.25, 0.30, 0.05)
    assert audit["rescue"] == pytest.approx(30 / 85)
    assert audit["mcnemar_p"] == pytest.approx(2 * sum(math.comb(35, i) for i in range(6)) / 2**35)
    assert 0 < audit["net_interval"][0] < 0.25 < audit["net_interval"][1]


def test_audit_of_a_blind_model_and_of_mismatched_arms() -> None:
    flags = {"a": True, "b": False, "c": True}
    audit = image_removal_audit(flags, flags)
    assert (audit["net_effect"], audit["retention"], audit["mcnemar_p"]) == (0, 1.0, 1.0)
    assert image_removal_audit({"a": False}, {"a": False})["retention"] is None
    with pytest.raises(DataError, match="one arm only, such as c"):
        image_removal_audit(flags, {"a": True, "b": True})


def test_two_models_on_the_same_items() -> None:
    first = {f"q{i}": i < 60 for i in range(100)}
    second = {f"q{i}": 20 <= i < 65 for i in range(100)}
    pair = paired_test(first, second)
    assert [pair[key] for key in ("n", "both", "only_first", "only_second", "neither")] == [100, 40, 20, 5, 35]
    assert (pair["first"], pair["second"]) == (0.60, 0.45)
    assert pair["difference"] == pytest.approx(0.15)
    assert pair["mcnemar_p"] == pytest.approx(2 * sum(math.comb(25, i) for i in range(6)) / 2**25)
    assert 0 < pair["interval"][0] < 0.15 < pair["interval"][1]
    back = paired_test(second, first)
    assert (back["difference"], back["mcnemar_p"]) == (-pair["difference"], pair["mcnemar_p"])
    grouped = paired_test(first, second, {f"q{i}": i // 20 for i in range(100)})["interval"]
    assert grouped[1] - grouped[0] > pair["interval"][1] - pair["interval"][0]
    with pytest.raises(DataError, match="no item"):
        paired_test({}, {})


def test_orders_by_hand() -> None:
    a, b, nothing = frozenset("a"), frozenset("b"), frozenset[str]()
    chosen = [{"x": a, "y": a, "z": nothing}, {"x": a, "y": b, "z": nothing}]
    right = [{"x": True, "y": True, "z": False}, {"x": True, "y": False, "z": False}]
    audit = order_audit(chosen, right, {"x": 0, "y": 1, "z": 2})
    assert (audit["n"], audit["value"], audit["orders"]) == (3, 0.5, [2 / 3, 1 / 3])
    assert audit["agreement"] == audit["always_right"] == 1 / 3  # what cannot be read agrees with nothing


def test_retrieval_finds_what_is_there_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(150, 16))
    captions = [f"文{i}" for i in range(150)]
    perfect = retrieval_r1(features, features * 3, captions, seed=1)
    assert perfect["r1"] == perfect["image_to_text"] == perfect["text_to_image"] == 1.0
    assert (perfect["n"], perfect["chance"]) == (1000, 0.01)
    assert retrieval_r1(features, rng.normal(size=(150, 16)), captions)["r1"] < 0.05
    assert retrieval_r1(features, np.ones((150, 16)), captions)["image_to_text"] == 0.0  # ties are misses
    # every image points at text 0: text 0 to image is a tie-free direction of its own
    skewed = features.copy()
    skewed[:, 0] += 30
    directions = retrieval_r1(skewed + rng.normal(size=features.shape), features, captions)
    assert directions["r1"] == min(directions["image_to_text"], directions["text_to_image"])


def test_retrieval_uses_distinct_captions_only() -> None:
    features = np.random.default_rng(0).normal(size=(200, 8))
    captions = [f"文{i % 100}" for i in range(200)]
    features[100:] = 0  # the second mention of a caption is never drawn
    assert retrieval_r1(features, features, captions)["r1"] == 1.0
    with pytest.raises(DataError, match="99 distinct captions"):
        retrieval_r1(features, features, [f"文{i % 99}" for i in range(200)])
    with pytest.raises(DataError, match="do not pair"):
        retrieval_r1(features, features, captions[:-1])
