"""What the adapters of a phase add to a plan, counted on the very modules, on tensors without memory."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from jvlm.model.config import LanguageConfig, LoraConfig, ProjectorConfig, VisionConfig

HELD = {"float32": 4.0, "int8": 1.0, "int4": 0.5}
"""Bytes of a weight beside adapters; the scales of rounded ones, a 30th more, are left out."""


@dataclass(frozen=True)
class Adapters:
    """Of one phase. `parameters` are counted by part; `saved`: bytes by which rounding makes the weights smaller."""

    parameters: Mapping[str, int]
    saved: float


def adapters_of(
    config: LoraConfig,
    language: LanguageConfig,
    vocab_size: int,
    vision: VisionConfig | None,
    projector: ProjectorConfig | None,
) -> Adapters:
    """Of a model of these shapes. Raises UsageError where `config` names no layer of it."""
    import torch  # which plans without adapters do without

    from jvlm.model.jvlm import JvlmModel
    from jvlm.model.language import build_language_model
    from jvlm.model.lora import add_lora, is_adapter, part_of
    from jvlm.model.processor import ImageIds
    from jvlm.model.vision import build_tower

    with torch.device("meta"):
        model: torch.nn.Module = build_language_model(language, vocab_size, 0, 1, 2)
        if vision is not None and projector is not None:
            model = JvlmModel(model, build_tower(vision), projector, ImageIds(3, 4, 5, 6))  # type: ignore[arg-type]
        targets = add_lora(model, config.model_copy(update={"base_weights": "float32"}), seed=0)
    found: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            found[part_of(model, name)] += parameter.numel()
    rounded = sum(
        model.get_parameter(f"{name}.base_layer.weight").numel()
        for name in targets
        if part_of(model, name) == "language"
    )
    return Adapters(dict(found), rounded * (HELD["float32"] - HELD[config.base_weights]))
