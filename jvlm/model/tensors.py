"""Named tensors in safetensors files, in several where they are large, as Hugging Face lays weights out."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Size, Tensor

from jvlm.errors import DataError
from jvlm.files import disk_error, read_json, write_json

SHARD_BYTES = 5_000_000_000


def plan_files(stem: str, shapes: Mapping[str, Size], limit: int = SHARD_BYTES) -> dict[str, str]:
    """The file of each float32 tensor, in order: ``STEM.safetensors``, or ``STEM-00001-of-00003.safetensors``, …"""
    files, room = [0], limit
    for shape in shapes.values():
        size = 4 * shape.numel()
        if size > room and room < limit:
            files.append(files[-1] + 1)
            room = limit
        else:
            files.append(files[-1])
        room -= size
    of, count = files[1:], files[-1] + 1
    names = [f"{stem}.safetensors"]
    if count > 1:
        names = [f"{stem}-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    return {name: names[i] for name, i in zip(shapes, of, strict=True)}


def write_tensors(folder: Path, stem: str, tensors: Iterable[tuple[str, Tensor]], plan: Mapping[str, str]) -> None:
    """Write tensors as they come, in the order of `plan`; no more than one file of them is held.

    Raises JvlmError when the disk refuses.
    """
    held: dict[str, Tensor] = {}
    file = next(iter(plan.values()), f"{stem}.safetensors")
    for name, tensor in tensors:
        if plan[name] != file:
            _write(folder / file, held)
            held, file = {}, plan[name]
        held[name] = tensor.detach().cpu().contiguous()
    _write(folder / file, held)
    if len(set(plan.values())) > 1:
        write_json(folder / f"{stem}.safetensors.index.json", {"metadata": {}, "weight_map": dict(plan)})


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except (SafetensorError, OSError) as error:  # safetensors has an error of its own for a full disk
        raise disk_error(error, path) from error


class TensorFolder(Mapping[str, Tensor]):
    """The tensors that `write_tensors` left, read from the disk when they are asked for."""

    def __init__(self, folder: Path, stem: str) -> None:
        """Raises DataError when a file is missing or not of the format."""
        index = folder / f"{stem}.safetensors.index.json"
        single = f"{stem}.safetensors"
        names = _file_names(index) if index.is_file() else [single]
        try:
            self._files = [safe_open(folder / name, framework="pt") for name in names]
        except (SafetensorError, OSError) as error:
            raise DataError(f"cannot be read as safetensors: {error}", where=folder / names[0]) from None
        self._of = {name: file for file in self._files for name in file.keys()}  # noqa: SIM118  # not a dict

    @property
    def shapes(self) -> dict[str, Size]:
        """Of every tensor; none is read."""
        return {name: Size(file.get_slice(name).get_shape()) for name, file in self._of.items()}

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._of[name].get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)


def _file_names(index: Path) -> list[str]:
    """The files that an index names, all beside it. Raises DataError."""
    record = read_json(index)
    table = record.get("weight_map") if isinstance(record, dict) else None
    names = list(table.values()) if isinstance(table, dict) else []
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise DataError("not an index of weight files beside it", where=index)
    return sorted(set(names))
