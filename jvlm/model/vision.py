"""The vision side: open_clip's CLIP for contrastive training, its image tower for the vision-language model.

The image tower is open_clip's ViT or a timm trunk in open_clip's wrapper. Features are taken through
`forward_intermediates` only: the inside of open_clip's towers changes between versions. The text tower pools at the
end token, set explicitly: the default takes the largest token id, which is right for one particular tokenizer only.
"""

from typing import Any

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, nn

from jvlm.errors import UsageError
from jvlm.model.config import VisionConfig


def build_clip(config: VisionConfig, vocab_size: int, pad_id: int, end_id: int) -> CLIP:
    """open_clip's CLIP with our tokenizer's ids; randomly initialised by open_clip."""
    if config.timm_model:
        vision = CLIPVisionCfg(
            timm_model_name=config.timm_model, timm_pool="avg", timm_proj="linear", image_size=config.image_size
        )
    else:
        vision = CLIPVisionCfg(
            layers=config.layers,
            width=config.width,
            head_width=config.head_width,
            patch_size=config.patch_size,
            image_size=config.image_size,
            pool_type="avg",
        )
    return CLIP(
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
        """``[N, 3, S, S]`` uint8 → normalised float in the tower's type."""
        return (pixels.to(self.mean.dtype) / 255 - self.mean) / self.std

    def forward(self, pixels: Tensor) -> Tensor:
        """``[N, 3, S, S]`` uint8 → features ``[N, grid*grid, width]`` in reading order.

        Raises UsageError when the tower's features have another shape than the config says.
        """
        config = self.config
        out: dict[str, Any] = self.visual.forward_intermediates(
            self.normalise(pixels),
            indices=[config.feature_layer % config.layers],
            normalize_intermediates=config.timm_model is None,  # a ViT's last norm; a trunk's stages have none
            intermediates_only=True,
            output_fmt="NCHW" if config.timm_model else "NLC",  # convolutional trunks know no other
        )
        features: Tensor = out["image_intermediates"][0]
        if config.timm_model:
            features = features.flatten(2).transpose(1, 2)  # [N, C, h, w] -> [N, h*w, C]
        if features.shape[1:] != (config.grid**2, config.width):
            raise UsageError(
                f"the tower gives {features.shape[1]} features of width {features.shape[2]}, "
                f"patch_size {config.patch_size} and width {config.width} promise {config.grid**2} of {config.width}",
                fix="set patch_size to the stride of feature_layer and width to its channels",
            )
        return features


def build_tower(config: VisionConfig) -> VisionTower:
    """An image tower alone, with random weights (to be filled from a checkpoint)."""
    return VisionTower(config, build_clip(config, vocab_size=8, pad_id=0, end_id=1).visual)
