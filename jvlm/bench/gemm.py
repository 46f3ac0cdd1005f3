"""The ceiling of a race: the fastest matrix product among those of a model, of any precision."""

import time
from collections.abc import Iterable

import torch
import torch.nn.functional as F

from jvlm.bench.contestant import Spans

TOKENS, REPEATS = 4096, 3
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def serve(shapes: Iterable[tuple[int, int]], spans: Spans) -> None:
    """Tell GFLOP/s of the best product by precision, over layers of these (inputs, outputs), whenever asked."""
    shapes = list(shapes)
    spans.tell({"ready": True})
    while True:
        spans.wait()
        spans.tell({"gflops": {name: max(_gflops(*s, dtype) for s in shapes) for name, dtype in PRECISIONS.items()}})


def _gflops(inputs: int, outputs: int, dtype: torch.dtype) -> float:
    x, weight = torch.randn(TOKENS, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
    F.linear(x, weight)
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        F.linear(x, weight)
        seconds.append(time.perf_counter() - started)
    return 2 * TOKENS * inputs * outputs / min(seconds) / 1e9
