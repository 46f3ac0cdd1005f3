"""open_clip's image towers as transformers' own: its ViT as CLIPVisionModel, SigLIP's timm ViT as SiglipVisionModel.

Tensors are renamed, not changed; query, key and value, one matrix in both libraries' ViTs, are three in transformers.
What a tower has beyond that (or lacks) shows in its names and shapes, which must be those of the transformers class.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.transformer import VisionTransformer as ClipViT
from timm.models.vision_transformer import Block
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel
from transformers.activations import ACT2FN

from jvlm.model.vision import VisionTower

ACTIVATIONS = ("gelu", "quick_gelu", "gelu_pytorch_tanh")

_CLASSES: dict[str, tuple[Any, Any]] = {
    "clip_vision_model": (CLIPVisionConfig, CLIPVisionModel),
    "siglip_vision_model": (SiglipVisionConfig, SiglipVisionModel),
}
_CLIP_NAMES = (
    (r"^conv1\.", "embeddings.patch_embedding."),
    (r"^class_embedding$", "embeddings.class_embedding"),
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^ln_pre\.", "pre_layrnorm."),  # transformers' spelling
    (r"^transformer\.resblocks\.", "encoder.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.attn\.in_proj_", ".self_attn.qkv."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"^ln_post\.", "post_layernorm."),
)
_SIGLIP_NAMES = (
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^pos_embed$", "embeddings.position_embedding.weight"),
    (r"^blocks\.", "encoder.layers."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"\.attn\.qkv\.", ".self_attn.qkv."),
    (r"\.attn\.proj\.", ".self_attn.out_proj."),
    (r"^(fc_)?norm\.", "post_layernorm."),  # a pooling trunk has its last norm behind the pooling
)
_POOLING = re.compile(r"proj$|head\.|attn_pool\.")  # what comes behind the features


@dataclass(frozen=True)
class ConvertedTower:
    """A tower of transformers: the settings that matter of its config, tensors by its names, and what it cannot be."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    obstacles: list[str]

    @property
    def has_class_token(self) -> bool:
        return self.config.get("model_type") == "clip_vision_model"


def convert_tower(tower: VisionTower) -> ConvertedTower:
    """The tower in transformers' terms. Without an equivalent, `obstacles` says why and the rest is of no use."""
    visual, image_size = tower.visual, tower.config.image_size
    if isinstance(visual, ClipViT):
        block: Any = visual.transformer.resblocks[0]
        tensors = _renamed(visual, _CLIP_NAMES)
        return _checked("clip_vision_model", tensors, visual, block.attn.num_heads, block.mlp.gelu, image_size)
    trunk = getattr(visual, "trunk", None)
    if isinstance(trunk, TimmViT) and isinstance(trunk.blocks[0], Block):
        block = trunk.blocks[0]
        tensors = _renamed(trunk, _SIGLIP_NAMES)
        return _checked("siglip_vision_model", tensors, trunk, block.attn.num_heads, block.mlp.act, image_size)
    kind = type(visual if trunk is None else trunk).__name__
    return ConvertedTower({}, {}, [f"a tower of the kind {kind} (open_clip's ViT and SigLIP have one)"])


def _renamed(module: nn.Module, names: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    tensor: Tensor
    for name, tensor in module.named_parameters():
        if _POOLING.match(name):
            continue
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        if name == "embeddings.position_embedding.weight":
            tensor = tensor.flatten(0, -2)  # timm's [1, places, width] -> [places, width]
        if ".qkv." in name:
            parts = zip(("q_proj", "k_proj", "v_proj"), tensor.chunk(3), strict=True)
            out |= {name.replace("qkv", part): matrix for part, matrix in parts}
        else:
            out[name] = tensor
    return out


def _checked(
    model_type: str, tensors: dict[str, Tensor], visual: nn.Module, heads: int, activation: nn.Module, image_size: int
) -> ConvertedTower:
    """Settings read off the tensors, and every name and shape held against the class that they make."""
    patches = tensors["embeddings.patch_embedding.weight"]  # [width, 3, side, side]
    first = tensors.get("encoder.layers.0.mlp.fc1.weight", patches)
    epsilons = {module.eps for module in visual.modules() if isinstance(module, nn.LayerNorm)}
    act = _activation(activation)
    config = {
        "model_type": model_type,
        "hidden_size": patches.shape[0],
        "intermediate_size": first.shape[0],
        "num_hidden_layers": sum(name.endswith("layer_norm1.weight") for name in tensors),
        "num_attention_heads": heads,
        "num_channels": patches.shape[1],
        "image_size": image_size,
        "patch_size": patches.shape[-1],
        "hidden_act": act,
        "layer_norm_eps": min(epsilons),
        "attention_dropout": 0.0,
    }
    if model_type == "siglip_vision_model":
        config["vision_use_head"] = False
    obstacles = []
    if act is None:
        obstacles.append(f"a tower with the activation {type(activation).__name__}")
    if len(epsilons) > 1:
        obstacles.append(f"a tower with layer norms of several epsilons ({sorted(epsilons)})")
    if odd := _odd_places(config | {"hidden_act": "gelu"}, tensors):
        obstacles.append(f"a tower with other parts than a {_CLASSES[model_type][1].__name__} ({', '.join(odd[:3])})")
    return ConvertedTower(config, tensors, obstacles)


def _odd_places(config: dict[str, Any], tensors: dict[str, Tensor]) -> list[str]:
    """Names that only one side has, or that have another shape there."""
    config_class, model_class = _CLASSES[config["model_type"]]
    with torch.device("meta"):
        model = model_class(config_class(**config))
    # in some versions the class wraps another of the name vision_model
    places = {name.removeprefix("vision_model."): p.shape for name, p in model.named_parameters()}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return sorted(name for name in places.keys() | shapes.keys() if places.get(name) != shapes.get(name))


def _activation(module: nn.Module) -> str | None:
    """The name transformers has for it, told by what it computes: every library has classes of its own."""
    values = torch.linspace(-6, 6, 121)
    for name in ACTIVATIONS:
        if torch.allclose(module(values), ACT2FN[name](values), atol=1e-6, rtol=0):
            return name
    return None
