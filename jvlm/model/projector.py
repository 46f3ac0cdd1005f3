"""From patch features to image tokens: pixel-shuffle, standardisation, a perceptron of one hidden layer, RMS norm.

Pixel-shuffle folds each `shuffle` × `shuffle` block of neighbouring patches into one token, so that an image
costs the language model fewer tokens and keeps its detail in the channels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jvlm.model.config import ProjectorConfig, VisionConfig

# What stands in a cell is held at RMS 1, where no block's writing outgrows it, and the cell's place at 0.3 of that.
# Left to grow by itself, content drowned the place in every cell that had any: nothing could be found (docs/log.md).
POSITION_STD = 0.3
LINEAR_GAIN = math.sqrt(3)  # makes good for torch's initial weights, which give a third of the variance


class Projector(nn.Module):
    """``[N, grid², feature_width]`` → ``[N, (grid / shuffle)², hidden_size of the language model]``.

    Every folded channel is standardised over a sample of images (`fit`), not over the channels of one token as a
    layer norm does; a small language model that got layer-normed tokens read no colours (docs/log.md). Shift and
    gain then learn on, as in ActNorm (Kingma and Dhariwal 2018).
    """

    def __init__(self, config: ProjectorConfig, vision: VisionConfig, language_size: int) -> None:
        super().__init__()
        self.shuffle, self.grid = config.shuffle, vision.grid
        folded = vision.feature_width * config.shuffle**2
        self.mean = nn.Parameter(torch.zeros(folded))
        self.gain = nn.Parameter(torch.ones(folded))
        self.hidden = nn.Linear(folded, 2 * language_size)
        self.output = nn.Linear(2 * language_size, language_size)
        self.size = nn.Parameter(torch.ones(language_size))
        # a convolutional tower hardly says where a feature stands, and rotary positions only say how far off
        self.position = nn.Parameter(torch.randn((vision.grid // config.shuffle) ** 2, language_size) * POSITION_STD)

    def forward(self, features: Tensor) -> Tensor:
        standard = (self.fold(features) - self.mean) * self.gain
        content = self.output(F.gelu(self.hidden(standard) * LINEAR_GAIN))
        return F.rms_norm(content, content.shape[-1:]) * self.size + self.position

    def fold(self, features: Tensor) -> Tensor:
        """``[N, grid², width]`` → ``[N, (grid / shuffle)², shuffle² · width]``: neighbouring patches side by side."""
        number, _, width = features.shape
        side, fold = self.grid // self.shuffle, self.shuffle
        # [N, side, fold, side, fold, C] -> [N, side, side, fold, fold, C] -> [N, side², fold²·C]
        blocks = features.view(number, side, fold, side, fold, width).transpose(2, 3)
        return blocks.reshape(number, side * side, fold * fold * width)

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Set shift and gain so that every channel of these ``[N, grid², width]`` has mean 0 and deviation 1.

        A channel that never varies is left out of scaling.
        """
        folded = self.fold(features).flatten(0, 1)
        deviation = folded.std(0, correction=0)
        self.mean.copy_(folded.mean(0))
        self.gain.copy_(torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), 1.0))
