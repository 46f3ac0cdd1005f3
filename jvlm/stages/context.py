"""What a stage is given: its run, its settings, its folder."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jvlm.recipe import Recipe

if TYPE_CHECKING:
    from jvlm.train.world import World

T = TypeVar("T")


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

    def shard_folder(self, name: str) -> str | Path:
        """A set that the data stage left, or one of the user's: what holds a slash is a path or an address."""
        return name if "/" in name else self.shards / name

    @property
    def tokenizer(self) -> Path:
        """The folder that holds the run's tokenizer."""
        pretrain = self.recipe.stages.pretrain
        started = pretrain.start_from if pretrain else None
        return started or self.run / "tokenizer" / "model"

    @property
    def rank(self) -> int:
        """Number of this process among those of the stage, as torchrun says it; 0 writes the stage's files."""
        return int(os.environ.get("RANK", "0"))

    @property
    def world(self) -> "World":
        """The processes of a training stage; torch is imported only for those."""
        from jvlm.train.world import join_world

        return join_world()

    def first_alone(self, make: Callable[[], T]) -> T:
        """What `make` gives, on process 0 before the others, which find the files it left."""
        if self.rank == 0:
            made = make()
            self.world.from_first(None)
            return made
        self.world.from_first(None)
        return make()

    def say(self, text: str) -> None:
        """A line of progress."""
        if self.rank == 0:
            print(f"{self.name}: {text}", flush=True)
