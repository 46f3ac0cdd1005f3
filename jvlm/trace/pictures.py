"""Vectors of pictures: the pooled features of an image tower, as a CLIP compares them with captions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from jvlm.model.processor import whole_view
from jvlm.model.towers import load_tower


class PictureVectors:
    """The tower of a model directory: a CLIP, a vision-language model or a tower alone."""

    def __init__(self, model: Path) -> None:
        self.tower = load_tower(model)

    def view(self, image: Image.Image) -> NDArray[np.uint8]:
        """[3, S, S]: a picture as the tower sees it; far smaller, often, than the picture."""
        return whole_view(image, self.tower.config)

    @torch.inference_mode()
    def __call__(self, views: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """[views, dimensions] float32 of length one."""
        features = self.tower.visual(self.tower.normalise(torch.from_numpy(np.stack(views))))
        found: NDArray[np.float32] = torch.nn.functional.normalize(features.float(), dim=-1).numpy()
        return found
