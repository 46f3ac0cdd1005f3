"""What is traced, what is found, and what an index must be able to do."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from PIL import Image

from jvlm.sample import ImageRef

MOST_ORIGINS = 5
"""Records that are named for a text that stands in several."""


@dataclass(frozen=True)
class Seen:
    """That a stage of training saw a record: in `times` of its steps, of which `first` and `last` count from 0."""

    stage: str
    first: int
    last: int
    times: int


@dataclass(frozen=True)
class Record:
    """A document, or a sample with its pictures, as it was trained on."""

    id: str
    text: str
    source: str
    licence: str = ""
    seen: tuple[Seen, ...] = ()
    images: Sequence[ImageRef] = ()


@dataclass(frozen=True)
class Origin:
    """Where something found comes from. `seen` is empty when the index was not made of a run."""

    id: str
    source: str
    licence: str
    seen: tuple[Seen, ...]
    thumbnail: bytes | None = field(default=None, repr=False)
    """A small JPEG of the record's first picture."""


@dataclass(frozen=True)
class Found:
    """A text that stands in training, and the records it stands in: one, or the first few."""

    text: str
    origins: tuple[Origin, ...]

    @property
    def id(self) -> str:
        """Of the first origin, as are source, licence, steps and thumbnail."""
        return self.origins[0].id

    @property
    def source(self) -> str:
        return self.origins[0].source

    @property
    def licence(self) -> str:
        return self.origins[0].licence

    @property
    def steps(self) -> tuple[int, int] | None:
        """First and last step of the first stage that saw it."""
        seen = self.origins[0].seen
        return (seen[0].first, seen[0].last) if seen else None

    @property
    def thumbnail(self) -> bytes | None:
        return self.origins[0].thumbnail


@dataclass(frozen=True)
class Span(Found):
    """Characters ``start:stop`` of `Evidence.text`, which stand like that in training."""

    start: int
    stop: int


@dataclass(frozen=True)
class Passage(Found):
    """A passage near the answer. Ranks count from 1; None where that search did not find it."""

    score: float
    keyword_rank: int | None
    vector_rank: int | None


@dataclass(frozen=True)
class Picture(Found):
    """A picture near the one asked about: cosine of their features. `text` is what training said of it."""

    similarity: float


@dataclass(frozen=True)
class Evidence:
    """What was found for `text`, the answer in the corpus's spelling; the longest, the nearest first."""

    text: str
    spans: tuple[Span, ...]
    passages: tuple[Passage, ...]
    images: tuple[Picture, ...]


class Place(NamedTuple):
    """Characters ``start:stop`` of the text of a record."""

    record: int
    start: int
    stop: int


class TraceIndex(Protocol):
    """An index of records, of the passages they are cut into, and of their pictures; each counted from 0."""

    def keyword(self, text: str, limit: int) -> list[int]:
        """Passages by the words they share with `text`, the best first."""
        ...

    def holding(self, piece: str, near: str, limit: int) -> list[int]:
        """Passages that may hold `piece`, those like `near` first. Whether they do is for the caller to see.

        A passage counts with what follows it in its record, so that a piece of up to `jvlm.trace.passages.OVERLAP`
        characters stands whole in one.
        """
        ...

    def nearest(self, text: str, limit: int) -> list[int]:
        """Passages by their vectors, the nearest first."""
        ...

    def nearest_images(self, image: Image.Image, limit: int) -> list[tuple[int, float]]:
        """Pictures, the nearest first, each with its cosine; none where the index knows no pictures."""
        ...

    def place(self, passage: int) -> Place:
        """Where a passage stands."""
        ...

    def passage(self, number: int) -> str:
        """The text of a passage."""
        ...

    def text(self, record: int) -> str:
        """The whole text of a record, normalised as the corpus is."""
        ...

    def origin(self, record: int) -> Origin:
        """Where a record comes from."""
        ...

    def picture(self, number: int) -> tuple[int, bytes]:
        """The record that a picture belongs to, and a small JPEG of it."""
        ...
