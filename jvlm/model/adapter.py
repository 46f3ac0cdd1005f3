"""Adapter directories: what was learned beside the weights of another directory, its base, and which one that is.

- `config.json`: ``model_type`` jvlm_adapter; of the base its kind, the path it had, and the hash of each of its files;
  the settings of the adapters; the tiles that images are shown in.
- `model.safetensors`: adapters, and what learned whole (a projector), under the names they have in the model.

A base is known by its hashes, never by a name: the one at the recorded path, or at the path that is given, is taken
when it is that very one, and refused otherwise.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from jvlm.errors import DataError, UsageError
from jvlm.files import MANIFEST, read_json, sha256_bytes, verify_folder, write_json
from jvlm.model.config import LoraConfig, TilesConfig
from jvlm.model.directory import (
    ADAPTER,
    WEIGHTS,
    Loaded,
    copy_tensors,
    load_directory,
    load_processor,
    read_kind,
    save_model,
)
from jvlm.model.jvlm import JvlmModel, hidden_states
from jvlm.model.lora import add_lora, merge_lora
from jvlm.model.processor import Processor
from jvlm.model.tensors import TensorFolder

BASE_VARIABLE = "JVLM_BASE"
"""Environment variable that names the base of an adapter, where it is no longer at the recorded path."""
TOLERANCE = 1e-4  # of the largest logit: rounding stays below, in float32
_PROBE_TOKENS = 64


@dataclass(frozen=True)
class Base:
    """The directory whose weights stay."""

    kind: str
    path: Path
    hashes: dict[str, str]

    @classmethod
    def of(cls, folder: Path) -> "Base":
        """Raises DataError when it is no whole model directory, UsageError when it is an adapter itself."""
        kind, _ = read_kind(folder)
        if kind == ADAPTER:
            raise UsageError("an adapter is no base", where=folder, fix="make it whole with `jvlm merge`")
        hashes = {name: str(entry["sha256"]) for name, entry in read_json(folder / MANIFEST).items()}
        return cls(str(kind), Path(folder).resolve(), hashes)

    @property
    def fingerprint(self) -> str:
        """One hash of all."""
        return sha256_bytes("\n".join(f"{name} {digest}" for name, digest in sorted(self.hashes.items())).encode())


@dataclass(frozen=True)
class Adapted:
    """A model with adapters, ready to learn, the directory its other weights are from, and what is stored of it."""

    loaded: Loaded
    base: Base
    stored: frozenset[str]
    """Names of the weights that a directory gone on from holds: they differ from the base's."""


def adapt(folder: Path, config: LoraConfig, seed: int) -> Adapted:
    """The model of a directory with adapters; those of an adapter directory are gone on with.

    Raises DataError when it cannot be loaded, UsageError for an adapter of other settings or without a fitting layer.
    """
    kind, _ = read_kind(folder)
    if kind != ADAPTER:
        base = Base.of(folder)
        loaded = load_directory(folder)
        add_lora(loaded.model, config, seed)
        return Adapted(loaded, base, frozenset())
    verify_folder(folder)
    base, before, tiles = _read(folder, None)
    if before.shape != config.shape:
        text = f"the adapters gone on from have rank {before.rank}, alpha {before.alpha:g}, targets {before.targets}"
        raise UsageError(text, where=folder, fix="give lora the same, or make them part of the weights: `jvlm merge`")
    loaded = _load_base(base, tiles)
    add_lora(loaded.model, config, seed)
    tensors = TensorFolder(folder, WEIGHTS)
    places = {name: p for name, p in loaded.model.named_parameters() if name in tensors}
    copy_tensors(places, tensors, folder)
    return Adapted(loaded, base, frozenset(tensors))


def load_merged(folder: Path, base: Path | None) -> Loaded:
    """The base of an adapter directory with what was learned, a plain model. Raises DataError for a wrong base."""
    found, config, tiles = _read(folder, base)
    loaded = _load_base(found, tiles)
    try:
        merge_lora(loaded.model, TensorFolder(folder, WEIGHTS), config, folder)
    except SafetensorError as error:
        raise DataError(f"cannot be loaded: {error}", where=folder) from None
    return loaded


def adapted_processor(folder: Path) -> Processor:
    """What feeds the model of an adapter directory; no weight is read. Raises DataError for a wrong base."""
    base, _, tiles = _read(folder, None)
    return _tiled(load_processor(base.path), tiles)


def write_adapter_files(base: Base, config: LoraConfig, processor: Processor, folder: Path) -> None:
    """Everything of an adapter directory but the weights."""
    told = {"kind": base.kind, "path": str(base.path), "hashes": base.hashes}
    record = {"model_type": ADAPTER, "base": told, "lora": config.model_dump()}
    write_json(folder / "config.json", record | {"tiles": processor.tiles.model_dump()})


def merge(folder: Path, out: Path, base: Path | None = None) -> float:
    """Write base and adapter as one plain directory; returns by how much a logit differs from the adapted model's.

    Compared is what both say to one made-up row, in float32 and on unrounded weights. Raises DataError for a wrong
    base and for weights that are not finite or do not merge, UsageError when `folder` is no adapter or `out` exists;
    nothing is written then.
    """
    kind, _ = read_kind(folder)
    if kind != ADAPTER:
        raise UsageError(f"holds a {kind!r} model, no adapter", where=folder)
    if out.exists():
        raise UsageError("the target exists already", where=out, fix="name a new directory")
    merged = load_directory(folder, base)
    found, config, _ = _read(folder, base)
    apart = load_directory(found.path)
    add_lora(apart.model, config.model_copy(update={"base_weights": "float32"}), seed=0)
    tensors = TensorFolder(folder, WEIGHTS)
    copy_tensors({name: p for name, p in apart.model.named_parameters() if name in tensors}, tensors, folder)
    expected, logits = (probe_logits(model, merged.processor) for model in (apart.model.eval(), merged.model))
    difference = float((logits - expected).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise DataError(f"merging changes a logit by {difference:.1e}", where=folder, fix="look for weights not finite")
    save_model(out, merged.model, merged.processor)
    return difference


@torch.no_grad()
def probe_logits(model: nn.Module, processor: Processor) -> Tensor:
    """``[1, T, vocabulary]`` for a made-up row: a picture of noise where the model sees any, and words at random."""
    generator = torch.Generator().manual_seed(0)
    language: Any = model.language if isinstance(model, JvlmModel) else model
    ids = torch.randint(language.config.vocab_size, (1, _PROBE_TOKENS), generator=generator)
    if not isinstance(model, JvlmModel):
        states = hidden_states(language, language.get_input_embeddings()(ids), _places(ids), [ids.shape[1]])
        return language.lm_head(states)
    side, image = model.vision_config.image_size, processor.image_ids.image
    pixels = torch.randint(256, (1, 3, side, side), generator=generator, dtype=torch.uint8)
    ids[ids == image] = processor.pad
    tokens = model.image_features(pixels).shape[1]
    ids = torch.cat([torch.full((1, tokens), image), ids], dim=1)
    return language.lm_head(model(ids, _places(ids), [ids.shape[1]], pixels))


def _places(ids: Tensor) -> Tensor:
    return torch.arange(ids.shape[1])[None]


def stored_names(model: nn.Module, before: Collection[str]) -> frozenset[str]:
    """Of a model with adapters the weights that its directory holds: what learns, and what has learned before."""
    return frozenset(name for name, p in model.named_parameters() if p.requires_grad or name in before)


def _load_base(base: Base, tiles: TilesConfig) -> Loaded:
    loaded = load_directory(base.path)
    return replace(loaded, processor=_tiled(loaded.processor, tiles))


def _tiled(processor: Processor, tiles: TilesConfig) -> Processor:
    return processor if processor.vision is None else processor.with_tiles(tiles)


def _read(folder: Path, base: Path | None) -> tuple[Base, LoraConfig, TilesConfig]:
    """The base where it is now, the adapters' settings, the tiles.

    Raises DataError when there is none at that place, or another one.
    """
    record = read_json(folder / "config.json")
    try:
        recorded = Base(record["base"]["kind"], Path(record["base"]["path"]), dict(record["base"]["hashes"]))
        config, tiles = LoraConfig(**record["lora"]), TilesConfig(**record["tiles"])
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise DataError(f"not the config of an adapter: {error}", where=folder / "config.json") from None
    named = os.environ.get(BASE_VARIABLE)
    path = base or (Path(named) if named else recorded.path)
    if not (path / "config.json").is_file():
        fix = f"give its place: --base where a command has it, or the environment variable {BASE_VARIABLE}"
        raise DataError(f"the base of the adapter in {folder} is not there", where=path, fix=fix)
    found = Base.of(path)
    if different := sorted(_different(recorded.hashes, found.hashes)):
        text = f"not the base that the adapter in {folder} was trained on: {', '.join(different[:3])} differ"
        raise DataError(text, where=path, fix="give the directory that it was trained on, or train another adapter")
    return found, config, tiles


def _different(first: Mapping[str, str], second: Mapping[str, str]) -> set[str]:
    return {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}
