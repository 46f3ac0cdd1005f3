"""Checkpoints: one format for every engine, ZeRO stage and number of processes.

Parameters and optimizer state by parameter name in safetensors, the rest JSON; every checkpoint is a model directory
as well. It is written aside, synced, hashed and renamed; a reader verifies it and falls back to the last good one,
saying so. A checkpoint of another run (its fingerprint differs) is refused, never continued by mistake.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from jvlm.errors import DataError, UsageError
from jvlm.files import new_folder, read_json, remove_folder, verify_folder, write_json
from jvlm.model.directory import WEIGHTS
from jvlm.model.tensors import TensorFolder, plan_files, write_tensors
from jvlm.train.config import LoopConfig, Resume
from jvlm.train.engine import Engine
from jvlm.train.world import World

OPTIMIZER = "optimizer"
_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class Progress:
    """How far a training is; with the data's seed it says which samples come next."""

    step: int
    """Steps that are done."""
    fingerprint: str
    """Of the data, their order and the settings."""
    left_out: tuple[tuple[int, int], ...] = ()
    """Steps (from, to before) that were taken back because the last of them was not finite, and were then left out."""
    watched: dict[str, Any] = field(default_factory=dict)
    """What the metrics of the running interval come to so far."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that verified. Tensors are read from the disk when they are asked for."""

    path: Path
    progress: Progress

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        return TensorFolder(self.path, WEIGHTS)

    @property
    def optimizer(self) -> Mapping[str, Tensor]:
        """``exp_avg.NAME``, ``exp_avg_sq.NAME``, ``step.NAME``, ``momentum.NAME``."""
        return TensorFolder(self.path, OPTIMIZER)


def save_checkpoint(
    folder: Path,
    progress: Progress,
    engine: Engine,
    config: LoopConfig,
    world: World,
    write_model_files: Callable[[Path], None],
) -> None:
    """Commit ``folder/step-XXXXXXXX`` and drop the checkpoints that `config` does not keep. Every process calls it.

    Sharded state is gathered tensor by tensor, so every process walks through all of it and the first one writes.
    """
    weights, optimizer = engine.parameter_shapes(), engine.state_shapes()
    if not world.is_first:
        for _ in (*engine.parameters(), *engine.state()):
            pass
        return
    for leftover in folder.glob(".step-*"):  # of a save or a removal that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with new_folder(folder / f"step-{progress.step:08d}") as new:
        write_model_files(new)
        write_tensors(new, WEIGHTS, engine.parameters(), plan_files(WEIGHTS, weights))
        write_tensors(new, OPTIMIZER, engine.state(), plan_files(OPTIMIZER, optimizer))
        write_json(new / "state.json", asdict(progress))
    there = _checkpoints(folder)
    passed = [path for path in there if _step(path) <= progress.step]
    for path in there:
        # one of a later step was found damaged, or this training would have gone on from it
        kept = path in passed[-config.keep :] or (config.keep_every and _step(path) % config.keep_every == 0)
        if path not in passed or not kept:
            remove_folder(path)


def find_checkpoint(
    folder: Path, fingerprint: str, resume: Resume, say: Callable[[str], None], world: World
) -> Checkpoint | None:
    """The newest checkpoint that verifies, the same on every process, or None when there is none at all.

    Raises DataError when checkpoints exist and none is good, or when the newest good one is of another run;
    UsageError when `resume` forbids to go on, or demands it and there is nothing to go on from.
    """
    found: Checkpoint | Exception | None = None
    if world.is_first:
        try:
            found = _last_good(folder, fingerprint, resume, say)
        except (DataError, UsageError) as error:
            found = error
    found = world.from_first(found)
    if isinstance(found, Exception):
        raise found
    return found


def open_branch(path: Path, fingerprint: str, steps: int) -> Checkpoint:
    """Another run's checkpoint as the beginning of the run `fingerprint` of `steps` steps.

    Raises DataError when it is damaged, UsageError when it is as far as the run is to go.
    """
    verify_folder(path)
    state = read_json(path / "state.json")
    step = int(state["step"])
    if step >= steps:
        raise UsageError(f"the branch begins at step {step}, its last is {steps}", where=path, fix="raise steps")
    return Checkpoint(path, Progress(step, fingerprint, watched=state["watched"]))


def _last_good(folder: Path, fingerprint: str, resume: Resume, say: Callable[[str], None]) -> Checkpoint | None:
    paths = _checkpoints(folder)
    if paths and resume == "never":
        raise UsageError("resume: never, but checkpoints are there", where=folder, fix="name another folder")
    if not paths and resume == "must":
        raise UsageError("resume: must, but there is no checkpoint", where=folder, fix="check the run's name")
    for path in reversed(paths):
        try:
            verify_folder(path)
        except DataError as error:
            say(f"checkpoint {path.name} is damaged ({error}); falling back to the one before")
            continue
        state = read_json(path / "state.json")
        left_out = tuple((begin, end) for begin, end in state["left_out"])
        progress = Progress(state["step"], state["fingerprint"], left_out, state["watched"])
        if progress.fingerprint != fingerprint:
            raise DataError(
                "the checkpoint belongs to another config, model or data set",
                where=path,
                fix="remove the stage's folder to start it afresh",
            )
        return Checkpoint(path, progress)
    if paths:
        raise DataError("no checkpoint is whole", where=folder, fix="remove the stage's folder to start it afresh")
    return None


def _checkpoints(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
