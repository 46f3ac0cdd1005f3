"""kill -9 at twenty or more random moments of a run: what it learns is what it would have learned, to the bit."""

import contextlib
import os
import random
import re
import signal
import time

import pytest
from forked import learned, said
from tally import times

from jvlm.files import read_json_lines

pytestmark = pytest.mark.slow
KILLS, STEPS, EARLY = times(20, 50), 50, 5
TURNS = 4  # of so many kills, one waits for a save and one for the end of any
MARGIN = 10  # steps that a busy machine may let pass before a kill arrives


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_kills_change_nothing(forked, tmp_path, precision, capsys, tally):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    job = {
        "engine": {"precision": precision},
        "settings": {"steps": STEPS, "checkpoint_every": 2, "log_every": 1},
        "optimizer": {"muon": True},
    }
    assert forked.run(whole, **job) == 0, said(whole)
    begun = time.monotonic()  # of a second run: the first waits for the imports of the process that forks
    assert forked.run(tmp_path / "timed", **job) == 0, said(tmp_path / "timed")
    step_seconds = (time.monotonic() - begun) / STEPS
    draw = random.Random(precision)
    moments = sorted(draw.uniform(1, STEPS - MARGIN) for _ in range(KILLS - EARLY))
    for _ in range(EARLY):  # before it has done a step
        moments.insert(draw.randrange(len(moments)), draw.uniform(0, 1))
    reached, during = [], []
    for number, moment in enumerate(moments):
        since = time.time()
        pid = forked.start(cut, **job)
        _wait_until(lambda moment=moment: _step(cut) >= int(moment), cut)
        # where saves are short, or the disk is slow, too few random moments fall into one or out of all
        if number % TURNS < 2:
            _wait_until(lambda since=since, save=number % TURNS == 0: _saving(cut, since) is save, cut)
        else:
            time.sleep(moment % 1 * step_seconds)
        os.kill(pid, signal.SIGKILL)
        assert forked.wait() == -signal.SIGKILL, said(cut)
        reached.append(len(read_json_lines(cut / "metrics.jsonl")))
        during.append("a save" if _saving(cut, since) else "a step" if _step(cut) else "the start")
    with capsys.disabled():
        counts = {name: during.count(name) for name in sorted(set(during))}
        print(f"\n{precision}: killed after steps {reached}; {counts}")
    assert "a save" in during
    assert "a step" in during
    assert len(set(reached)) >= KILLS // 3
    assert forked.run(cut, **job) == 0, said(cut)
    same = learned(cut) == learned(whole)
    tally["train_kills"] = tally.get("train_kills", 0) + KILLS
    tally["train_not_identical"] = tally.get("train_not_identical", 0) + (not same)
    assert same


def _wait_until(reached, folder):
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline, said(folder)
        time.sleep(0.0005)


def _step(folder):
    """The last step that the running training has done; 0 before one."""
    return max(map(int, re.findall(r"^step (\d+)/", said(folder), re.MULTILINE)), default=0)


def _saving(folder, since):
    """A checkpoint that was begun after the moment `since` is not yet whole."""
    with contextlib.suppress(FileNotFoundError):  # it is just being renamed, or cleared away
        return any(path.stat().st_ctime > since for path in (folder / "checkpoints").glob(".step-*"))
    return False
