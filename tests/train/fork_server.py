"""Forks a training for each line of its standard input, so that one costs no imports: ``fork_server.py DATA``.

A line is a job of `worker.run` with ``out``, the file of what it prints, and perhaps ``strike``: ``{"at", "how"}``. A
training counts the steps it takes on the file system; at number `at` it dies (`how`: "kill") or finds the disk full
from then on ("full"); "count" writes the steps down. ``limit``: bytes above which the kernel lets no file grow.
Answers each line with the child's process id, and then with its exit status.
"""

import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
import worker

from jvlm.errors import JvlmError
from jvlm.model import tensors
from jvlm.train.ceiling import measured

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.mkdir", "os.link", "os.truncate")
REMOVALS = ("os.remove", "os.rmdir")


class Strike:
    """What happens to a training at one of its steps on the file system."""

    def __init__(self, folder: str, at: int, how: str) -> None:
        self.folder, self.at, self.how, self.steps = folder, at, how, 0
        sys.addaudithook(self._hook)
        save = tensors.save_file

        def fsync(descriptor: int) -> None:
            # and nothing more: what a killed process wrote stays, only a machine that stops loses what is not synced
            self.step("os.fsync", os.readlink(f"/proc/self/fd/{descriptor}"))

        def save_file(held: Any, path: Path, metadata: dict[str, str]) -> None:
            self.step("save_file", str(path))
            save(held, path, metadata=metadata)
            if self.how == "kill":
                whole = path.stat().st_size
                os.truncate(path, whole // 2)
                self.step("save_file, half of it", str(path))
                save(held, path, metadata=metadata)

        os.fsync = fsync
        tensors.save_file = save_file  # type: ignore[assignment]

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & WRITING and str(path).startswith(self.folder):
                self.step("open", str(path))
        elif event in CHANGES or (event in REMOVALS and self.how != "full"):
            path = str(arguments[0])
            if event != "os.mkdir" or not os.path.isdir(path):
                self.step(event, path)

    def step(self, what: str, path: str) -> None:
        if self.how == "count":
            os.write(2, f"{what} {path.removeprefix(self.folder)}\n".encode())
            return
        self.steps += 1
        if self.how == "kill" and self.steps == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "full" and self.steps >= self.at:
            raise OSError(28, "No space left on device", path)


def child(job: dict[str, Any], data: Path) -> int:
    """Train; returns the exit code."""
    out = os.open(job["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        if "strike" in job:
            Strike(job["folder"], **job["strike"])
        if "limit" in job:
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], job["limit"]))
        worker.run(job, data)
    except JvlmError as error:
        os.write(1, f"{type(error).__name__}: {error}\n".encode())
        return error.exit_code
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        return 99
    return 0


def main(data: Path) -> None:
    torch.set_num_threads(1)  # threads do not survive a fork
    for precision in ("float32", "bfloat16"):  # once, not in every child
        measured(precision, 1)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            os._exit(child(json.loads(line), data))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
