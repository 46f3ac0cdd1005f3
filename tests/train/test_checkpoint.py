"""Checkpoints: whole or absent, verified, with a fall-back that is said aloud."""

import pytest
import torch

from jvlm.errors import DataError, UsageError
from jvlm.files import read_json
from jvlm.model.tensors import TensorFolder, plan_files, write_tensors
from jvlm.train.checkpoint import Progress, find_checkpoint, save_checkpoint
from jvlm.train.config import LoopConfig
from jvlm.train.engine import TorchEngine
from jvlm.train.world import ONE_PROCESS


def engine_after(steps):
    """A small module, trained so long."""
    torch.manual_seed(0)
    engine = TorchEngine(torch.nn.Linear(3, 2), LoopConfig(), {}, ONE_PROCESS)
    for _ in range(steps):
        engine.backward(engine.loss_sum(torch.randn(5, 3)).square().sum(), last=True)
        engine.step(1.0)
    return engine


def save(folder, step, fingerprint="run", **config):
    engine = engine_after(step // 10)
    save_checkpoint(folder, Progress(step, fingerprint), engine, LoopConfig(**config), ONE_PROCESS, lambda folder: None)
    return engine


def find(folder, fingerprint="run", resume="auto", say=print):
    return find_checkpoint(folder, fingerprint, resume, say, ONE_PROCESS)


def names(folder):
    return [int(p.name.removeprefix("step-")) for p in sorted(folder.iterdir())]


def test_round_trip_and_keep(tmp_path):
    for step in (10, 20, 30):
        engine = save(tmp_path, step, keep=2)
    assert names(tmp_path) == [20, 30]
    found = find(tmp_path)
    assert found.progress == Progress(30, "run", ())
    for tensors, mine in ((found.parameters, engine.parameters()), (found.optimizer, engine.state())):
        expected = dict(mine)
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert sorted(found.optimizer) == [
        f"{k}.{n}" for k in ("exp_avg", "exp_avg_sq", "step") for n in ("bias", "weight")
    ]


def test_some_checkpoints_are_kept_for_ever(tmp_path):
    for step in range(10, 90, 10):
        save(tmp_path, step, keep=2, keep_every=30)
    assert names(tmp_path) == [30, 60, 70, 80]


def test_a_damaged_checkpoint_of_a_later_step_does_not_count_among_those_kept(tmp_path):
    """With another `checkpoint_every` a run that fell back saves before it gets there again."""
    for step in (10, 20):
        save(tmp_path, step, keep=2)
    (tmp_path / "step-00000020" / "state.json").write_text("{}")
    assert find(tmp_path).progress.step == 10
    save(tmp_path, 15, keep=1)
    assert names(tmp_path) == [15]
    assert find(tmp_path).progress.step == 15


def test_what_a_killed_save_left_is_cleared_away_by_the_next(tmp_path):
    for name in (".step-00000007.tmp", ".step-00000003.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    save(tmp_path, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010"]


def test_any_flipped_bit_is_seen_and_the_one_before_is_taken(tmp_path):
    for step in (10, 20):
        save(tmp_path, step)
    for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
        file = tmp_path / "step-00000020" / name
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        said = []
        assert find(tmp_path, say=said.append).progress.step == 10
        assert "step-00000020 is damaged" in said[0]
        file.write_bytes(whole)


def test_no_checkpoint_a_foreign_one_and_none_whole(tmp_path):
    assert find(tmp_path / "none") is None
    save(tmp_path, 10)
    with pytest.raises(DataError, match="belongs to another"):
        find(tmp_path, "another")
    (tmp_path / "step-00000010" / "model.safetensors").unlink()
    with pytest.raises(DataError, match="no checkpoint is whole"):
        find(tmp_path)


def test_going_on_may_be_forbidden_or_demanded(tmp_path):
    assert find(tmp_path, resume="never") is None
    with pytest.raises(UsageError, match="there is no checkpoint"):
        find(tmp_path, resume="must")
    save(tmp_path, 10)
    assert find(tmp_path, resume="must").progress.step == 10
    with pytest.raises(UsageError, match="checkpoints are there"):
        find(tmp_path, resume="never")


@pytest.mark.parametrize(("limit", "files"), [(10**9, 1), (150, 2), (100, 3), (50, 4), (1, 5)])
def test_large_tensors_go_into_several_files(tmp_path, limit, files):
    tensors = {f"t{i}": torch.randn(i + 1, 3) for i in range(5)}  # 12, 24, 36, 48, 60 bytes
    plan = plan_files("model", {name: t.shape for name, t in tensors.items()}, limit)
    write_tensors(tmp_path, "model", tensors.items(), plan)
    assert len(list(tmp_path.glob("model*.safetensors"))) == files
    if files > 1:
        assert set(read_json(tmp_path / "model.safetensors.index.json")["weight_map"]) == set(tensors)
        assert (tmp_path / f"model-00001-of-{files:05d}.safetensors").is_file()
        sizes = [p.stat().st_size for p in tmp_path.glob("*.safetensors")]
        assert max(sizes) < max(limit, 60) + 600  # and a header
    found = TensorFolder(tmp_path, "model")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
