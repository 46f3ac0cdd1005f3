"""From patch features to the language model's width: pixel-shuffle, then a two-layer perceptron.

Pixel-shuffle folds each `shuffle` × `shuffle` block of neighbouring patches into one token, so that an image
costs the language model fewer tokens and keeps its detail in the channels.
"""

import torch
from torch import Tensor, nn

from jvlm.model.config import ProjectorConfig, VisionConfig

TOKEN_STD = 0.1  # about the size of a trained token embedding


class Projector(nn.Module):
    """``[N, grid², width]`` → ``[N, (grid / shuffle)², hidden_size of the language model]``."""

    def __init__(self, config: ProjectorConfig, vision: VisionConfig, language_size: int) -> None:
        super().__init__()
        self.shuffle, self.grid = config.shuffle, vision.grid
        folded = vision.width * config.shuffle**2
        self.norm = nn.LayerNorm(folded)
        self.layers = nn.Sequential(
            nn.Linear(folded, config.hidden_size), nn.GELU(), nn.Linear(config.hidden_size, language_size)
        )
        # without a norm the image tokens grow to many times a word's size and drown what they say
        self.scale = nn.LayerNorm(language_size)
        nn.init.constant_(self.scale.weight, TOKEN_STD)
        # a convolutional tower hardly says where a feature stands, and rotary positions only say how far off
        self.position = nn.Parameter(torch.randn((vision.grid // config.shuffle) ** 2, language_size) * TOKEN_STD)

    def forward(self, features: Tensor) -> Tensor:
        number, _, width = features.shape
        side, fold = self.grid // self.shuffle, self.shuffle
        # [N, side, fold, side, fold, C] -> [N, side, side, fold, fold, C] -> [N, side², fold²·C]
        blocks = features.view(number, side, fold, side, fold, width).transpose(2, 3)
        tokens = self.layers(self.norm(blocks.reshape(number, side * side, fold * fold * width)))
        return self.scale(tokens) + self.position
