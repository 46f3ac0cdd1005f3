"""What a stage begins to train: a whole model, or one with adapters beside weights that stay as they are."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jvlm.model.adapter import Adapted, adapt, stored_names, write_adapter_files
from jvlm.model.directory import Loaded, load_directory, write_model_files
from jvlm.model.lora import is_adapter
from jvlm.model.processor import Processor
from jvlm.settings import Learning
from jvlm.train.loop import Stored
from jvlm.train.objectives.next_token import train_only


@dataclass(frozen=True)
class Start:
    """A loaded model, and how what it learns is to be written."""

    loaded: Loaded
    settings: Learning
    adapted: Adapted | None = None

    @classmethod
    def of(cls, source: Path, settings: Learning, seed: int) -> "Start":
        """The model of a directory. Raises as `load_directory` and `adapt`."""
        if settings.lora is None:
            return cls(load_directory(source), settings)
        adapted = adapt(source, settings.lora, seed)
        return cls(adapted.loaded, settings, adapted)

    def freeze(self) -> None:
        """Only what the settings name learns."""
        train_only(self.loaded.model, self.settings.train, self.settings.tower_layers)

    @property
    def rate_scale(self) -> dict[str, float]:
        """Learning-rate factors by prefix of the parameter name, an adapter's by its whole name."""
        tower = {"tower.": self.settings.tower_rate}
        if self.settings.lora is None:
            return tower
        names = [name for name, _ in self.loaded.model.named_parameters() if is_adapter(name)]
        rate = self.settings.lora.rate
        return {name: rate * (self.settings.tower_rate if name.startswith("tower.") else 1.0) for name in names} | tower

    @property
    def stored(self) -> Stored | None:
        """What checkpoints hold, once `freeze` was called; None: everything."""
        if self.adapted is None or self.settings.lora is None:
            return None
        names = stored_names(self.loaded.model, self.adapted.stored)
        return Stored(names, f"{self.adapted.base.fingerprint} {self.settings.lora.model_dump_json()}")

    def files_beside(self, processor: Processor) -> Callable[[Path], None]:
        """Writes everything of a model directory but the weights."""
        if self.adapted is None or self.settings.lora is None:
            return partial(write_model_files, self.loaded.model, processor)
        return partial(write_adapter_files, self.adapted.base, self.settings.lora, processor)
