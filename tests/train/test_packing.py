"""Packing: nothing is lost, nothing is cut that must not be, rows have one shape."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jvlm.errors import DataError
from jvlm.model.packed import Example, pack
from jvlm.train.packing import Piece, plan_documents, plan_samples

lengths_lists = st.lists(st.integers(1, 64), min_size=1, max_size=80)


@given(lengths_lists)
@settings(max_examples=60, deadline=None)
def test_documents_are_concatenated_without_a_hole(lengths):
    rows = plan_documents(np.array(lengths), range(len(lengths)), 48)
    pieces = [piece for row in rows for piece in row]
    sizes = [sum(p.stop - p.start for p in row) for row in rows]
    assert all(size == 48 for size in sizes[:-1])
    assert sum(sizes) == sum(lengths)
    tokens = [(p.sample, t) for p in pieces for t in range(p.start, p.stop)]
    assert tokens == [(i, t) for i, n in enumerate(lengths) for t in range(n)]


@given(lengths_lists)
@settings(max_examples=60, deadline=None)
def test_samples_are_never_cut_and_each_comes_once(lengths):
    rows = plan_samples(np.array(lengths), range(len(lengths)), 64, look_ahead=32)
    assert sorted(p.sample for row in rows for p in row) == list(range(len(lengths)))
    for row in rows:
        assert sum(lengths[p.sample] for p in row) <= 64
        assert all(p == Piece(p.sample, 0, lengths[p.sample]) for p in row)


def test_best_fit_fills_rows():
    lengths = np.random.default_rng(0).integers(20, 200, 2000)
    rows = plan_samples(lengths, range(2000), 512)
    assert lengths.sum() / (len(rows) * 512) > 0.97


@pytest.mark.parametrize("longest", [8, 80, 3000])
def test_the_emptiest_row_of_a_window_is_filled_by_the_next(longest):
    """Short, middling and long samples; without it half a row per window stays empty: 0.50, 0.92 and 0.99 full."""
    lengths = np.random.default_rng(1).integers(1, longest, 100 * 512)
    rows = plan_samples(lengths, range(len(lengths)), 4096, look_ahead=512)
    assert lengths.sum() / (len(rows) * 4096) > 0.995


def test_a_sample_comes_at_most_a_window_late():
    lengths = np.random.default_rng(2).integers(1, 400, 20 * 64)
    given = [p.sample for row in plan_samples(lengths, range(len(lengths)), 512, look_ahead=64) for p in row]
    assert max(abs(at - sample) for at, sample in enumerate(given)) < 2 * 64


def test_a_sample_longer_than_a_row_is_an_error():
    with pytest.raises(DataError, match="takes 65 tokens"):
        plan_samples(np.array([10, 65]), range(2), 64)


def test_packed_tensors():
    image = np.zeros((1, 3, 4, 4), np.uint8)
    first = Example("a", [1, 2, 3], [-100, 3, 4], [image])
    second = Example("b", [5, 6], [6, 7], [])
    batch = pack([[first, second], [second]], 6, pad_id=9)
    assert batch.input_ids.tolist() == [[1, 2, 3, 5, 6, 9], [5, 6, 9, 9, 9, 9]]
    assert batch.labels.tolist() == [[-100, 3, 4, 6, 7, -100], [6, 7, -100, -100, -100, -100]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 0], [0, 1, 0, 1, 2, 3]]
    assert batch.doc_lens == [3, 2, 1, 2, 4]
    assert batch.weight == 6
    assert batch.pixels is not None
    assert batch.pixels.shape == torch.Size([1, 3, 4, 4])
    assert batch.sample_ids == ["a", "b", "b"]
