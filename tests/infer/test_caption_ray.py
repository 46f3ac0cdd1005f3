"""How units are handed to Ray's actors: all of them, those that others hold again later, and never waiting for ever."""

from types import SimpleNamespace

import pytest
from caption_process import run
from tiny import encoded_image

from jvlm.errors import DataError, JvlmError
from jvlm.files import read_json
from jvlm.infer.caption import on_ray
from jvlm.infer.caption.leases import Leases
from jvlm.infer.caption.on_ray import SILENCE_SECONDS, _hand_out, gpu_share, longest_silence
from jvlm.infer.caption.worker import Worker


class TaskFailed(Exception):
    def __init__(self, cause):
        self.cause = cause


class ActorDied(Exception):
    pass


class FakeRay:
    """Calls an actor's method when it is asked for the result, the last one first; knows no processes."""

    exceptions = SimpleNamespace(RayTaskError=TaskFailed, RayActorError=ActorDied)

    def __init__(self, answer):
        self.asked, self.running, self.most, self.silent = [], 0, 0, False
        self._answer = answer

    def actor(self):
        return SimpleNamespace(caption=SimpleNamespace(remote=self._remote))

    def _remote(self, unit, above):
        self.running += 1
        self.most = max(self.most, self.running)
        self.asked.append((unit, above))
        return (unit, len(self.asked))

    def wait(self, references, timeout):
        assert timeout == 5
        return ([], references) if self.silent else (references[-1:], references[:-1])

    def get(self, reference):
        self.running -= 1
        return self._answer(reference[0], self.asked)


def hand_out(ray, todo, actors=2, stopped=lambda: False):
    told = []
    rows = _hand_out(ray, [ray.actor() for _ in range(actors)], todo, lambda: told.append(1), stopped, 5)
    return rows, len(told)


def test_every_unit_is_given_out_once_and_one_that_is_held_again():
    held = {3: 2}  # another process is at unit 3 the first two times

    def answer(unit, asked):
        held[unit] = held.get(unit, 0) - 1
        return held[unit] < 0, 10 * (held[unit] < 0)

    ray = FakeRay(answer)
    assert hand_out(ray, {number: number % 2 for number in range(6)}) == (60, 6)
    assert sorted(ray.asked) == [(0, 0), (1, 1), (2, 0), (3, 1), (3, 1), (3, 1), (4, 0), (5, 1)]
    assert ray.most == 2


def test_a_signal_ends_it_after_what_is_in_work():
    ray = FakeRay(lambda unit, asked: (True, 10))
    assert hand_out(ray, dict.fromkeys(range(6), 0), stopped=lambda: len(ray.asked) >= 3) == (30, 3)


def test_it_never_waits_for_ever_and_says_whose_fault_it_was():
    ray = FakeRay(lambda unit, asked: (True, 10))
    ray.silent = True
    with pytest.raises(JvlmError, match=r"no unit was done for 5 s, in work are \[0, 1\]"):
        hand_out(ray, dict.fromkeys(range(6), 0))

    def fail(error):
        def answer(unit, asked):
            raise error

        return FakeRay(answer)

    with pytest.raises(DataError, match="no model"):
        hand_out(fail(TaskFailed(DataError("no model"))), {0: 0})
    with pytest.raises(TaskFailed):
        hand_out(fail(TaskFailed(ValueError("x"))), {0: 0})
    with pytest.raises(JvlmError, match="unit 0 ended the process again and again"):
        hand_out(fail(ActorDied("killed")), {0: 0})


def test_a_large_unit_on_a_slow_machine_is_no_hang():
    assert longest_silence(1) == SILENCE_SECONDS
    assert longest_silence(500) / 500 >= 20  # seconds for each row


@pytest.mark.parametrize(
    ("gpus", "workers", "share"), [(0, 4, 0), (4, 4, 1), (8, 4, 1), (2, 4, 1 / 2), (2, 3, 1 / 2), (1, 3, 1 / 3)]
)
def test_workers_share_the_gpus_and_none_is_left_without_one(gpus, workers, share):
    assert gpu_share(gpus, workers) == share
    assert not share or int(1 / share) * gpus >= workers


def test_rows_that_ray_s_actors_mended_are_counted_as_such(tmp_path, monkeypatch):
    """The ledger of the process that hands out the units has seen the older records."""
    source, out = tmp_path / "images", tmp_path / "out"
    source.mkdir()
    (source / "a.png").write_bytes(encoded_image(1))
    (source / "b.png").write_bytes(b"")
    assert run(source, out, unit=1, max_failures=1).errors == 1
    (source / "b.png").write_bytes(encoded_image(2))

    def work(out, load, todo, workers, tell, stopped, silence):
        with Leases(tmp_path / "other") as leases:  # the actors' own
            worker = Worker(out, load, leases)
            for unit, above in todo.items():
                worker.caption(unit, above)
                tell()
        return worker.written

    monkeypatch.setattr(on_ray, "work_on_ray", work)
    report = run(source, out, unit=1, retry_failed=True, ray_workers=2, max_failures=0)
    assert (report.errors, report.written, report.complete) == (0, 1, True)
    assert read_json(out / "progress.json")["failed"] == 0
