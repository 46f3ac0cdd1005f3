"""Checkpoints: parameters and optimizer state by parameter name in safetensors, the rest JSON.

A checkpoint is written aside, synced, hashed and renamed; a reader verifies it and falls back to the last good
one, saying so. A checkpoint of another run (its fingerprint differs) is refused, never continued by mistake.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from jvlm.errors import DataError
from jvlm.files import new_folder, read_json, verify_folder, write_json

_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class TrainState:
    """What training needs to go on: `step` steps are done."""

    step: int
    parameters: dict[str, Tensor]
    optimizer: dict[str, Tensor]  # "exp_avg.NAME", "exp_avg_sq.NAME", "step.NAME"
    fingerprint: str


def save_checkpoint(folder: Path, state: TrainState, keep: int) -> Path:
    """Commit `state` as ``folder/step-XXXXXXXX`` and drop all but the last `keep` checkpoints."""
    path = folder / f"step-{state.step:08d}"
    with new_folder(path) as new:
        save_file(state.parameters, new / "model.safetensors")
        save_file(state.optimizer, new / "optimizer.safetensors")
        write_json(new / "state.json", {"step": state.step, "fingerprint": state.fingerprint})
    for old in _checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return path


def load_last_checkpoint(folder: Path, fingerprint: str, say: Callable[[str], None]) -> TrainState | None:
    """The newest checkpoint that verifies, or None when there is none at all.

    Raises DataError when checkpoints exist and none is good, or when the newest good one is of another run.
    """
    paths = _checkpoints(folder)
    for path in reversed(paths):
        try:
            verify_folder(path)
        except DataError as error:
            say(f"checkpoint {path.name} is damaged ({error}); falling back to the one before")
            continue
        state = read_json(path / "state.json")
        if state["fingerprint"] != fingerprint:
            raise DataError(
                "the checkpoint belongs to another config, model or data set",
                where=path,
                fix="remove the stage's folder to start it afresh",
            )
        return TrainState(
            state["step"], load_file(path / "model.safetensors"), load_file(path / "optimizer.safetensors"), fingerprint
        )
    if paths:
        raise DataError("no checkpoint is whole", where=folder, fix="remove the stage's folder to start it afresh")
    return None


def _checkpoints(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
