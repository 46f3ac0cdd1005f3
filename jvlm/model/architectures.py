"""Shapes of open_clip's image towers, from its own descriptions of them. Free of torch, as recipes are.

open_clip holds a JSON file for each architecture it knows by name, and a published model brings one of the same form.
What concerns the image tower is kept in a model's config, so that a directory does not depend on the list of the
version that is installed.
"""

import difflib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

Channels = tuple[float, float, float]

OPENAI: tuple[Channels, Channels] = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Mean and deviation of pixels that open_clip takes unless a model says otherwise."""
HALVES: tuple[Channels, Channels] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Those of SigLIP and of PE; their descriptions leave them to the weights."""

# (width, blocks) of the ViTs that are only named in a description: timm has their shape
_TIMM_VITS = {
    "eva_giant": (1408, 40),
    "eva02_base_clip": (768, 12),
    "eva02_enormous_clip": (1792, 64),
    "eva02_large_clip": (1024, 24),
    "vit_base_siglip": (768, 12),
    "vit_giantopt_siglip": (1536, 40),
    "vit_large_clip": (1024, 24),
    "vit_large_siglip": (1024, 24),
    "vit_pe_core_base": (768, 12),
    "vit_pe_core_gigantic": (1536, 50),
    "vit_pe_core_large": (1024, 24),
    "vit_pe_core_small": (384, 12),
    "vit_pe_core_tiny": (192, 12),
    "vit_so400m_siglip": (1152, 27),
}
_TIMM_NAME = re.compile(r"(?P<family>.+)_patch(?P<patch>\d+)(?P<kind>_[a-z]+)?_\d+")  # vit_base_patch16_siglip_224


def architecture(name: str) -> dict[str, Any]:
    """open_clip's description of the image tower of the architecture `name`. Raises ValueError for one it has not."""
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        raise ValueError("open_clip is not installed: pip install open_clip_torch")
    files = {file.stem: file for file in (Path(found.origin).parent / "model_configs").glob("*.json")}
    if name not in files:
        near = difflib.get_close_matches(name, files, n=3, cutoff=0.4)
        raise ValueError(f"open_clip has no architecture {name!r}" + (f", but {', '.join(near)}" if near else ""))
    return image_part(json.loads(files[name].read_bytes()))


def image_part(model_cfg: dict[str, Any]) -> dict[str, Any]:
    """What of a description of a CLIP (`model_cfg`) concerns the image tower. Raises ValueError when it has none."""
    if not isinstance(model_cfg.get("vision_cfg"), dict) or "embed_dim" not in model_cfg:
        raise ValueError("it has no vision_cfg or no embed_dim")
    return {
        "embed_dim": model_cfg["embed_dim"],
        "quick_gelu": model_cfg.get("quick_gelu", False),
        "vision_cfg": model_cfg["vision_cfg"],
    }


def fixed_shape(description: dict[str, Any]) -> dict[str, int]:
    """The fields of a VisionConfig that a description (`image_part`) settles. Raises ValueError for what is no ViT."""
    vision = description["vision_cfg"]
    shape = {"embed_dim": description["embed_dim"]}
    if name := vision.get("timm_model_name"):
        parts = _TIMM_NAME.fullmatch(name)
        known = _TIMM_VITS.get(parts["family"] + (parts["kind"] or "")) if parts else None
        if parts is None or known is None:
            raise ValueError(f"{name} is no ViT of which the shape is known: name it as timm_model, with its shape")
        return shape | {"width": known[0], "layers": known[1], "patch_size": int(parts["patch"])}
    layers, patch = vision.get("layers", 12), vision.get("patch_size", 16)
    if isinstance(layers, list):
        raise ValueError("a ResNet has no features in one place: name a ViT, or a convolutional trunk as timm_model")
    if not isinstance(patch, int):
        raise ValueError(f"patches of {patch}: only square ones are read")
    return shape | {
        "width": vision.get("width", 768),
        "layers": layers,
        "patch_size": patch,
        "head_width": vision.get("head_width", 64),
    }


def default_input(description: dict[str, Any]) -> dict[str, Any]:
    """Image size, mean and std that go with a description; weights may have others. Raises ValueError if not square."""
    vision = description["vision_cfg"]
    parts = _TIMM_NAME.fullmatch(vision.get("timm_model_name", ""))
    halves = parts is not None and (parts["kind"] == "_siglip" or parts["family"].startswith("vit_pe_core_"))
    mean, std = HALVES if halves else OPENAI
    return {"image_size": side(vision.get("image_size", 224)), "mean": mean, "std": std}


def side(size: int | list[int]) -> int:
    """Side of a square image. Raises ValueError for another."""
    if isinstance(size, int):
        return size
    if len(set(size)) != 1:
        raise ValueError(f"images of {' × '.join(map(str, size))} pixels: only square ones are read")
    return size[0]
