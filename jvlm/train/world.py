"""The processes of one training, as ``torchrun`` starts them, and what they tell each other."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """This process among the `size` processes of a training. Process 0 writes files and speaks."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over all processes, in float64."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def from_first(self, value: Any) -> Any:
        """What process 0 holds, a small object, on every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """What each process holds, small objects, in order; on every process."""
        if self.size == 1:
            return [value]
        box: list[Any] = [None] * self.size
        dist.all_gather_object(box, value)
        return box

    def share(self, numbers: Sequence[int]) -> Sequence[int]:
        """Those of a global batch's rows that are this process's: row i goes to process i mod `size`."""
        return numbers[self.rank :: self.size]


def gather_rows(*own: Tensor) -> tuple[list[Tensor], int]:
    """Each ``[n, d]`` with the rows of all processes one after the other, and the place of this process's first.

    Processes may differ in `n`, the tensors of one may not; they are sent as one. Gradients come back from every
    process to the one whose rows they are: all call this, and all go back through it. Alone, a process gets its own.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return list(own), 0
    counts = [torch.zeros(1, dtype=torch.long, device=own[0].device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.full_like(counts[0], len(own[0])))
    numbers = [int(count) for count in counts]
    gathered: Tensor = _GatherRows.apply(torch.cat(own, dim=1), numbers)
    widths = [tensor.shape[1] for tensor in own]
    return [part.contiguous() for part in gathered.split(widths, dim=1)], sum(numbers[: dist.get_rank()])


class _GatherRows(torch.autograd.Function):
    """``[n, d]`` of each process → ``[Σ n, d]``."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, numbers: list[int]) -> Tensor:
        ctx.begin, ctx.count = sum(numbers[: dist.get_rank()]), len(own)
        padded = own.new_zeros(max(numbers), own.shape[1])  # collectives take one shape
        padded[: len(own)] = own
        pieces = [torch.empty_like(padded) for _ in numbers]
        dist.all_gather(pieces, padded)
        return torch.cat([piece[:number] for piece, number in zip(pieces, numbers, strict=True)])

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        total = outer[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)  # what the losses of all processes say about all rows
        return total[ctx.begin : ctx.begin + ctx.count], None


ONE_PROCESS = World()
PATIENCE = timedelta(days=1)  # process 0 may prepare data for hours; a process that dies is torchrun's to notice


def join_world() -> World:
    """The world that ``torchrun`` describes in the environment, joined; one process where it describes none."""
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    return World(int(os.environ.get("RANK", "0")), size, device)


def to_device(batch: Any, device: torch.device) -> Any:
    """A dataclass of tensors, and of dataclasses of tensors, on `device`."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if device.type == "cpu" or not is_dataclass(batch) or isinstance(batch, type):
        return batch
    return replace(batch, **{part.name: to_device(getattr(batch, part.name), device) for part in fields(batch)})
