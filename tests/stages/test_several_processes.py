"""A recipe on two processes: the losses of one, process 0's files alone, its exit codes and its stop."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jvlm.assets import asset
from jvlm.errors import EXIT_USAGE
from jvlm.files import read_json, read_json_lines
from jvlm.stages.__main__ import main

JVLM = (sys.executable, "-c", "from jvlm.cli import main; main()")
PREPARED = ("data", "corpus", "tokenizer")
pytestmark = pytest.mark.slow


def short(loop, **engine):
    """A stage's loop, cut to a few steps; AdamW, for ZeRO has no Muon."""
    return loop | {
        "steps": 6,
        "checkpoint_every": 3,
        "log_every": 1,
        "optimizer": {"muon": False, "learning_rate": 2e-3, "warmup": 2},
        "engine": engine,
    }


def recipe(folder, processes, **engine):
    """minute.yaml as far as instruct, in few steps; returns the file."""
    settings = yaml.safe_load(asset("configs", "minute.yaml").read_text())
    stages = {name: settings["stages"][name] for name in ("data", "corpus", "tokenizer", "pretrain", "clip", "align")}
    few = {name: 4 for name in stages["data"] if name not in ("text_bytes", "exam_test", "exam_twohop")}
    many = {"text_bytes": 60_000, "captions_train": 40, "instruct_train": 60, "textbook_editions": 2}
    stages["data"] |= few | many | {"dialogues_train": 4, "dialogue_pairs": 4}
    for name in ("pretrain", "clip", "align"):
        stages[name]["loop"] = short({}, **engine)
    phase = settings["stages"]["instruct"]["phases"]["conversations"]
    phase |= {"data": [{"shards": "instruct_train"}, {"text": "medical"}], "loop": short({}, **engine)}
    stages["instruct"] = {"phases": {"conversations": phase}}
    folder.mkdir(exist_ok=True)
    file = folder / "recipe.yaml"
    settings |= {"name": "run", "threads": 1, "processes": processes, "stages": stages}
    file.write_text(yaml.safe_dump(settings))
    return file


def command(file, *overrides, until="instruct"):
    return [*JVLM, "train", str(file), until, "--runs", str(file.parent), *overrides]


def run(file, *overrides, code=0, until="instruct"):
    arguments = command(file, *overrides, until=until)
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run folder of one process."""
    folder = tmp_path_factory.mktemp("alone")
    run(recipe(folder, 1))
    return folder / "run"


@pytest.fixture
def prepared(alone, tmp_path):
    """A folder with a run whose stages before training are done."""
    for stage in PREPARED:
        shutil.copytree(alone / stage, tmp_path / "run" / stage)
    return tmp_path


def losses(folder):
    return {record["step"]: record["loss"] for record in read_json_lines(folder / "metrics.jsonl")}


def test_two_processes_with_zero_have_the_losses_of_one(alone, prepared):
    out = run(recipe(prepared, 2, zero=2))
    folder = prepared / "run"
    for stage in ("pretrain", "clip", "align", "instruct/1-conversations"):
        expected = losses(alone / stage)
        assert list(expected) == [1, 2, 3, 4, 5, 6]
        assert losses(folder / stage) == pytest.approx(expected, rel=1e-5), stage
        assert out.count(f"{stage.split('/')[0]}: step 6/6") == 1
    figures, expected = (read_json(where / "pretrain" / "done.json")["metrics"] for where in (folder, alone))
    assert figures["bpc_model"] == pytest.approx(expected["bpc_model"], rel=1e-4)
    found, expected = (read_json(where / "clip" / "done.json")["metrics"]["retrieval"] for where in (folder, alone))
    assert found["pool_size"] == expected["pool_size"] > 1
    model = Path("instruct", "model", "config.json")
    assert read_json(folder / model) == read_json(alone / model)
    assert "zero=2" in out


def test_a_stage_goes_on_with_another_number_of_processes(alone, prepared):
    file, limit = recipe(prepared, 2), "stages.pretrain.loop.time_limit=0.0001"
    out = run(file, limit, code=5)
    assert "ended by the time limit after step 1" in out
    assert "ended in stage 'pretrain'" in out
    assert "Traceback" not in out
    assert not (prepared / "run" / "pretrain" / "done.json").exists()
    out = run(file, limit, "processes=1", code=5)
    assert "continuing from step 1" in out
    expected = losses(alone / "pretrain")
    assert losses(prepared / "run" / "pretrain") == pytest.approx({1: expected[1], 2: expected[2]}, rel=1e-5)


@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_to_the_command_reaches_the_training(prepared, processes):
    process = subprocess.Popen(
        command(recipe(prepared, processes), "stages.pretrain.loop.steps=5000"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:
        if "pretrain: step 2/" in line:
            process.send_signal(signal.SIGTERM)
            break
    try:
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 5, out
    assert "ended by SIGTERM after step" in out
    assert list((prepared / "run" / "pretrain" / "checkpoints").glob("step-*"))
    assert "Traceback" not in out


def test_a_fault_ends_every_process_with_its_exit_code(prepared):
    out = run(recipe(prepared, 2), "stages.pretrain.packing.rows=3", code=2)
    assert "3 rows cannot be split" in out
    assert "stage 'pretrain' failed" in out


@pytest.mark.parametrize(
    ("stages", "error"),
    [
        (["corpus"], "torchrun was started for corpus"),
        ([], "torchrun was started for no stage"),
        (["pretrain", "clip"], "torchrun was started for pretrain clip"),
        (["prefer"], "has no stage 'prefer'"),
    ],
)
def test_under_torchrun_a_process_takes_one_training_stage_of_the_recipe(alone, monkeypatch, capsys, stages, error):
    monkeypatch.setenv("RANK", "1")
    assert main(alone, stages) == EXIT_USAGE
    assert error in capsys.readouterr().err


def test_torchrun_by_hand_takes_one_training_stage(alone, prepared):
    """What somebody with several machines starts on each of them; the rest is the recipe's."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    run(recipe(prepared, 1), until="tokenizer")
    by_hand = [*torchrun, "-m", "jvlm.stages", str(prepared / "run"), "pretrain"]
    done = subprocess.run(by_hand, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses(prepared / "run" / "pretrain") == pytest.approx(losses(alone / "pretrain"), rel=1e-5)
    assert read_json(prepared / "run" / "pretrain" / "done.json")["metrics"]["bpc_model"] > 0
    assert "pretrain: done (" in run(recipe(prepared, 1), until="pretrain")
