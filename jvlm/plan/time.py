"""How long a training stage takes on GPUs, what energy and what money."""

from dataclasses import dataclass

from jvlm.plan.gpus import Gpu
from jvlm.plan.operations import operations, recomputed
from jvlm.plan.work import Work

DEFAULT_MFU = 0.4
"""Share of the data sheet's speed that a training reaches, where nothing better is known: published ones of 1 to 13 B
parameters reach 0.33 to 0.52 (torchtitan, LLM-jp, TinyLlama)."""


@dataclass(frozen=True)
class Cost:
    """Of one stage. Energy is that of the GPUs at their rated power alone; machine and cooling come on top."""

    seconds: float
    tokens_per_second: float
    gpu_hours: float
    kwh: float
    yen: float | None

    @property
    def days(self) -> float:
        return self.seconds / 86_400


def cost(work: Work, gpu: Gpu, gpus: int, mfu: float = DEFAULT_MFU, yen_per_gpu_hour: float | None = None) -> Cost:
    """`mfu`: operations of the model per second as a share of the data sheet's, reached where nothing is recomputed;
    what is recomputed takes its time besides."""
    speed = gpu.speed(work.engine.precision) * gpus * mfu
    seconds = (operations(work) + recomputed(work)) / speed
    hours = gpus * seconds / 3_600
    yen = None if yen_per_gpu_hour is None else hours * yen_per_gpu_hour
    return Cost(seconds, work.tokens / seconds, hours, hours * gpu.watts / 1_000, yen)
