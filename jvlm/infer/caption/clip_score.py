"""How well picture and caption go together, as a CLIP model sees it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from jvlm.errors import UsageError
from jvlm.model.contrast import caption_ids
from jvlm.model.directory import load_directory
from jvlm.model.vision import VisionTower

BATCH = 32


class ClipScores:
    """A CLIP of this project (`clip/model` of a run), asked for cosines. Raises UsageError for another model."""

    def __init__(self, folder: Path) -> None:
        loaded = load_directory(folder)
        if loaded.kind != "jvlm_clip":
            fix = "name one with images and texts, such as clip/model of a run"
            raise UsageError(f"holds a '{loaded.kind}' model, no CLIP", where=folder, fix=fix)
        assert loaded.processor.vision is not None
        self._processor, self._config = loaded.processor, loaded.processor.vision
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = loaded.model.to(self._device)
        self._normalise = VisionTower(self._config, self._model.visual).normalise

    def pixels(self, image: Image.Image) -> np.ndarray:
        """uint8 ``[1, 3, S, S]``, as the model sees a picture."""
        return self._processor.pixels(image)

    @torch.inference_mode()
    def scores(self, pixels: Sequence[np.ndarray], texts: Sequence[str]) -> list[float]:
        """The cosine of each picture and its text, -1 to 1, rounded to three digits."""
        found: list[float] = []
        for begin in range(0, len(texts), BATCH):
            chosen = slice(begin, begin + BATCH)
            ids = caption_ids(self._processor, list(texts[chosen]), self._config.text_length).to(self._device)
            views = torch.from_numpy(np.concatenate(pixels[chosen])).to(self._device)
            images = self._model.encode_image(self._normalise(views), normalize=True)
            words = self._model.encode_text(ids, normalize=True)
            found += (images * words).sum(1).double().tolist()
        return [round(score, 3) for score in found]
