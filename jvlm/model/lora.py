"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), through peft: W stays, (alpha / rank) · B · A learns.

A model with adapters is the class it was; its adapted layers have other names inside: ``PATH.base_layer.weight``,
``PATH.lora_A.default.weight`` ``[rank, in]``, ``PATH.lora_B.default.weight`` ``[out, rank]``, which begins as zeros.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from jvlm.errors import DataError, UsageError
from jvlm.model.config import LoraConfig
from jvlm.model.jvlm import JvlmModel
from jvlm.model.nf4 import to_nf4
from jvlm.model.quantized import to_int8

_NAME = "default"  # peft's of the only adapter
_A, _B = f".lora_A.{_NAME}.weight", f".lora_B.{_NAME}.weight"
_BLOCKS = re.compile(
    r"(?:language\.)?model\.layers\.\d+\."
    r"|tower\.visual\.(?:transformer\.resblocks|trunk\.blocks|trunk\.stages)\.(\d+)\."
)


def is_adapter(name: str) -> bool:
    """Whether the parameter of that name belongs to an adapter."""
    return ".lora_A." in name or ".lora_B." in name


def part_of(model: nn.Module, name: str) -> str:
    """The part of a model that a parameter or module belongs to; an image's marks go with the projector."""
    if not isinstance(model, JvlmModel):
        return "language"
    part = name.split(".", 1)[0]
    return "projector" if part == "markers" else part


def add_lora(model: nn.Module, config: LoraConfig, seed: int) -> list[str]:
    """Put adapters beside the layers that `config` names; returns these. The model computes what it did.

    Matrices of the decoder blocks of a language model and of the blocks of a tower that features come through; not the
    embeddings, the head, the projector, or the stacked experts of a mixture. `base_weights` are rounded first, those
    of the language model's adapted layers. Raises UsageError for a name that is no such layer's, when there is none,
    and where weights cannot be rounded.
    """
    from peft import LoraConfig as PeftConfig
    from peft import inject_adapter_in_model

    from jvlm.model.lora_attention import AttentionLora

    targets = _targets(model, config)
    if config.base_weights != "float32":
        _round([model.get_submodule(t) for t in targets if part_of(model, t) == "language"], config.base_weights)
    shape: dict[str, Any] = {"r": config.rank, "lora_alpha": config.alpha, "lora_dropout": config.dropout}
    settings = PeftConfig(target_modules=targets, **shape)
    settings._register_custom_module({nn.MultiheadAttention: AttentionLora})
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*get_apply_tensor_subclass.*")  # the base is never merged in place
        inject_adapter_in_model(settings, model)
    return targets


def _targets(model: nn.Module, config: LoraConfig) -> list[str]:
    found = list(_layers(model))
    wanted = config.targets
    if isinstance(wanted, str):
        parts = ("language", "tower") if wanted == "both" else (wanted,)
        lacking = [part for part in parts if not any(part_of(model, name) == part for name in found)]
        if lacking:
            raise UsageError(f"lora.targets is {wanted}, and the {lacking[0]} has no layer for an adapter")
        return [name for name in found if part_of(model, name) in parts]
    for target in wanted:
        if not any(_is_named(name, target) for name in found):
            known = sorted({name.rsplit(".", 1)[-1] for name in found})
            raise UsageError(f"lora.targets: no layer is named {target!r}", fix=f"known: {', '.join(known)}")
    return [name for name in found if any(_is_named(name, target) for target in wanted)]


def _is_named(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _layers(model: nn.Module) -> Iterator[str]:
    """Names of the layers that adapters are for, in order."""
    attention: str | None = None
    for name, module in model.named_modules():
        block = _BLOCKS.match(name)
        if block is None or (attention is not None and name.startswith(attention)):
            continue  # the projections inside of an attention belong to it
        if block[1] is not None and isinstance(model, JvlmModel):
            vision = model.vision_config
            if int(block[1]) > max(layer % vision.layers for layer in vision.feature_layers):
                continue  # no feature comes through it
        if isinstance(module, nn.MultiheadAttention):
            attention = f"{name}."
            yield name
        elif isinstance(module, nn.Linear):
            yield name


def _round(layers: Sequence[nn.Module], kind: str) -> None:
    for layer in layers:
        assert isinstance(layer, nn.Linear)
        if kind == "int8":
            to_int8(layer)
        else:
            to_nf4(layer)


def merge_lora(model: nn.Module, tensors: Mapping[str, Tensor], config: LoraConfig, where: object) -> None:
    """Add the updates among `tensors` to the weights of a model *without* adapters; whole weights replace its own.

    `tensors` are parameters of a model with adapters, by name. Raises DataError when they do not fit model or `config`.
    """
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in tensors:
            path = name.removesuffix(_A).removesuffix(_B)
            target = name if path == name else _weight_of(path, parameters)
            if target not in parameters or (path != name and not {path + _A, path + _B} <= tensors.keys()):
                raise DataError(f"the model has no place for {name}", where=where)
            weight = parameters[target]
            if path == name:
                _fits(name, tensors[name].shape, weight.shape, where)
                weight.copy_(tensors[name])
            elif name.endswith(_A):
                down, up = tensors[name], tensors[path + _B]
                # before they are multiplied: two small matrices may make a giant
                _fits(name, down.shape, (config.rank, weight.shape[1]), where)
                _fits(path + _B, up.shape, (weight.shape[0], config.rank), where)
                weight.add_((up.float() @ down.float()) * config.scaling)


def _fits(name: str, shape: Sequence[int], expected: Sequence[int], where: object) -> None:
    if tuple(shape) != tuple(expected):
        raise DataError(f"{name} has shape {tuple(shape)} instead of {tuple(expected)}", where=where)


def _weight_of(path: str, parameters: Mapping[str, nn.Parameter]) -> str:
    """The parameter that the adapter at `path` is for."""
    plain = path.replace(".base_layer", "")
    fused = f"{plain}.in_proj_weight"
    return fused if fused in parameters else f"{plain}.weight"
