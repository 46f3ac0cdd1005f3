"""Which sample comes when: a pure function of (seed, epoch, position), and its inverse.

A Feistel network over the smallest power of four that holds `n`, walked until the value falls below `n`, is a
bijection of ``range(n)`` that needs no memory and can be asked at any position. Nothing about order has to be
stored in a checkpoint but the step.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROUNDS = 6
_MASK64 = 0xFFFFFFFFFFFFFFFF


def permute(index: ArrayLike, n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Sample number at each position of the epoch. `index` in ``range(n)``, any shape."""
    return _walk(index, n, seed, epoch, forward=True)


def position_of(sample: ArrayLike, n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Position in the epoch at which each sample comes: the inverse of `permute`."""
    return _walk(sample, n, seed, epoch, forward=False)


def spread(n: int, most: int) -> list[int]:
    """At most `most` of ``range(n)``, evenly spaced: the first ones of a set may all be of one source."""
    return [i * n // most for i in range(most)] if n > most else list(range(n))


def _walk(index: ArrayLike, n: int, seed: int, epoch: int, forward: bool) -> NDArray[np.int64]:
    half_bits = max(1, (max(n - 1, 1).bit_length() + 1) // 2)
    keys = [_mix(np.array([(seed * 1_000_003 + epoch * 8191 + r) & _MASK64], np.uint64))[0] for r in range(ROUNDS)]
    values = np.atleast_1d(np.asarray(index, np.uint64)).copy()
    outside = np.ones(values.shape, bool)
    while outside.any():
        values[outside] = _feistel(values[outside], np.uint64(half_bits), keys if forward else keys[::-1], forward)
        outside = values >= n
    return values.astype(np.int64).reshape(np.shape(index))


def _feistel(x: NDArray[np.uint64], half_bits: np.uint64, keys: list[np.uint64], forward: bool) -> NDArray[np.uint64]:
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = x >> half_bits, x & mask
    for key in keys:
        if forward:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        else:
            left, right = right ^ (_mix(left ^ key) & mask), left
    return left << half_bits | right


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser (Steele, Lea & Flood 2014)."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
