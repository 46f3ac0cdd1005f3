"""The benchmark of evaluations: what it compares, on a small model and made questions."""

import sys
from pathlib import Path

import pytest
from tiny import LANGUAGE, make_language

from jvlm.bench import eval as bench_eval
from jvlm.errors import JvlmError, UsageError
from jvlm.eval.task import load_task, prepare
from jvlm.model.directory import save_model
from jvlm.model.processor import Processor

sys.path.append(str(Path(__file__).parent.parent / "eval"))
from made_tasks import jcommonsenseqa, write_lines


@pytest.fixture
def root(tmp_path) -> Path:
    for split in ("train", "test"):
        path = tmp_path / f"data/evals/jglue/datasets/jcommonsenseqa-v1.3/{split}-v1.3.json"
        write_lines(path, jcommonsenseqa(split))
    return tmp_path / "data"


@pytest.fixture
def model(tokenizer, tmp_path) -> Path:
    config = LANGUAGE.model_copy(update={"max_length": 1024})
    save_model(tmp_path / "model", make_language(tokenizer, config), Processor(tokenizer))
    return tmp_path / "model"


def test_both_are_asked_the_same_and_compared(root, model, monkeypatch):
    """The other side is played by one whose log-likelihoods lie a hundredth higher."""
    seen = {}
    ours = bench_eval._ours

    def remember(*arguments):
        seen["ours"] = ours(*arguments)
        return seen["ours"]

    def theirs(language, items, work, threads, python):
        task = load_task("jcommonsenseqa")
        assert (
            items
            == prepare(task.model_copy(update={"shots": task.shots.model_copy(update={"count": 0})}), work / "data")[0]
        )
        scores = [[score + 0.01 for score in row] for row in seen["ours"][1]]
        return {"scores": scores, "seconds": 60.0, "cpu_seconds": 90.0, "version": "1", "batch_size": 8, "trials": {}}

    monkeypatch.setattr(bench_eval, "_ours", remember)
    monkeypatch.setattr(bench_eval, "_theirs", theirs)
    found = bench_eval.run(root, 1, model, Path(sys.executable))
    assert (found["questions"], found["choices"]) == (12, 60)
    assert found["largest_difference"] == pytest.approx(0.01)
    slower = max(run["seconds"] for run in found["ours"]["runs"])
    assert found["ratios"]["over_lm_eval"] == pytest.approx(60.0 / slower)
    assert found["lm_eval"]["batch_size"] == 8
    assert found["targets"] == {"over_lm_eval": 3.0}


def test_a_python_without_the_rival_is_said_plainly(root, model, tmp_path):
    empty = tmp_path / "python"
    empty.write_text("#!/bin/sh\necho 'No module named lm_eval' >&2\nexit 1\n")
    empty.chmod(0o755)
    with pytest.raises(JvlmError, match="No module named lm_eval"):
        bench_eval.run(root, 1, model, empty)


def test_no_model_is_said_plainly(root, tmp_path):
    with pytest.raises(UsageError, match="not a model directory"):
        bench_eval.run(root, 1, tmp_path / "nowhere", Path(sys.executable))
