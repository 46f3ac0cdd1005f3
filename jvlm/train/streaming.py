"""The order of samples that lie in shards which have to be fetched: seeded, nearly sequential, index arithmetic alone.

Shards come in a seeded order, their samples one after the other; a buffer takes so many of them, gives them out in a
seeded order, and is filled again. Because a buffer is emptied before it is filled, a sample never moves further than
the buffer is long: only the shards of one buffer are open at a time, and any position of an epoch is begun at its
(shard, member) without reading what came before.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from jvlm.train.order import permute, position_of

_BUFFERS, _FIRST, _SETS = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D  # keep the draws of one seed apart


def streamed_order(shard: NDArray[np.int32], buffer: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Sample at each position of an epoch. `shard` [samples] says where each stands; `buffer` counts samples.

    The first buffer of an epoch is cut short at random, so that in another epoch others share one.
    """
    assert buffer > 0
    samples, shards = len(shard), int(shard.max(initial=-1)) + 1
    place = position_of(np.arange(shards), max(shards, 1), seed, epoch)
    order = np.argsort(place[shard], kind="stable")
    start = -int(permute(0, buffer, seed ^ _FIRST, epoch))
    while start < samples:
        begin, stop = max(start, 0), min(start + buffer, samples)
        if begin < stop:
            shuffled = permute(np.arange(stop - begin), stop - begin, (seed ^ _BUFFERS) + begin, epoch)
            order[begin:stop] = order[begin:stop][shuffled]
        start += buffer
    return order


def repeated(order_of: Callable[[int], NDArray[np.int64]], samples: int, count: int, epoch: int) -> NDArray[np.int64]:
    """`count` positions over a set of `samples`, pass after pass; position p is of sample p mod `samples`.

    `order_of(number)` is the order of a pass; passes of all epochs are numbered on. Of the last, broken pass the first
    samples of the set are taken, the same ones in every epoch.
    """
    passes = -(-count // samples)
    parts = [order_of(epoch * passes + number) + number * samples for number in range(passes)]
    return np.concatenate([part[part < count] for part in parts]) if parts else np.zeros(0, np.int64)


def interleaved(orders: list[NDArray[np.int64]], seed: int, epoch: int) -> NDArray[np.int64]:
    """Several orders as one that keeps each, in proportion all along: the parts of a mixture, numbered on.

    Each set is spread evenly, with a seeded jitter of up to one place.
    """
    keys, parts, start = [], [], 0
    for number, order in enumerate(orders):
        count = max(len(order), 1)
        jitter = permute(np.arange(len(order)), count, (seed ^ _SETS) + number, epoch) / count
        keys.append((np.arange(len(order)) + jitter) / count)
        parts.append(order + start)
        start += len(order)
    return np.concatenate(parts)[np.argsort(np.concatenate(keys), kind="stable")]
