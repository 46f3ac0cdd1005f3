"""Learning-rate schedules: pure functions of the step."""

import math
from typing import Literal

Schedule = Literal["cosine", "wsd"]


def learning_rate_factor(
    step: int, steps: int, warmup: int, schedule: Schedule, final: float, decay: float = 0.3
) -> float:
    """Factor on the peak rate at `step` (counted from 0).

    ``cosine`` falls from 1 to `final` over all steps after warm-up; ``wsd`` (warm-up, stable, decay) stays at 1 and
    falls linearly to `final` over the last `decay` share of the steps.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "cosine":
        progress = (step - warmup) / max(1, steps - warmup)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    begin = steps - round(decay * steps)
    if step < begin:
        return 1.0
    return 1 - (1 - final) * (step - begin + 1) / max(1, steps - begin)
