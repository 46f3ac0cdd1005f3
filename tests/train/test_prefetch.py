"""Batches prepared in threads come in order, are made ahead, and their errors are raised where they are taken."""

import threading
import time

import pytest

from jvlm.train.prefetch import Prefetch


@pytest.mark.parametrize("workers", [0, 1, 3, 8])
def test_every_step_once_and_in_order(workers):
    def make(step):
        time.sleep(0.002 * (7 * step % 5))  # later batches are often ready sooner
        return step

    with Prefetch(make, 3, 25, workers) as batches:
        assert list(batches) == list(range(3, 25))


def test_threads_are_one_batch_ahead_each_and_no_more():
    made, gate = [], threading.Event()

    def make(step):
        made.append(step)
        gate.wait(5)
        return step

    with Prefetch(make, 0, 100, 2) as batches:
        gate.set()
        assert next(batches) == 0
        deadline = time.monotonic() + 5
        while len(made) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert sorted(made) == [0, 1, 2]  # one taken, two waiting


def test_without_workers_nothing_is_made_before_it_is_taken():
    made = []
    with Prefetch(made.append, 0, 5, 0) as batches:
        assert made == []
        next(batches)
        assert made == [0]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_raised_at_its_own_step(workers):
    def make(step):
        if step == 2:
            raise ValueError("step 2")
        return step

    with Prefetch(make, 0, 5, workers) as batches:
        assert [next(batches), next(batches)] == [0, 1]
        with pytest.raises(ValueError, match="step 2"):
            next(batches)


def test_leaving_ends_the_threads():
    with Prefetch(lambda step: step, 0, 10_000, 4) as batches:
        next(batches)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
