"""The units of a job as tasks of Ray actors, on one machine or on the cluster that `RAY_ADDRESS` names.

Actors of Ray's core and not a Ray Data pipeline: a unit is read, captioned and committed by one call, by the same code
and to the same ledger as without Ray. There is nothing to pass between operators, and Ray Data's own checkpoint (blocks
of 128 MB, which captions hardly fill in a whole job) and its filter actors (which on two processors leave none for the
model, so that a job that goes on hangs) have no part in it. An actor that dies is started again, and its unit given to
it again; what was committed stays.
"""

import logging
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jvlm.errors import JvlmError, UsageError
from jvlm.infer.caption.leases import Leases
from jvlm.infer.caption.worker import Load, Worker

PATIENCE_SECONDS = 1.0
SILENCE_SECONDS, SILENCE_SECONDS_A_ROW = 1800.0, 30.0
"""Without a unit done for so long, the greater of the two, the job ends with an error."""
_ATTEMPTS = 10  # of a unit whose actor dies: one that kills every process must not go on for ever
_STORE_BYTES = 100 * 2**20  # nothing but numbers of units passes through Ray's store


class _Actor:
    """A process of Ray's that captions units."""

    def __init__(self, out: str, load: Load) -> None:
        self._worker = Worker(Path(out), load, Leases(Path(out) / "leases"))

    def caption(self, unit: int, above: int) -> tuple[bool, int]:
        """(Whether the unit is done, rows written for it here); not done is one that another process is at."""
        before = self._worker.written
        done = self._worker.caption(unit, above) is not None
        if not done:
            time.sleep(PATIENCE_SECONDS)
        return done, self._worker.written - before


def longest_silence(unit_rows: int) -> float:
    """Seconds to wait for a unit of so many rows: a large one on a slow machine takes hours and is no hang."""
    return max(SILENCE_SECONDS, SILENCE_SECONDS_A_ROW * unit_rows)


def work_on_ray(
    out: Path,
    load: Load,
    todo: dict[int, int],
    workers: int,
    tell: Callable[[], None],
    stopped: Callable[[], bool],
    silence: float,
) -> int:
    """Do the units of `todo` (unit → attempts it had) with `workers` actors; returns the rows that they wrote.

    Raises:
        UsageError: Ray is not installed, or the cluster is smaller than asked for.
        JvlmError: a unit that ends every process that takes it; no unit done for `silence` seconds.
    """
    ray = _started(workers)
    before = signal.getsignal(signal.SIGTERM)
    try:
        share = gpu_share(ray.cluster_resources().get("GPU", 0), workers)
        # dead actors come back however often they die; a unit's tries are limited, so that the job ends
        kind = ray.remote(num_cpus=1, num_gpus=share, max_restarts=-1, max_task_retries=_ATTEMPTS)(_Actor)
        actors = [kind.remote(str(out.absolute()), load) for _ in range(min(workers, len(todo)))]
        return _hand_out(ray, actors, todo, tell, stopped, silence)
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, before)


def gpu_share(gpus: float, workers: int) -> float:
    """Of a GPU for each worker: one, or where there are fewer, so much that as many as need be fit on each. An actor
    that asks for none would not see any.
    """
    return 1 / max(math.ceil(workers / gpus), 1) if gpus else 0.0


def _hand_out(
    ray: Any,
    actors: list[Any],
    todo: dict[int, int],
    tell: Callable[[], None],
    stopped: Callable[[], bool],
    silence: float,
) -> int:
    waiting = list(reversed(todo))
    free, written = list(actors), 0
    running: dict[Any, tuple[Any, int]] = {}
    while waiting or running:
        while free and waiting and not stopped():
            actor, unit = free.pop(), waiting.pop()
            running[actor.caption.remote(unit, todo[unit])] = (actor, unit)
        if not running:
            break
        ready, _ = ray.wait(list(running), timeout=silence)
        if not ready:
            units = sorted(unit for _, unit in running.values())
            fix = "see whether the machines are alive, then run the command again"
            raise JvlmError(f"no unit was done for {silence:.0f} s, in work are {units}", fix=fix)
        actor, unit = running.pop(ready[0])
        try:
            done, rows = ray.get(ready[0])
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, JvlmError) else error from None
        except ray.exceptions.RayActorError as error:
            fix = "caption without --ray to see how it ends"
            raise JvlmError(f"unit {unit} ended the process again and again: {error}", fix=fix) from None
        free.append(actor)
        written += rows
        if rows:
            tell()
        if not done:
            waiting.insert(0, unit)
    return written


def _started(workers: int) -> Any:
    """Ray, joined or started here: without usage statistics, without its dashboard."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError:
        raise UsageError("Ray is not installed", fix="pip install 'jvlm[ray]'") from None
    handler = signal.getsignal(signal.SIGTERM)
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
        found = ray.cluster_resources().get("CPU", 0)
        if found < workers:
            ray.shutdown()
            fix = f"give --ray {int(found)}, or a larger cluster"
            raise UsageError(f"the cluster has {found:g} CPUs, {workers} workers would wait for ever", fix=fix)
    else:  # as many as there are workers, so that none waits for a place; Ray counts them, it does not bind them
        ray.init(
            num_cpus=workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=_STORE_BYTES,
            _node_ip_address="127.0.0.1",
        )
    signal.signal(signal.SIGTERM, handler)  # Ray's own would end the process in the middle of a unit
    return ray
