"""Trainings in processes of their own, which a test may kill: the tester's side of `fork_server`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from jvlm.files import read_json_lines
from jvlm.model.tensors import TensorFolder


class Forked:
    """Starts trainings, one at a time."""

    def __init__(self, home: Path) -> None:
        self.home = home
        command = [sys.executable, str(Path(__file__).with_name("fork_server.py")), str(home / "data")]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def start(self, folder: Path, **job: Any) -> int:
        """The process id of a training in `folder`."""
        job = {"folder": str(folder), "engine": {}, "out": str(folder) + ".out"} | job
        Path(job["out"]).write_text("")
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        return self._answer()

    def wait(self) -> int:
        """The exit status of the training that was started; negative: the signal it died of."""
        return self._answer()

    def run(self, folder: Path, **job: Any) -> int:
        self.start(folder, **job)
        return self.wait()

    def end(self) -> None:
        assert self.server.stdin is not None
        self.server.stdin.close()
        self.server.wait(timeout=60)

    def _answer(self) -> int:
        assert self.server.stdout is not None
        return int(self.server.stdout.readline())


def said(folder: Path) -> str:
    """What the last training in `folder` printed."""
    return Path(str(folder) + ".out").read_text()


def learned(folder: Path) -> dict[str, Any]:
    """Losses and gradient norms of all steps, and the final weights as bytes."""
    figures: dict[str, Any] = {
        str(r["step"]): (r["loss"], r["grad_norm"]) for r in read_json_lines(folder / "metrics.jsonl")
    }
    weights = TensorFolder(folder / "model", "model")
    return figures | {name: tensor.numpy().tobytes() for name, tensor in weights.items()}
