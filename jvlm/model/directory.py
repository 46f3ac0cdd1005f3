"""Model directories: config.json + weights in safetensors + tokenizer files, in the Hugging Face layout.

What a directory holds is said by `model_type` in its config.json, never by its name:
``llama``, ``mixtral`` and the other types of `jvlm.model.language` (plain transformers directories), ``jvlm`` (tower +
projector + language model), ``jvlm_clip``, ``jvlm_tower`` (an image tower alone, read by `jvlm.model.towers`),
``jvlm_adapter`` (what was learned beside the weights of another directory, read by `jvlm.model.adapter`).
Only safetensors and JSON are read. Every directory carries `hashes.json` and is verified when it is loaded.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from torch import Tensor, nn
from transformers import PreTrainedConfig

from jvlm.errors import DataError, JvlmError, UsageError
from jvlm.files import new_folder, read_json, verify_folder, write_json
from jvlm.model.config import ProjectorConfig, TilesConfig, VisionConfig
from jvlm.model.experts import split_experts, stack_experts
from jvlm.model.jvlm import JvlmModel
from jvlm.model.language import CLASSES, LanguageModel, language_model_from
from jvlm.model.processor import Processor
from jvlm.model.tensors import TensorFolder, plan_files, write_tensors
from jvlm.model.vision import build_clip, build_tower
from jvlm.text.tokenizer import Tokenizer

WEIGHTS = "model"  # the stem of their files
TOWER = "jvlm_tower"
ADAPTER = "jvlm_adapter"
KINDS = (*CLASSES, "jvlm", "jvlm_clip", TOWER, ADAPTER)
_LAYERS = ("num_hidden_layers", "layers", "text_layers")
_OLDER_SPELLING = ("rope_theta", "rope_scaling", "torch_dtype", "dtype")


@dataclass(frozen=True)
class Loaded:
    """A model with the processor that feeds it. `model` is a LanguageModel, a JvlmModel or open_clip's CLIP."""

    kind: str
    model: Any
    processor: Processor


def load_named_tensors(model: nn.Module, tensors: Mapping[str, Tensor], where: object) -> None:
    """Copy `tensors` into the parameters. Raises DataError naming what is missing, unknown or of another shape."""
    copy_tensors(dict(model.named_parameters()), tensors, where)


def copy_tensors(parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor], where: object) -> None:
    """Copy `tensors` into parameters of the same names. Raises as `load_named_tensors`."""
    missing, unknown = parameters.keys() - tensors.keys(), tensors.keys() - parameters.keys()
    if missing or unknown:
        raise DataError(
            f"weights do not fit: missing {sorted(missing)[:3]}, unknown {sorted(unknown)[:3]}", where=where
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != tensors[name].shape:
                shapes = f"{tuple(tensors[name].shape)} instead of {tuple(parameter.shape)}"
                raise DataError(f"{name} has shape {shapes}", where=where)
            parameter.copy_(tensors[name])


def language_config_record(config: PreTrainedConfig) -> dict[str, Any]:
    """config.json of a language model in both spellings: readers older than transformers 5 look for `rope_theta`,
    `rope_scaling` and `torch_dtype`, and fall back to wrong values in silence when they are not there.

    What is None is left out, but where a reader would put another value for it: a Mistral without a sliding window.
    """
    record = json.loads(config.to_json_string(use_diff=False))
    config_class, model_class = CLASSES[record["model_type"]]
    default = vars(config_class())
    record = {
        key: value
        for key, value in record.items()
        if not key.startswith("_") and (value is not None or default.get(key) is not None)
    }
    record["architectures"] = [model_class.__name__]
    rope = dict(record["rope_parameters"])
    record["rope_theta"] = rope.pop("rope_theta")
    if rope["rope_type"] != "default":
        record["rope_scaling"] = rope
    record["dtype"] = record["torch_dtype"] = "float32"
    return record


def save_model(folder: Path, model: nn.Module, processor: Processor) -> None:
    """Write a directory: a language model as transformers publishes it, a JvlmModel, or open_clip's CLIP."""
    with new_folder(folder) as new:
        write_model_files(model, processor, new)
        plan = plan_files(WEIGHTS, {name: p.shape for name, p in split_experts(model.named_parameters())})
        write_tensors(new, WEIGHTS, split_experts(model.named_parameters()), plan)


def write_model_files(model: nn.Module, processor: Processor, folder: Path) -> None:
    """Everything of a directory but the weights."""
    write_json(folder / "config.json", _config_record(model, processor))
    processor.tokenizer.save(folder)
    if not isinstance(model, CLIP):
        (folder / "chat_template.jinja").write_text(processor.chat_template(), encoding="utf-8")


def _config_record(model: nn.Module, processor: Processor) -> dict[str, Any]:
    if isinstance(model, LanguageModel):
        return language_config_record(model.config)
    if isinstance(model, JvlmModel):
        return {
            "model_type": "jvlm",
            "architectures": ["JvlmModel"],
            "language": language_config_record(model.language.config),
            "vision": model.vision_config.model_dump(),
            "projector": model.projector_config.model_dump(),
            "tiles": processor.tiles.model_dump(),
        }
    assert isinstance(model, CLIP)
    assert processor.vision is not None
    bias = model.logit_bias is not None
    return {"model_type": "jvlm_clip", "vision": processor.vision.model_dump(), "logit_bias": bias}


def read_kind(folder: Path) -> tuple[str | None, dict[str, Any]]:
    """What a directory says it holds, and its config. Raises DataError when it is no model directory."""
    path = folder / "config.json"
    if not path.is_file():
        raise DataError("not a model directory: config.json is missing", where=folder)
    config = read_json(path)
    if not isinstance(config, dict):
        raise DataError("not a JSON object", where=path)
    return config.get("model_type"), config


def load_directory(folder: Path, base: Path | None = None) -> Loaded:
    """Read a model directory onto the CPU in float32, verified against its hashes.

    An adapter is added to the weights of its base, which is looked for where `jvlm.model.adapter` says, or at `base`.
    Raises DataError, or UsageError for an image tower alone: it has no processor.
    """
    folder = Path(folder)
    if (folder / "config.json").is_file():
        verify_folder(folder)  # before anything of it is believed
    kind, config = read_kind(folder)
    if kind == ADAPTER:
        from jvlm.model.adapter import load_merged  # which reads its base by this function

        return load_merged(folder, base)
    if kind == TOWER:
        fix = "name it as align.tower in a recipe, which makes a vision-language model of it"
        raise UsageError("this is an image tower alone", where=folder, fix=fix)
    if kind not in KINDS:
        raise DataError(f"unknown model_type {kind!r}", where=folder / "config.json", fix=f"known: {', '.join(KINDS)}")
    tokenizer, weights = Tokenizer.load(folder), TensorFolder(folder, WEIGHTS)
    try:
        _refuse_giants(kind, config, tokenizer, weights)
        model, processor = _build(kind, config, tokenizer)
        load_named_tensors(model, stack_experts(weights), folder)
    except JvlmError as error:
        raise DataError(f"cannot be loaded: {error.what}", where=error.where or folder, fix=error.fix) from None
    except Exception as error:  # over values that they do not expect other libraries raise anything
        told = str(error).partition("\n")[0]  # what follows may show addresses
        raise DataError(f"cannot be loaded: {told}", where=folder) from None
    return Loaded(kind, model.eval(), processor)


def _refuse_giants(kind: str, config: dict[str, Any], tokenizer: Tokenizer, weights: TensorFolder) -> None:
    """Before anything is allocated: a config may not describe a model much larger than its weights."""
    for name, value in _leaves(config):
        if name in _LAYERS and isinstance(value, int) and value > len(weights):
            raise DataError(f"config.json has {name} {value}, the weights have {len(weights)} tensors in all")
    with torch.device("meta"):
        described = sum(parameter.numel() for parameter in _build(kind, config, tokenizer)[0].parameters())
    held = sum(shape.numel() for shape in weights.shapes.values())
    if described > 2 * held:  # a smaller difference is told by the name of what does not fit
        raise DataError(f"config.json describes {described} parameters, the weights have {held}")


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """What is no dictionary in a config, with its name."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, below in value.items():
        yield from _leaves(below, str(key))


def _build(kind: str, config: dict[str, Any], tokenizer: Tokenizer) -> tuple[nn.Module, Processor]:
    processor = _processor(kind, config, tokenizer)
    if kind in CLASSES:
        return _language(config), processor
    vision, projector = processor.vision, processor.projector
    assert vision is not None
    if projector is None:
        sigmoid = config.get("logit_bias", False)
        return build_clip(vision, tokenizer.vocab_size, processor.pad, processor.end, sigmoid), processor
    return JvlmModel(_language(config["language"]), build_tower(vision), projector, processor.image_ids), processor


def load_processor(folder: Path) -> Processor:
    """What feeds the model of a directory; no weight is read. Raises DataError."""
    kind, config = read_kind(Path(folder))
    if kind == ADAPTER:
        from jvlm.model.adapter import adapted_processor  # which reads its base by this function

        return adapted_processor(Path(folder))
    if kind not in KINDS or kind == TOWER:
        raise DataError(f"model_type {kind!r} has no processor", where=Path(folder) / "config.json")
    try:
        return _processor(kind, config, Tokenizer.load(folder))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"cannot be loaded: {error}", where=folder) from None


def _processor(kind: str, config: dict[str, Any], tokenizer: Tokenizer) -> Processor:
    if kind in CLASSES:
        return Processor(tokenizer)
    if kind == "jvlm":
        return vision_language_processor(config, tokenizer)
    return Processor(tokenizer, VisionConfig(**config["vision"]))


def vision_language_processor(config: Mapping[str, Any], tokenizer: Tokenizer) -> Processor:
    """The processor that the config.json of a vision-language model describes."""
    vision, projector = VisionConfig(**config["vision"]), ProjectorConfig(**config["projector"])
    return Processor(tokenizer, vision, projector, TilesConfig(**config["tiles"]))


def _language(record: dict[str, Any]) -> LanguageModel:
    return language_model_from({key: value for key, value in record.items() if key not in _OLDER_SPELLING})
