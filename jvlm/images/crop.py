"""Parts of pictures, for training on few of them. Nothing is flipped: left and right mean something."""

import numpy as np
from PIL import Image


def cropped(image: Image.Image, least: float, seed: tuple[int, ...]) -> Image.Image:
    """A part of the picture at random, of its shape and of `least` to all of its area; the same for the same seed."""
    share, right, down = np.random.default_rng(seed).random(3)
    side = np.sqrt(least + (1 - least) * share)
    width, height = (max(1, round(length * side)) for length in image.size)
    left, top = int(right * (image.width - width + 1)), int(down * (image.height - height + 1))
    return image.crop((left, top, left + width, top + height))
