"""kill -9 at twenty or more random moments of a run: what it learns is what it would have learned, to the bit."""

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
    for moment in moments:
        pid = forked.start(cut, **job)
        _wait_for_step(cut, int(moment))
        time.sleep(moment % 1 * step_seconds)
        os.kill(pid, signal.SIGKILL)
        assert forked.wait() == -signal.SIGKILL, said(cut)
        reached.append(len(read_json_lines(cut / "metrics.jsonl")))
        during.append(_moment_of_death(cut))
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


def _wait_for_step(folder, step):
    deadline = time.monotonic() + 60
    while max(map(int, re.findall(r"^step (\d+)/", said(folder), re.MULTILINE)), default=0) < step:
        assert time.monotonic() < deadline, said(folder)
        time.sleep(0.001)


def _moment_of_death(folder):
    if any(path.name.startswith(".") for path in (folder / "checkpoints").glob("*")):
        return "a save"
    return "a step" if "step " in said(folder).partition("parameters trained")[2] else "the start"
