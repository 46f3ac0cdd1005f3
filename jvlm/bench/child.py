"""The parent's side of a contestant (`jvlm.bench.contestant`): its process, what it says, what it runs in."""

import json
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import jvlm
from jvlm.errors import JvlmError
from jvlm.process import die_with_parent

START_LIMIT, SPAN_LIMIT = 300, 300  # seconds: start-up with compilation, and one span


class Failed(JvlmError):
    """A contestant that did not run."""


class Started(Protocol):
    """What is needed of a contestant's description (`jvlm.bench.contestant.Spec`, for trainings)."""

    @property
    def folder(self) -> str:
        """What the run may write to."""

    @property
    def work(self) -> str:
        """Where compiled code is kept."""

    @property
    def threads(self) -> int: ...

    def write(self, path: Path) -> None:
        """For the child to read."""


class Child:
    """A contestant's process; `span` lets it go on."""

    def __init__(self, python: str, module: str, spec: Started) -> None:
        folder = Path(spec.folder)
        folder.mkdir(parents=True)
        path = folder / "spec.json"
        spec.write(path)
        self.log = folder / "log.txt"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [python, "-m", f"jvlm.bench.{module}", str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(spec),
                preexec_fn=die_with_parent,
            )

    def ready(self) -> None:
        """Wait until it has warmed up. Raises Failed."""
        self.answer(START_LIMIT)

    def answer(self, limit: float | None) -> dict[str, Any]:
        """What the child says next. Raises Failed when it ends or takes more than `limit` seconds."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], limit)[0]:
            raise Failed(f"took more than {limit:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise Failed(_last_words(self.log))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def span(self) -> dict[str, Any]:
        """One span of steps."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(b"go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(_last_words(self.log)) from None
        return self.answer(SPAN_LIMIT)

    def end(self) -> None:
        """The process is over and its checkpoints are gone."""
        self.process.kill()
        self.process.communicate()
        shutil.rmtree(self.log.parent)


def prepare(module: str, spec: Path) -> None:
    """Run a module that makes what the contestants read, as a process: its memory is not that of ours."""
    command = [sys.executable, "-m", f"jvlm.bench.{module}", str(spec)]
    subprocess.run(command, env=environment(), check=True, stdout=subprocess.DEVNULL)


def environment(spec: Started | None = None) -> dict[str, str]:
    """Of a child: this package, the threads, and compiled code kept beside the run, so that it is compiled once."""
    package = str(Path(jvlm.__file__).parent.parent)
    paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    added = {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    added["WANDB_MODE"] = "disabled"  # transformers prints a line to stdout, which is the child's voice, for "offline"
    if spec is not None:
        added |= {"OMP_NUM_THREADS": str(spec.threads), "TORCHINDUCTOR_CACHE_DIR": str(Path(spec.work) / "inductor")}
    return dict(os.environ) | added


def _last_words(log: Path) -> str:
    """The lines that say why a process ended."""
    lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-500:] if lines else "ended without a word"
