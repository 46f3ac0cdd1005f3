"""The index that needs no server: a folder of records, keywords in tantivy, vectors in FAISS."""

from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from jvlm.errors import DataError, UsageError
from jvlm.files import read_json, verify_folder
from jvlm.trace.store import Store
from jvlm.trace.text_vectors import TextVectors
from jvlm.trace.types import Origin, Place

if TYPE_CHECKING:
    from jvlm.trace.pictures import PictureVectors

CARD, FORMAT = "card.json", "jvlm-trace-1"
KEYWORDS, TEXT_VECTORS, PICTURE_VECTORS, TOWER = "keywords", "text_vectors", "picture_vectors", "tower"
WEIGHTS = "text_weights.npy"
_COMPARED = 100  # passages of a rough search that are compared with the text exactly


def need_libraries() -> None:
    """Raises UsageError unless the extra is installed."""
    try:
        import faiss  # noqa: F401
        import tantivy  # noqa: F401
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed", fix="pip install 'jvlm[trace]'") from None


class EmbeddedIndex:
    """A `TraceIndex` of a folder that `jvlm.trace.build` made, verified against its hashes.

    Threads may share it. Raises DataError for a folder that is damaged or no index.
    """

    def __init__(self, folder: Path) -> None:
        need_libraries()
        from jvlm.trace.keywords import Keywords
        from jvlm.trace.vectors import Vectors

        if not (folder / CARD).is_file():
            raise DataError("no trace index", where=folder, fix="make one with `jvlm trace build`")
        verify_folder(folder)
        self.folder, self.card = folder, read_json(folder / CARD)
        if not isinstance(self.card, dict) or self.card.get("format") != FORMAT:
            raise DataError("not a trace index of this format", where=folder, fix="build it again")
        self._store = Store(folder)
        self._keywords = Keywords(folder / KEYWORDS)
        self._vectors_of = TextVectors.load(folder / WEIGHTS)
        self._vectors = Vectors(folder / TEXT_VECTORS)
        self._pictures = Vectors(folder / PICTURE_VECTORS) if (folder / PICTURE_VECTORS).is_dir() else None
        self._text = lru_cache(maxsize=64)(self._store.text)  # spans of an answer are looked for in the same few

    def keyword(self, text: str, limit: int) -> list[int]:
        return self._keywords.best(text, limit)

    def holding(self, piece: str, near: str, limit: int) -> list[int]:
        return self._keywords.holding(piece, near, limit)

    def nearest(self, text: str, limit: int) -> list[int]:
        rough = [number for number, _ in self._vectors.nearest(self._vectors_of([text])[0], _COMPARED)]
        numbers = list(dict.fromkeys([*rough, *self._keywords.best(text, _COMPARED)]))
        found = self._vectors_of.similarities(text, [self.passage(number) for number in numbers])
        order = np.lexsort((np.array(numbers), -found))[:limit]
        return [numbers[i] for i in order if found[i] > 0]

    def nearest_images(self, image: Image.Image, limit: int) -> list[tuple[int, float]]:
        if self._pictures is None:
            return []
        return self._pictures.nearest(self._tower([self._tower.view(image)])[0], limit)

    def place(self, passage: int) -> Place:
        return self._store.place(passage)

    def passage(self, number: int) -> str:
        return self._store.passage(number)

    def text(self, record: int) -> str:
        return self._text(record)

    def origin(self, record: int) -> Origin:
        return self._store.origin(record)

    def picture(self, number: int) -> tuple[int, bytes]:
        return self._store.picture(number)

    @cached_property
    def _tower(self) -> "PictureVectors":
        from jvlm.trace.pictures import PictureVectors  # torch is imported for pictures alone

        return PictureVectors(self.folder / TOWER)
