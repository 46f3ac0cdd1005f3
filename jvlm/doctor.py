"""What this machine offers: Python, torch, the attention operator in use, optional libraries, memory and disk."""

import importlib
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "open_clip_torch",
    "xformers",
    "deepspeed",
    "peft",
    "webdataset",
    "streamlit",
    "ray",
)


def report() -> dict[str, Any]:
    """Facts about the machine, JSON-serialisable. Versions come from package metadata; only torch is imported."""
    torch_facts = _torch()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "torch": torch_facts,
        "attention": _attention("cuda" if torch_facts.get("gpus") else "cpu"),
        "cpu": {
            "cores": os.cpu_count(),
            "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        },
        "memory_gib": _memory(),
        "disk_gib": _disk(Path.cwd()),
    }


def lines(facts: dict[str, Any]) -> list[str]:
    """The report for a reader, one fact a line."""
    torch, attention, cpu = facts["torch"], facts["attention"], facts["cpu"]
    memory, disk = facts["memory_gib"], facts["disk_gib"]
    gpus = [f"{gpu['name']}, {gpu['memory_gib']} GiB" for gpu in torch.get("gpus", [])]
    cuda = f"built for {torch['cuda_build']}" if torch.get("cuda_build") else "not in this build of torch"
    rows = [
        ("python", f"{facts['python']} on {facts['platform']}"),
        *((name, found or "not installed") for name, found in facts["packages"].items()),
        ("CUDA", torch["error"] if "error" in torch else f"{cuda}; {'; '.join(gpus) or 'no GPU found'}"),
        ("attention", attention.get("error") or f"{attention['backend']} ({attention['reason']})"),
        ("cores", f"{cpu['usable_cores']} usable of {cpu['cores']}"),
        ("threads", f"torch {torch.get('threads', '-')}, OMP_NUM_THREADS {cpu['omp_num_threads'] or 'not set'}"),
        ("memory", f"{memory['available'] or '?'} GiB free of {memory['total']} GiB"),
        ("disk", f"{disk['free']} GiB free of {disk['total']} GiB in {disk['folder']}"),
    ]
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {value}" for name, value in rows]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _torch() -> dict[str, Any]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library of the build is missing
        return {"error": f"torch cannot be imported: {error}"}
    gpus = []
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(number)
            gpus.append({"name": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1)})
    return {"cuda_build": torch.version.cuda, "gpus": gpus, "threads": torch.get_num_threads()}


def _attention(device: str) -> dict[str, str]:
    """The operator `attention: auto` resolves to, and why."""
    try:
        resolve = importlib.import_module("jvlm.model.attention").resolve
    except (ImportError, OSError) as error:
        return {"error": f"cannot be resolved: {error}"}
    backend, reason = resolve("auto", device)
    return {"backend": backend, "reason": reason}


def _memory() -> dict[str, float | None]:
    """GiB of the machine, or of the container where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    used_by_container = None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit.isdecimal() and int(limit) < total:
            total = int(limit)
            used_by_container = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except OSError:
        pass  # no control groups: the machine's own figures stand
    available = _available() if used_by_container is None else total - used_by_container
    return {"total": _gib(total), "available": _gib(available) if available is not None else None}


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _disk(folder: Path) -> dict[str, Any]:
    usage = shutil.disk_usage(folder)
    return {"folder": str(folder), "total": _gib(usage.total), "free": _gib(usage.free)}


def _gib(count: int) -> float:
    return round(count / 2**30, 1)
