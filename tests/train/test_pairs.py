"""Which pairs a contrastive batch holds."""

import numpy as np
import pytest
from tiny import SEED

from jvlm.images.shards import ShardReader, write_shards
from jvlm.train.pairs import PairOrder
from jvlm.train.world import World

COUNT, BATCH = 1000, 96
SOURCES = np.sort(np.random.default_rng(0).choice(5, COUNT, p=[0.5, 0.3, 0.1, 0.07, 0.03]))


def epochs(order, number):
    return [order.numbers(step) for step in range(number * (COUNT // BATCH))]


@pytest.mark.parametrize("block", [1, 32, 96])
def test_no_pair_comes_twice_in_an_epoch_and_all_come_in_the_long_run(block):
    order = PairOrder(COUNT, BATCH, SEED, SOURCES if block > 1 else None, block)
    per_epoch = COUNT // BATCH
    steps = epochs(order, 8)
    for epoch in range(8):
        seen = np.concatenate(steps[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert len(seen) == len(set(seen.tolist())) == per_epoch * BATCH
    assert set(np.concatenate(steps).tolist()) == set(range(COUNT))
    assert not np.array_equal(steps[0], steps[per_epoch])
    assert np.array_equal(order.numbers(3), steps[3])  # at any step, whatever was asked before


def test_a_pair_in_blocks_has_as_many_neighbours_of_its_source_as_a_block_holds():
    mixed, blocks = PairOrder(COUNT, BATCH, SEED), PairOrder(COUNT, BATCH, SEED, SOURCES, 32)
    rarest = [int(np.sum(SOURCES[batch] == 3)) for batch in epochs(blocks, 8)]
    assert max(rarest) >= 32
    assert max(int(np.sum(SOURCES[batch] == 3)) for batch in epochs(mixed, 8)) < 20
    assert all(len(set(SOURCES[batch].tolist())) > 1 for batch in epochs(blocks, 8) if np.sum(SOURCES[batch] == 3))


def test_processes_share_the_batch_of_one():
    order = PairOrder(COUNT, BATCH, SEED, SOURCES, 32)
    shares = [order.numbers(7, World(rank, 2)) for rank in range(2)]
    assert sorted(np.concatenate(shares).tolist()) == sorted(order.numbers(7).tolist())


def test_sources_are_read_from_the_records(tmp_path, caption_shards):
    samples = [caption_shards.read(i) for i in range(12)]
    for i, sample in enumerate(samples):
        sample.meta["source"] = "ab"[i % 2]
    write_shards(samples, tmp_path / "set")
    order = PairOrder.of(ShardReader(tmp_path / "set"), 6, SEED, 6)
    assert order.sources is not None
    assert order.sources.tolist() == [0, 1] * 6
