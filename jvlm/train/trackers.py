"""Figures to TensorBoard or Weights & Biases, when asked for; metrics.jsonl is written always."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from jvlm.errors import UsageError

TrackerName = Literal["tensorboard", "wandb"]


class Tracker(Protocol):
    """Where lines of metrics go besides."""

    def log(self, record: dict[str, Any]) -> None:
        """A line of metrics.jsonl."""
        ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in ``FOLDER/tensorboard``. Raises UsageError when the package is not installed."""

    def __init__(self, folder: Path, start: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _not_installed("tensorboard") from error
        # what an interrupted run logged of steps that come again is hidden
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def log(self, record: dict[str, Any]) -> None:
        for name, value in _scalars(record).items():
            self._writer.add_scalar(name, value, record["step"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run in ``FOLDER/wandb``, which stays there unless WANDB_MODE is set. Raises UsageError when not installed."""

    def __init__(self, folder: Path, start: int) -> None:
        try:
            import wandb
        except ImportError as error:
            raise _not_installed("wandb") from error
        mode = os.environ.get("WANDB_MODE", "offline")
        name = "-".join(folder.absolute().parts[-2:])
        self._run = wandb.init(project="jvlm", name=name, dir=str(folder), mode=mode)

    def log(self, record: dict[str, Any]) -> None:
        self._run.log(_scalars(record), step=record["step"])

    def close(self) -> None:
        self._run.finish()


def open_trackers(names: Sequence[TrackerName], folder: Path, start: int) -> list[Tracker]:
    """Those asked for, of a training in `folder` that goes on from step `start`. Raises UsageError."""
    kinds: dict[TrackerName, Callable[[Path, int], Tracker]]
    kinds = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
    return [kinds[name](folder, start) for name in names]


def _scalars(record: dict[str, Any]) -> dict[str, float]:
    flat = {key: value for key, value in record.items() if isinstance(value, int | float) and key != "step"}
    flat |= {f"loss/{source}": value for source, value in record.get("loss_by_source", {}).items()}
    layers = {name: enumerate(values) for name, values in record.get("routers", {}).items()}
    return flat | {f"router_{name}/{layer}": value for name, found in layers.items() for layer, value in found}


def _not_installed(package: str) -> UsageError:
    return UsageError(f"{package} is not installed", where="loop.log_to", fix=f"pip install {package}, or leave it out")
