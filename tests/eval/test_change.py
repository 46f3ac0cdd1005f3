"""Two models on the same questions: the change, its paired interval, and the end that a large loss makes."""

import json

import numpy as np
import pytest
from made_tasks import build_all
from players import Player, constant, oracle
from typer.testing import CliRunner

from jvlm.cli import app
from jvlm.commands import compare as command
from jvlm.errors import JvlmError, UsageError
from jvlm.eval.change import _interval, change_on_task
from jvlm.eval.task import load_task, prepare


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return build_all(tmp_path_factory.mktemp("made"))


def players(data, name):
    task = load_task(name)
    items, _ = prepare(task, data)
    last = len(task.choices(items[0])) - 1 if task.choices(items[0]) else "果物"
    return (Player(task, items, oracle(task)), "oracle"), (Player(task, items, constant(last)), "constant")


@pytest.mark.long
@pytest.mark.parametrize("name", ["jcommonsenseqa", "jnli", "niilc"])
def test_the_change_is_that_of_the_figures_and_nothing_for_the_same_model(data, tmp_path, name):
    right, same = players(data, name)
    lost = change_on_task(name, data, tmp_path, right, same)
    assert lost["before"] == pytest.approx(1.0)
    assert lost["change"] == lost["after"] - lost["before"] < -0.2
    assert lost["interval"][0] <= lost["change"] <= lost["interval"][1] <= 0
    gained = change_on_task(name, data, tmp_path, same, right)
    assert gained["interval"] == pytest.approx([-lost["interval"][1], -lost["interval"][0]])
    none = change_on_task(name, data, tmp_path, right, right)
    assert (none["change"], none["interval"]) == (0.0, [0.0, 0.0])


def test_the_interval_is_that_of_redrawn_pairs():
    generator = np.random.default_rng(3)
    before = (generator.random(300) < 0.6).astype(float)
    after = np.where(generator.random(300) < 0.1, 1 - before, before)  # few questions change
    groups = np.arange(300) // 3
    rows = [np.stack([flags, np.ones(300)], 1) for flags in (before, after)]  # right, asked
    low, high = _interval("accuracy", *rows, groups.tolist(), seed=0)
    drawn = generator.integers(0, 100, (4000, 100))
    means = (after - before).reshape(100, 3).sum(1)[drawn].sum(1) / 300
    assert [low, high] == pytest.approx(np.percentile(means, [2.5, 97.5]).tolist(), abs=0.012)
    unpaired = 1.96 * np.sqrt(2 * 0.24 / 300)
    assert high - low < 2 * unpaired * 0.7  # pairing is what makes it narrow


@pytest.mark.long
def test_the_command_ends_in_an_error_where_too_much_was_forgotten(data, tmp_path, monkeypatch):
    found = dict(zip(("good", "bad"), players(data, "jcommonsenseqa"), strict=True))
    monkeypatch.setattr(command, "load_to_ask", lambda model, template: found[model.name])
    arguments = ["compare", "good", "bad", "--data", str(data), "--out", str(tmp_path / "out")]
    arguments += ["--tasks", "jcommonsenseqa"]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == json.loads((tmp_path / "out" / "compare.json").read_text())
    assert CliRunner().invoke(app, arguments).output.count("jcommonsenseqa") == 1
    done = CliRunner().invoke(app, [*arguments, "--max-drop", "0.02"])
    assert isinstance(done.exception, JvlmError)
    assert "fell by more than 0.02: jcommonsenseqa" in str(done.exception)
    arguments[1:3] = ["bad", "good"]
    assert CliRunner().invoke(app, [*arguments, "--max-drop", "0.02"]).exit_code == 0
    done = CliRunner().invoke(app, ["compare", "good", "good", *arguments[3:]])
    assert "the very same weights" in str(done.exception)
    done = CliRunner().invoke(app, arguments[:7])
    assert isinstance(done.exception, UsageError)
