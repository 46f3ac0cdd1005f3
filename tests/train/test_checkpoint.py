"""Checkpoints: whole or absent, verified, with a fall-back that is said aloud."""

import pytest
import torch

from jvlm.errors import DataError
from jvlm.train.checkpoint import TrainState, load_last_checkpoint, save_checkpoint


def state(step: int, fingerprint: str = "run") -> TrainState:
    torch.manual_seed(step)
    return TrainState(step, {"w": torch.randn(3, 2)}, {"exp_avg.w": torch.randn(3, 2)}, fingerprint)


def test_round_trip_and_keep(tmp_path):
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, state(step), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000020", "step-00000030"]
    loaded = load_last_checkpoint(tmp_path, "run", print)
    assert loaded is not None
    assert loaded.step == 30
    assert torch.equal(loaded.parameters["w"], state(30).parameters["w"])
    assert torch.equal(loaded.optimizer["exp_avg.w"], state(30).optimizer["exp_avg.w"])


def test_any_flipped_bit_is_seen_and_the_one_before_is_taken(tmp_path):
    for step in (10, 20):
        save_checkpoint(tmp_path, state(step), keep=2)
    for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
        file = tmp_path / "step-00000020" / name
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        said = []
        loaded = load_last_checkpoint(tmp_path, "run", said.append)
        assert loaded is not None
        assert loaded.step == 10
        assert "step-00000020 is damaged" in said[0]
        file.write_bytes(whole)


def test_no_checkpoint_a_foreign_one_and_none_whole(tmp_path):
    assert load_last_checkpoint(tmp_path / "none", "run", print) is None
    path = save_checkpoint(tmp_path, state(10), keep=2)
    with pytest.raises(DataError, match="belongs to another"):
        load_last_checkpoint(tmp_path, "another", print)
    (path / "model.safetensors").unlink()
    with pytest.raises(DataError, match="no checkpoint is whole"):
        load_last_checkpoint(tmp_path, "run", print)
