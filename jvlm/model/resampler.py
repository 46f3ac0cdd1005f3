"""Any number of patches to a fixed number of tokens, by cross-attention from learned queries.

One layer, as in Qwen-VL (Bai et al. 2023), after Flamingo's resampler (Alayrac et al. 2022): attention itself does not
know where a patch stands, so every key has its row and column added.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jvlm.model.config import ProjectorConfig, VisionConfig

HEAD_WIDTH = 64
QUERY_STD = 0.02
LONGEST_WAVE = 10_000


class Resampler(nn.Module):
    """``[N, grid², feature_width]`` → ``[N, queries, hidden]``."""

    def __init__(self, config: ProjectorConfig, vision: VisionConfig, language_size: int) -> None:
        super().__init__()
        assert config.queries is not None
        self.heads = _heads(language_size)
        self.queries = nn.Parameter(torch.randn(config.queries, language_size) * QUERY_STD)
        self.features = nn.Linear(vision.feature_width, language_size, bias=False)
        self.norm_features = nn.LayerNorm(language_size)
        self.norm_queries = nn.LayerNorm(language_size)
        self.query = nn.Linear(language_size, language_size)
        self.key = nn.Linear(language_size, language_size)
        self.value = nn.Linear(language_size, language_size)
        self.norm_seen = nn.LayerNorm(language_size)
        self.output = nn.Linear(language_size, language_size)
        self.position: Tensor
        self.register_buffer("position", positions(vision.grid, language_size), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        content = self.norm_features(self.features(features))  # [N, grid², hidden]
        query = self.query(self.norm_queries(self.queries)).expand(len(features), -1, -1)
        key, value = self.key(content + self.position), self.value(content)
        # [N, heads, queries, hidden / heads]
        seen = F.scaled_dot_product_attention(self._split(query), self._split(key), self._split(value))
        out: Tensor = self.output(self.norm_seen(seen.transpose(1, 2).flatten(2)))
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


def positions(grid: int, width: int) -> Tensor:
    """``[grid², width]``: sines and cosines of the row, then of the column; what a width has beyond a four is 0."""
    waves = width // 4
    rates = LONGEST_WAVE ** -(torch.arange(waves) / max(1, waves))
    angles = torch.arange(grid)[:, None] * rates  # [grid, waves]
    along = torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = along[:, None].expand(-1, grid, -1), along[None].expand(grid, -1, -1)
    table = torch.cat([rows, columns], -1).flatten(0, 1)
    return F.pad(table, (0, width - table.shape[1]))


def _heads(width: int) -> int:
    """As many heads as there are `HEAD_WIDTH` channels, or the next smaller number that divides the width."""
    return next(heads for heads in range(max(1, width // HEAD_WIDTH), 0, -1) if width % heads == 0)
