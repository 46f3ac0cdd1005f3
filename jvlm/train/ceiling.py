"""How fast matrix products can be on this device: what the speed of a training is a share of."""

import re
import time
from functools import cache

import torch

SIDE, SECONDS = 768, 0.25
DATASHEET = {  # dense bfloat16 products, 10^12 operations per second, by what the device's name holds
    r"B200": 2250.0,
    r"H100.*PCIe": 756.0,
    r"H100 NVL": 835.0,
    r"H100|H200|GH200": 989.0,
    r"A100|A800": 312.0,
    r"L40S": 362.0,
    r"A10G": 70.0,
    r"A10\b": 125.0,
    r"L4\b": 121.0,
    r"RTX 4090": 165.0,
    r"RTX 3090": 71.0,
}


def ceiling(device: torch.device, precision: str) -> float | None:
    """Operations per second of one process: of the datasheet for a GPU, measured for a processor. None: not known."""
    if device.type == "cuda":
        return datasheet(torch.cuda.get_device_name(device)) if precision == "bfloat16" else None
    return measured(precision, torch.get_num_threads())


def datasheet(name: str) -> float | None:
    """Of a GPU of that name, in bfloat16."""
    found = next((speed for pattern, speed in DATASHEET.items() if re.search(pattern, name)), None)
    return found and found * 1e12


@cache
def measured(precision: str, threads: int) -> float:
    """Of one large product after another on `threads` threads (the number torch has), the fastest."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    left, right = (torch.ones(SIDE, SIDE, dtype=dtype) for _ in range(2))
    fastest, begun = float("inf"), time.perf_counter()
    while time.perf_counter() < begun + SECONDS:
        started = time.perf_counter()
        torch.mm(left, right)
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * SIDE**3 / fastest
