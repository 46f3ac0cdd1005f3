"""In from open_clip: the image tower of a published CLIP becomes a directory of ours.

Such a model is a folder of `open_clip_config.json` and safetensors, on the disk or on the Hugging Face hub. Its text
tower has a tokenizer of its own and is left behind; pixels are normalised as the model says (`preprocess_cfg`), but
never cropped as it says: a picture is seen whole.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jvlm.cards import README, carry_card
from jvlm.errors import DataError, UsageError
from jvlm.files import read_json, write_text
from jvlm.model.architectures import image_part
from jvlm.model.config import VisionConfig
from jvlm.model.tensors import TensorFolder
from jvlm.model.towers import filled_tower, save_tower

HUB = "hf-hub:"
CONFIG = "open_clip_config.json"
_STEMS = ("open_clip_model", "open_clip_pytorch_model", "model")  # of the weights, as open_clip looks for them


def is_open_clip(source: str) -> bool:
    """Whether `source` is ``hf-hub:NAME`` or a folder that holds a model of open_clip."""
    return source.startswith(HUB) or (Path(source) / CONFIG).is_file()


def adopt_tower(source: str, target: Path) -> str:
    """Write the image tower of `source` to `target`; returns what it is, in words. Weights become float32.

    Raises UsageError when `target` exists, DataError for files that are missing, pickled or do not fit, and for a
    model that is not to be had from the hub.
    """
    if target.exists():
        raise UsageError("the target exists already", where=target, fix="name a new directory")
    folder = _folder(source, weights=True)
    config = _config(folder)
    stored = _weights(folder)
    tower = filled_tower(config, {name: stored[name] for name in stored if name.startswith("visual.")}, folder)
    save_tower(target, tower)
    if source.startswith(HUB):
        write_text(target / README, hub_card(source))
    else:
        carry_card([folder], target, "Brought in by `jvlm import`, without its text tower; weights are float32.")
    parameters = sum(p.numel() for p in tower.parameters())
    shape = f"{config.layers} blocks of width {config.width}, {config.image_size} px in patches of {config.patch_size}"
    return f"image tower with {parameters:,} parameters ({shape}); its text tower is left behind"


def adopted_config(source: str) -> VisionConfig:
    """The shape that the tower of `source` would have. Raises as `adopt_tower` does."""
    return _config(_folder(source, weights=False))


def hub_card(source: str) -> str:
    """The card of ``hf-hub:NAME`` on the hub or in its cache; nothing where it is not to be had."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(source.removeprefix(HUB), README)).read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return ""


def _config(folder: Path) -> VisionConfig:
    record, where = read_json(folder / CONFIG), folder / CONFIG
    try:
        pixels: dict[str, Any] = record.get("preprocess_cfg", {})
        given = {name: tuple(pixels[name]) for name in ("mean", "std") if pixels.get(name)}
        return VisionConfig(open_clip_cfg=image_part(record.get("model_cfg", record)), **given)
    except ValidationError as error:
        raise DataError(error.errors()[0]["msg"].removeprefix("Value error, "), where=where) from None
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"not a description of a CLIP: {error}", where=where) from None


def _weights(folder: Path) -> TensorFolder:
    endings = (".safetensors", ".safetensors.index.json")
    stem = next((stem for stem in _STEMS if any((folder / f"{stem}{end}").is_file() for end in endings)), None)
    if stem is None:
        fix = f"if you trust it: `jvlm convert-weights FILE.bin --out FOLDER/{_STEMS[0]}.safetensors`, beside {CONFIG}"
        raise DataError("no safetensors; pickled weights can run code and are not read", where=folder, fix=fix)
    return TensorFolder(folder, stem)


def _folder(source: str, weights: bool) -> Path:
    """The folder itself, or the files of the hub in the cache of huggingface_hub."""
    if not source.startswith(HUB):
        return Path(source)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    name = source.removeprefix(HUB)
    try:
        folder = Path(hf_hub_download(name, CONFIG)).parent
        for stem in _STEMS if weights else ():
            try:
                hf_hub_download(name, f"{stem}.safetensors")
                break
            except RemoteEntryNotFoundError:  # another stem may be there; that none is, is said of the folder
                continue
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        fix = "ask with `jvlm --online …`, or download it where the hub can be reached and name the folder"
        raise DataError(f"not to be had from the hub: {first}", where=source, fix=fix) from None
    return folder
