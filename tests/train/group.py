"""Trainings by several processes, as torchrun starts them but without an import for each: ``group.py`` forks them.

A line of its standard input is ``{"processes", "jobs", "out"}``: so many processes do the jobs (a file, see `worker`)
and print to the file `out`. It is answered with the exit status of the first that failed, or 0; as under torchrun one
failure ends all. What torchrun itself does is tested with torchrun.
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path

import torch
import worker

from jvlm.train.ceiling import measured


class Group:
    """The tester's side: does jobs by so many processes, one call after the other."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "MASTER_ADDR": "127.0.0.1"}
        pipe = subprocess.PIPE
        self.server = subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, text=True, env=environment)

    def run(self, processes: int, jobs: Path) -> tuple[int, str]:
        """The exit status and what was printed."""
        out = jobs.with_suffix(".out")
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps({"processes": processes, "jobs": str(jobs), "out": str(out)}) + "\n")
        self.server.stdin.flush()
        status = int(self.server.stdout.readline())
        return status, out.read_text()

    def end(self) -> None:
        assert self.server.stdin is not None
        self.server.stdin.close()
        self.server.wait(timeout=60)


def member(rank: int, port: int, processes: int, jobs: str, out: str) -> int:
    """One process; returns its exit code."""
    written = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(written, 1)
    os.dup2(written, 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    os.environ |= {name: str(value) for name, value in (world | {"MASTER_PORT": port}).items()}
    try:
        return worker.main(Path(jobs))
    except BaseException:
        traceback.print_exc()
        return 99


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def run(order: dict[str, str | int]) -> int:
    """Fork the processes; returns the exit status of the first that failed."""
    port, running, failed = free_port(), set(), 0
    for rank in range(int(order["processes"])):
        pid = os.fork()
        if not pid:
            os._exit(member(rank, port, **order))  # type: ignore[arg-type]
        running.add(pid)
    while running:
        pid, status = os.wait()
        running.discard(pid)
        if status and not failed:
            failed = os.waitstatus_to_exitcode(status)
            for other in running:
                os.kill(other, signal.SIGKILL)
    return failed


def main() -> None:
    torch.set_num_threads(1)  # threads do not survive a fork
    for precision in ("float32", "bfloat16"):  # once, not in every child
        measured(precision, 1)
    importlib.import_module("deepspeed")
    for line in sys.stdin:
        print(run(json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
