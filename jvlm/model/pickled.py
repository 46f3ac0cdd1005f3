"""Pickled checkpoints, which can run code, rewritten as safetensors, which cannot: the one place that opens them."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from jvlm.errors import DataError, UsageError
from jvlm.files import new_file


def convert_pickled(source: Path, target: Path) -> int:
    """Write the tensors of a checkpoint (`.bin`, `.pt`, `.pth`) to `target`; returns how many there are.

    Of a training's checkpoint its `state_dict` is taken, and ``module.``, which a distributed training put before
    every name, is taken away. torch's restricted reader refuses whatever is not data: nothing is run. Raises UsageError
    when `target` is there or has another suffix than `.safetensors`, DataError for what holds no weights, or more than
    data.
    """
    if target.suffix != ".safetensors":
        raise UsageError("the target is to be a file of safetensors", where=target, fix="end its name in .safetensors")
    if target.exists():
        raise UsageError("the target exists already", where=target, fix="name a new file")
    try:
        found: Any = torch.load(source, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"not read: {first}", where=source) from None
    if isinstance(found, dict):
        found = found.get("state_dict", found)
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)} if _named(found) else {}
    if not tensors:
        raise DataError("no weights by name are in it", where=source)
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    # a copy of each: safetensors takes no two that share their memory
    whole = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    with new_file(target) as file:
        file.write(save(whole, metadata={"format": "pt"}))
    return len(whole)


def _named(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(name, str) for name in found)
