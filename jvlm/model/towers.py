"""Ready image towers: read out of whatever directory holds one, at another image size where that is wanted.

``jvlm_tower`` is a directory of a tower alone. A CLIP trained here (``jvlm_clip``) and a vision-language model
(``jvlm``) hold one as well.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_clip.model import resize_pos_embed
from safetensors import SafetensorError
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from jvlm.errors import DataError, UsageError
from jvlm.files import new_folder, read_json, verify_folder, write_json
from jvlm.model.config import VisionConfig
from jvlm.model.directory import TOWER, WEIGHTS, load_named_tensors
from jvlm.model.tensors import TensorFolder, plan_files, write_tensors
from jvlm.model.vision import VisionTower, build_tower

_BEFORE_NAMES = {TOWER: "", "jvlm_clip": "", "jvlm": "tower."}  # of the tower's weights, by the kind of directory


def tower_config(folder: Path) -> VisionConfig:
    """Shape of the tower that a directory holds. Raises UsageError for one without."""
    return _read_config(folder)[1]


def load_tower(folder: Path, **changes: Any) -> VisionTower:
    """The tower of a directory, verified against its hashes, with `changes` to its config.

    At another `image_size` the position embedding is interpolated. Raises DataError for a directory that is damaged,
    UsageError for one without a tower.
    """
    kind, config = _read_config(folder)
    verify_folder(folder)
    before = _BEFORE_NAMES[kind]
    try:
        stored = TensorFolder(folder, WEIGHTS)
        names = [name for name in stored if name.startswith(f"{before}visual.")]
        tensors = {name.removeprefix(before): stored[name] for name in names}
        return filled_tower(config.changed(**changes), tensors, folder)
    except SafetensorError as error:
        raise DataError(f"cannot be loaded: {error}", where=folder) from None


def save_tower(folder: Path, tower: VisionTower) -> None:
    """Write a directory of a tower alone."""
    with new_folder(folder) as new:
        write_json(new / "config.json", {"model_type": TOWER, "vision": tower.config.model_dump()})
        plan = plan_files(WEIGHTS, {name: p.shape for name, p in tower.named_parameters()})
        write_tensors(new, WEIGHTS, tower.named_parameters(), plan)


def filled_tower(config: VisionConfig, tensors: Mapping[str, Tensor], where: object) -> VisionTower:
    """A tower with these weights, ``visual.…`` in open_clip's words; positions are fitted to the image size.

    Raises DataError when they do not fit.
    """
    try:
        tower = build_tower(config)
    except TypeError as error:  # a description in the words of another version
        raise DataError(f"the open_clip that is installed cannot build it: {error}", where=where) from None
    derived = {name for name, _ in tower.named_buffers()} - tower.state_dict().keys()  # older checkpoints hold them
    weights = {name: tensor.float() for name, tensor in tensors.items() if name not in derived}
    load_named_tensors(tower, fit_positions(weights, tower, where), where)
    return tower.eval()


def fit_positions(weights: dict[str, Tensor], tower: VisionTower, where: object) -> dict[str, Tensor]:
    """The position embedding bicubically interpolated to the tower's grid, the class token's left as it is."""
    plain, trunks = "visual.positional_embedding", "visual.trunk.pos_embed"
    if plain in weights:
        _check_square(len(weights[plain]) - 1, where)
        resize_pos_embed(weights, tower)  # replaces it, if need be
    elif trunks in weights:
        trunk = tower.visual.trunk
        others = 0 if trunk.no_embed_class else trunk.num_prefix_tokens
        _check_square(weights[trunks].shape[1] - others, where)
        grid = list(trunk.patch_embed.grid_size)
        weights[trunks] = resample_abs_pos_embed(weights[trunks], grid, num_prefix_tokens=others)
    return weights


def _check_square(patches: int, where: object) -> None:
    if math.isqrt(patches) ** 2 != patches:
        raise DataError(f"a position embedding of {patches} patches, which are no square", where=where)


def _read_config(folder: Path) -> tuple[str, VisionConfig]:
    record = read_json(folder / "config.json")
    kind = record.get("model_type")
    if kind not in _BEFORE_NAMES:
        fix = "name one of a tower, a CLIP or a vision-language model; `jvlm import` makes one of an open_clip model"
        raise UsageError(f"a directory of {kind!r} holds no image tower", where=folder, fix=fix)
    try:
        return kind, VisionConfig(**record["vision"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"cannot be loaded: {error}", where=folder / "config.json") from None
