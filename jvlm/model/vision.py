"""The vision side: open_clip's CLIP for contrastive training, its image tower for the vision-language model.

The image tower is open_clip's ViT or a timm trunk in open_clip's wrapper. Features are taken through
`forward_intermediates` only: the inside of open_clip's towers changes between versions. The text tower pools at the
end token, set explicitly: the default takes the largest token id, which is right for one particular tokenizer only.
"""

import math
from typing import Any

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, nn

from jvlm.errors import UsageError
from jvlm.model.config import VisionConfig

# every patch is to come out, in training too, and nothing is downloaded
_OURS = {"patch_dropout": 0.0, "output_tokens": False, "timm_model_pretrained": False}


def build_clip(config: VisionConfig, vocab_size: int, pad_id: int, end_id: int, sigmoid: bool = False) -> CLIP:
    """open_clip's CLIP with our tokenizer's ids; randomly initialised by open_clip.

    With `sigmoid` it has a bias, and its temperature begins where the pairwise loss wants it (Zhai et al. 2023).
    """
    start = {"init_logit_scale": math.log(10), "init_logit_bias": -10.0} if sigmoid else {}
    vision = _vision_cfg(config)
    clip = CLIP(
        embed_dim=config.embed_dim,
        vision_cfg=vision,
        text_cfg=CLIPTextCfg(
            context_length=config.text_length,
            vocab_size=vocab_size,
            width=config.text_width,
            heads=max(1, config.text_width // 32),
            layers=config.text_layers,
            pad_id=pad_id,
            eos_id=end_id,
            pool_type="eos",
        ),
        quick_gelu=(config.open_clip_cfg or {}).get("quick_gelu", False),
        **start,
    )
    if vision.timm_model_name:
        clip.visual.set_input_size(config.image_size)  # a ViT's; convolutions take any
    return clip


def _vision_cfg(config: VisionConfig) -> CLIPVisionCfg:
    if config.open_clip_cfg:
        return CLIPVisionCfg(**(config.open_clip_cfg["vision_cfg"] | {"image_size": config.image_size} | _OURS))
    if config.timm_model:
        return CLIPVisionCfg(
            timm_model_name=config.timm_model, timm_pool="avg", timm_proj="linear", image_size=config.image_size
        )
    return CLIPVisionCfg(
        layers=config.layers,
        width=config.width,
        head_width=config.head_width,
        patch_size=config.patch_size,
        image_size=config.image_size,
        pool_type="avg",
    )


class VisionTower(nn.Module):
    """Images to patch features. `visual` is open_clip's tower, so its weights keep open_clip's names."""

    def __init__(self, config: VisionConfig, visual: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.visual: Any = visual  # open_clip's own class differs from tower to tower
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)

    def normalise(self, pixels: Tensor) -> Tensor:
        """``[N, 3, S, S]`` uint8 → normalised float in the tower's type, on the pixels' device."""
        mean, std = self.mean.to(pixels.device), self.std.to(pixels.device)
        return (pixels.to(mean.dtype) / 255 - mean) / std

    def forward(self, pixels: Tensor) -> Tensor:
        """``[N, 3, S, S]`` uint8 → features ``[N, grid*grid, feature_width]``: patches in reading order, and the
        `feature_layers` of each side by side, as they are listed.

        Raises UsageError when the tower's features have another shape than the config says.
        """
        config = self.config
        is_trunk = config.timm_model is not None
        layers = self._feature_layers()
        ascending = sorted(layers)
        out: dict[str, Any] = self.visual.forward_intermediates(
            self.normalise(pixels),
            indices=ascending,
            stop_early=True,  # blocks above the features would be computed for nothing
            normalize_intermediates=config.feature_norm and not is_trunk,  # a trunk's stages have no norm
            intermediates_only=True,
            output_fmt="NCHW" if is_trunk else "NLC",  # convolutional trunks know no other
        )
        found: list[Tensor] = out["image_intermediates"]
        if is_trunk:
            found = [features.flatten(2).transpose(1, 2) for features in found]  # [N, C, h, w] -> [N, h*w, C]
        for features in found:
            if features.shape[1:] != (config.grid**2, config.width):
                raise UsageError(
                    f"the tower gives {features.shape[1]} features of width {features.shape[2]}, "
                    f"patch_size {config.patch_size} and width {config.width} promise {config.grid**2} of "
                    f"{config.width}",
                    fix="set patch_size to the stride of the layer and width to its channels",
                )
        ordered = [found[ascending.index(layer)] for layer in layers]
        return ordered[0] if len(ordered) == 1 else torch.cat(ordered, dim=-1)

    def learn_only_top(self, layers: int) -> None:
        """Freeze everything but the uppermost `layers` blocks that features come through, and the last norm.

        Raises UsageError for a trunk whose stages are no blocks, and when there are fewer blocks than that.
        """
        if self.config.timm_model is not None:
            raise UsageError("tower_layers counts the blocks of a ViT, and this is a timm trunk", fix="leave it out")
        trunk = getattr(self.visual, "trunk", None)
        blocks = self.visual.transformer.resblocks if trunk is None else trunk.blocks
        norm = self.visual.ln_post if trunk is None else trunk.norm
        used = blocks[: max(self._feature_layers()) + 1]
        if layers > len(used):
            raise UsageError(f"tower_layers {layers}: the features come through {len(used)} blocks")
        self.requires_grad_(False)
        for part in [*used[len(used) - layers :], *([norm] if self.config.feature_norm else [])]:
            part.requires_grad_(True)

    def _feature_layers(self) -> list[int]:
        return [layer % self.config.layers for layer in self.config.feature_layers]


def build_tower(config: VisionConfig) -> VisionTower:
    """An image tower alone, with random weights (to be filled from a checkpoint)."""
    return VisionTower(config, build_clip(config, vocab_size=8, pad_id=0, end_id=1).visual)
