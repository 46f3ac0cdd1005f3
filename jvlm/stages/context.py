"""What a stage is given: its run, its settings, its folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jvlm.recipe import Recipe


@dataclass(frozen=True)
class StageContext:
    """One stage of one run."""

    run: Path
    name: str
    recipe: Recipe

    @property
    def config(self) -> Any:
        """The stage's own settings (a class of `jvlm.settings`)."""
        return getattr(self.recipe.stages, self.name)

    @property
    def folder(self) -> Path:
        """The stage's folder in the run."""
        return self.run / self.name

    @property
    def data(self) -> Path:
        """What the data stage left."""
        return self.run / "data"

    @property
    def shards(self) -> Path:
        """Image shards by set name."""
        return self.data / "shards"

    def say(self, text: str) -> None:
        """A line of progress."""
        print(f"{self.name}: {text}", flush=True)
