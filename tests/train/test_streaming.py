"""The order of sets that are fetched: every sample once, nearly sequential, begun anywhere; local sets keep theirs."""

import fsspec
import numpy as np
import pytest
from tiny import SEED, samples

from jvlm.images.shards import ShardReader, open_shards, write_shards
from jvlm.images.shards import download as transport
from jvlm.model.processor import Processor
from jvlm.train.order import permute
from jvlm.train.packing import plan_samples
from jvlm.train.source import ImageSamples, Mixture, PackedRows, TokenDocuments
from jvlm.train.streaming import interleaved, repeated, streamed_order

SHARD = np.repeat(np.arange(40, dtype=np.int32), 25)  # 1,000 samples


@pytest.mark.parametrize("buffer", [7, 60, 1000, 5000])
def test_every_sample_comes_once_in_an_order_of_its_epoch(buffer):
    orders = [streamed_order(SHARD, buffer, seed, epoch) for seed, epoch in ((1, 0), (1, 1), (2, 0))]
    assert all(sorted(order) == list(range(1000)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert np.array_equal(orders[0], streamed_order(SHARD, buffer, 1, 0))


@pytest.mark.parametrize("buffer", [7, 60, 200])
def test_only_the_shards_of_a_buffer_are_open_at_a_time(buffer):
    """From the first to the last sample of a shard no more pass by than fit in the shard and a buffer at each end."""
    shards = SHARD[streamed_order(SHARD, buffer, 3, 2)]
    spans = [np.ptp(np.flatnonzero(shards == shard)) + 1 for shard in range(40)]
    assert max(spans) <= 25 + 2 * buffer
    assert max(spans) > 25, "the buffer shuffles across shards"
    for begin in range(0, 1000, 10):
        assert len(set(shards[begin : begin + buffer])) <= 2 * (buffer // 25 + 2)


def test_a_buffer_shuffles_well_and_shards_come_in_another_order():
    order = streamed_order(SHARD, 100, 5, 0)
    neighbours = np.abs(np.diff(order)) == 1
    assert neighbours.mean() < 0.05
    first = [int(np.flatnonzero(SHARD[order] == shard)[0]) for shard in range(40)]
    assert np.corrcoef(first, np.arange(40))[0, 1] < 0.5


def test_repeats_are_passes_and_a_broken_one_takes_the_first_samples():
    one_pass = lambda number: streamed_order(SHARD, 50, 9, number)  # noqa: E731
    order = repeated(one_pass, 1000, 2300, epoch=4)
    assert sorted(order) == list(range(2300))
    assert np.array_equal(order[:1000], one_pass(12))
    assert np.array_equal(order[1000:2000] - 1000, one_pass(13))
    half = repeated(one_pass, 1000, 500, epoch=1)
    assert sorted(half) == list(range(500))
    assert np.array_equal(half, [sample for sample in one_pass(1) if sample < 500])
    assert len(repeated(one_pass, 1000, 0, epoch=1)) == 0


def test_interleaving_keeps_each_order_and_the_proportion_all_along():
    orders = [np.random.default_rng(n).permutation(count) for n, count in enumerate((1000, 100, 0, 10))]
    mixed = interleaved(orders, 3, 0)
    assert sorted(mixed) == list(range(1110))
    for start, order in zip((0, 1000, 1100, 1100), orders, strict=True):
        of = mixed[(mixed >= start) & (mixed < start + len(order))]
        assert np.array_equal(of - start, order)
    for stop in range(100, 1110, 100):
        assert abs(np.sum((mixed[:stop] >= 1000) & (mixed[:stop] < 1100)) - stop / 11.1) <= 2.5
    assert not np.array_equal(mixed, interleaved(orders, 4, 0))
    assert not np.array_equal(mixed, interleaved(orders, 3, 1))


# --- rows -------------------------------------------------------------------------------------------------------


def test_local_sets_keep_the_order_they_had(instruct_shards, caption_shards, text_shards, processor):
    sets = [ImageSamples(shards, processor) for shards in (instruct_shards, caption_shards)]
    documents = TokenDocuments(text_shards, processor, max_length=100)
    for data in (sets[0], Mixture([*sets, documents], [1, 2.5, 1])):
        rows, count = PackedRows(data, 400, SEED, processor.pad), len(data.lengths)
        for epoch in range(2):
            rows._plan(epoch)
            assert rows._rows == plan_samples(data.lengths, permute(np.arange(count), count, SEED, epoch), 400)


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """48 captions in 8 shards, in fsspec's memory and in a folder; the names of the shards that were brought."""
    write_shards(samples("captions_train", 48), tmp_path / "set", samples_per_shard=6)
    files = fsspec.filesystem("memory")
    files.put(str(tmp_path / "set"), "/streamed/set", recursive=True)
    brought = []
    real = transport._attempt
    monkeypatch.setattr(transport, "_attempt", lambda url, *rest: (brought.append(url[-10:]), real(url, *rest))[1])
    yield ShardReader(tmp_path / "set"), brought
    files.rm("/streamed", recursive=True)


def streamed(processor: Processor, cache) -> ImageSamples:
    reader = open_shards("memory://streamed/set", cache=cache, buffer=8)
    reader._cache.ahead = 0
    return ImageSamples(reader, processor)


def test_rows_hold_the_same_examples_wherever_the_shards_are(remote, processor, tmp_path):
    local, _ = remote
    data, here = streamed(processor, tmp_path / "cache"), ImageSamples(local, processor)
    assert np.array_equal(data.lengths, here.lengths)
    rows = PackedRows(data, 200, SEED, processor.pad)
    rows._plan(1)
    order = data.order(SEED, 1)
    assert rows._rows == plan_samples(data.lengths, order, 200)
    assert not np.array_equal(order, permute(np.arange(48), 48, SEED, 1))
    for piece in rows.row(0):
        ours, theirs = data.example(piece.sample), here.example(piece.sample)
        assert (ours.id, list(ours.inputs)) == (theirs.id, list(theirs.inputs))
        assert all(np.array_equal(a, b) for a, b in zip(ours.pixels, theirs.pixels, strict=True))
    assert data.example(0).source != ""


def test_resuming_reads_nothing_of_what_came_before(remote, processor, tmp_path):
    _, brought = remote
    whole = PackedRows(streamed(processor, tmp_path / "one"), 200, SEED, processor.pad)
    whole.row(0)
    number = whole._ends[0] - 2
    wanted = whole.examples(number)
    del brought[:]
    again = PackedRows(streamed(processor, tmp_path / "two"), 200, SEED, processor.pad)
    assert [name for name in brought if name.endswith(".tar")] == [], "a plan needs no shard"
    found = again.examples(number)
    assert [example.id for example in found] == [example.id for example in wanted]
    needed = {again.data.shards.shard(piece.sample) for piece in again.row(number)}
    tars = [name for name in brought if name.endswith(".tar")]
    assert len(tars) == len(needed) < 8


def test_a_mixture_with_a_streamed_set_keeps_its_order_and_proportion(remote, processor, instruct_shards, tmp_path):
    data = Mixture([ImageSamples(instruct_shards, processor), streamed(processor, tmp_path / "cache")], [2, 0.5])
    assert data.counts == [60, 24]
    order = PackedRows(data, 400, SEED, processor.pad).data.order(SEED, 3)
    assert sorted(order) == list(range(84))
    ours = order[order >= 60] - 60
    assert np.array_equal(ours, data.sets[1].order(SEED, 3, 24))
    shards = data.sets[1].shards.shard_numbers[ours]
    spans = [np.ptp(np.flatnonzero(shards == shard)) + 1 for shard in range(4)]
    assert max(spans) <= 6 + 2 * 8
    assert set(shards) == {0, 1, 2, 3}, "half of a set is its first half"
