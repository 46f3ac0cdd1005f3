"""jvlm: the open, complete recipe and toolkit for Japanese vision-language models."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jvlm.infer.generate import VisionLanguageModel
    from jvlm.model.quantized import Weights

__version__ = "0.1.0"


def load(
    folder: str | Path,
    batch_size: int = 64,
    *,
    weights: "Weights" = "full",
    compile: bool = False,
    base: Path | None = None,
    device: str | None = None,
) -> "VisionLanguageModel":
    """Load a model directory for inference; see `jvlm.infer.generate.VisionLanguageModel`.

    With `weights="int8"` or `"int4"` its linear layers take a quarter or a seventh of the memory (extra `quant`).
    `compile` has the steps of writing compiled here and now, which takes half a minute and a C++ compiler, for answers
    that come faster. `base`: of an adapter, the directory it was trained on, where that is no longer at its recorded
    path. `device` is torch's name for where it computes: the GPU, if there is one and nothing else is said.
    """
    from jvlm.infer.generate import load_model  # torch takes seconds to import: only when it is needed

    return load_model(folder, batch_size, weights=weights, compile=compile, base=base, device=device)
