"""An attack made many times in a process of its own, so that a crash or a hang is counted and the rest goes on."""

import mmap
import os
import resource
import signal
import struct
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import torch

HANG_SECONDS = 20.0
_STATE = struct.Struct("qd")


@dataclass
class Outcome:
    """What came of an attack: numbers of the attempts that killed the process, hung, or were slow; faults told.

    `peak_mib`: the most memory that attempts added to the process.
    """

    done: int = 0
    crashes: list[int] = field(default_factory=list)
    hangs: list[int] = field(default_factory=list)
    slow: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    peak_mib: float = 0.0


def hammer(attack: Callable[[int], str | None], count: int, slow_seconds: float = 1.0) -> Outcome:
    """Make attempts 0 to `count` - 1.

    Args:
        attack: given the number of the attempt; returns what is wrong with what came of it, None when all is well. What
            it raises is a fault too.
        slow_seconds: of processor time, above which an attempt is slow.
    """
    outcome = Outcome()
    first = 0
    while first < count:
        with mmap.mmap(-1, _STATE.size) as state:
            state[:] = _STATE.pack(first, time.monotonic())
            reader, writer = os.pipe()
            child = os.fork()
            if not child:
                os.close(reader)
                _attempts(attack, range(first, count), state, writer, slow_seconds)
            os.close(writer)
            status, told = _watch(child, reader, state)
            number = _STATE.unpack(state[:])[0]
        for line in told.splitlines():
            kind, _, text = line.partition(" ")
            if kind == "slow":
                outcome.slow.append(int(text))
            elif kind == "memory":
                outcome.peak_mib = max(outcome.peak_mib, float(text))
            else:
                outcome.faults.append(text)
        if status == 0:
            break
        (outcome.hangs if status == -signal.SIGKILL else outcome.crashes).append(number)
        first = number + 1
    outcome.done = count
    return outcome


def _attempts(
    attack: Callable[[int], str | None], numbers: range, state: mmap.mmap, writer: int, slow_seconds: float
) -> None:
    """The child's part; it never returns."""
    torch.set_num_threads(1)  # the parent's did not survive the fork: work shared with them would wait for ever
    with os.fdopen(writer, "w") as told:
        before = _memory()
        for number in numbers:
            state[:] = _STATE.pack(number, time.monotonic())
            begun = time.process_time()
            try:
                fault = attack(number)
            except BaseException:
                fault = "raised " + traceback.format_exc(limit=-2).replace("\n", " | ")
            if time.process_time() - begun > slow_seconds:
                told.write(f"slow {number}\n")
            if fault:
                told.write(f"fault {number}: {fault}\n")
        told.write(f"memory {_memory() - before}\n")
    os._exit(0)


def _watch(child: int, reader: int, state: mmap.mmap) -> tuple[int, str]:
    """Wait for the child, kill it where an attempt takes too long; its exit code and what it told."""
    told = b""
    os.set_blocking(reader, False)
    try:
        while True:
            with suppress(BlockingIOError):
                told += os.read(reader, 1 << 16)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                while part := os.read(reader, 1 << 16):
                    told += part
                return os.waitstatus_to_exitcode(status), told.decode()
            if time.monotonic() - _STATE.unpack(state[:])[1] > HANG_SECONDS:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.01)
    finally:
        os.close(reader)


def _memory() -> float:
    """The most memory the process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
