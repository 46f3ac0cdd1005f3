"""The order of data is a bijection, depends on seed and epoch, and can be inverted."""

import numpy as np
import pytest

from jvlm.train.order import permute, position_of


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1000, 65537])
def test_every_sample_comes_once_and_the_inverse_finds_it(n):
    order = permute(np.arange(n), n, seed=3, epoch=1)
    assert sorted(order.tolist()) == list(range(n))
    assert np.array_equal(position_of(order, n, seed=3, epoch=1), np.arange(n))


def test_one_position_is_the_same_asked_alone():
    whole = permute(np.arange(500), 500, seed=1, epoch=0)
    assert int(permute(123, 500, seed=1, epoch=0)) == whole[123]


def test_seed_and_epoch_change_the_order_and_it_looks_random():
    n = 4096
    first = permute(np.arange(n), n, seed=1, epoch=0)
    for other in (permute(np.arange(n), n, 2, 0), permute(np.arange(n), n, 1, 1)):
        assert (first == other).mean() < 0.01
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.1
    assert abs(np.corrcoef(first, np.arange(n))[0, 1]) < 0.1
