"""Adapters on two processes and on every ZeRO stage: the losses of one process, and checkpoints for one another."""

import os
import subprocess
import sys

import pytest
import torch
import yaml
from tiny import PROJECTOR, VISION, make_model, samples

from jvlm.files import read_json_lines
from jvlm.images.shards import write_shards
from jvlm.model.directory import save_model
from jvlm.model.processor import Processor
from jvlm.model.tensors import TensorFolder

pytestmark = [pytest.mark.slow, pytest.mark.long]


def recipe(zero, steps):
    optimizer = {"learning_rate": 3e-3, "warmup": 1, "muon": False}
    loop = {"steps": steps, "checkpoint_every": 2, "log_every": 1, "optimizer": optimizer, "engine": {"zero": zero}}
    one = {
        "data": [{"shards": "captions_train"}],
        "train": ["tower", "projector", "language"],
        "lora": {"rank": 4, "targets": "both"},
        "packing": {"row_length": 300, "rows": 2},
        "loop": loop,
    }
    align = {"data": [{"shards": "captions_train"}], "language": "none", "tower": "none"}
    return {"name": "t", "threads": 1, "stages": {"align": align, "medical": {"phases": {"one": one}}}}


def run_stage(run, processes, zero, steps=4):
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe(zero, steps)))
    for old in ("done.json", "key"):
        (run / "medical" / old).unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "-m", "jvlm.stages", str(run), "medical"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    losses = {r["step"]: r["loss"] for r in read_json_lines(run / "medical" / "1-one" / "metrics.jsonl")}
    return losses, dict(TensorFolder(run / "medical" / "model", "model"))


@pytest.fixture
def runs(tmp_path, tokenizer):
    save_model(tmp_path / "model", make_model(tokenizer), Processor(tokenizer, VISION, PROJECTOR))
    write_shards(samples("captions_train", 8), tmp_path / "captions_train")

    def make(name):
        run = tmp_path / name
        (run / "align").mkdir(parents=True)
        (run / "data" / "shards").mkdir(parents=True)
        (run / "align" / "model").symlink_to(tmp_path / "model")
        (run / "data" / "shards" / "captions_train").symlink_to(tmp_path / "captions_train")
        return run

    return make


def test_on_every_engine_the_same_is_learned(runs):
    expected, weights = run_stage(runs("one"), 1, None)
    assert expected[4] < expected[1]
    for name, zero in {"plain": None, "zero1": 1, "zero2": 2, "zero3": 3}.items():
        losses, found = run_stage(runs(name), 2, zero)
        assert losses == pytest.approx(expected, rel=1e-5), name
        assert found.keys() == weights.keys()
        for tensor, value in weights.items():
            torch.testing.assert_close(found[tensor], value, atol=2e-5, rtol=1e-4, msg=f"{name} {tensor}")


def test_a_checkpoint_of_one_engine_is_gone_on_from_by_another(runs):
    expected, _ = run_stage(runs("whole"), 1, None)
    run = runs("mixed")
    run_stage(run, 2, 3)
    checkpoints = run / "medical" / "1-one" / "checkpoints"
    for path in checkpoints.glob("step-00000004*"):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    losses, _ = run_stage(run, 1, None)
    assert losses == pytest.approx(expected, rel=1e-5)
