"""Records → an index on disk: store and keywords in one pass, then vectors.

Memory grows neither with the text nor with the pictures: records stream through, everything is kept in files.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jvlm.errors import DataError
from jvlm.files import append_json_line, new_folder, write_json
from jvlm.images.load import load_image
from jvlm.text.normalise import normalise
from jvlm.trace.embedded import CARD, FORMAT, KEYWORDS, PICTURE_VECTORS, TEXT_VECTORS, TOWER, WEIGHTS, need_libraries
from jvlm.trace.passages import OVERLAP, cut
from jvlm.trace.store import Store, StoreWriter
from jvlm.trace.text_vectors import BATCH, DIMENSIONS, DocumentFrequencies, TextVectors
from jvlm.trace.types import Place, Record

if TYPE_CHECKING:
    from jvlm.trace.pictures import PictureVectors

ERRORS = "errors.jsonl"
_VIEWS_AT_ONCE = 64  # pictures


def build_index(
    records: Iterable[Record],
    out: Path,
    image_model: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Build the folder `out`, which appears whole or not at all; returns counts, seconds and bytes.

    Args:
        records: what was trained on. A picture that cannot be decoded is left out and written to `errors.jsonl`.
        image_model: a model directory with an image tower, for nearest pictures; None: none are looked for.

    Raises DataError when no record has text, UsageError without the extra `trace`.
    """
    need_libraries()
    report: dict[str, Any] = {}
    with new_folder(out) as folder:
        began = _clocks()
        pictures = _Pictures(folder, image_model)
        with StoreWriter(folder) as store:
            report["errors"] = _write(records, folder, store, pictures)
            report |= store.counts | {"text_bytes": store.text_bytes, "keyword_seconds": _spent(began)}
        if not report["passages"]:
            raise DataError("no text to index", where=out, fix="name a run, text files or shards that hold some")
        say(f"{report['records']:,} records, {report['passages']:,} passages: keywords done")
        began = _clocks()
        _write_text_vectors(folder)
        pictures.index()
        report["vector_seconds"] = _spent(began)
        say(f"vectors of the passages and of {report['pictures']:,} pictures done")
        write_json(folder / CARD, {"format": FORMAT} | report)
    return report


def _write(records: Iterable[Record], folder: Path, store: StoreWriter, pictures: "_Pictures") -> int:
    """Store and keywords; returns the number of pictures left out."""
    from jvlm.trace.keywords import KeywordWriter

    keywords, errors = KeywordWriter(folder / KEYWORDS), 0
    for record in records:
        text, images = normalise(record.text), []
        for image in record.images:
            try:
                images.append(load_image(image, where=record.id))
            except DataError as error:
                append_json_line(folder / ERRORS, {"id": record.id, "error": error.what})
                errors += 1
        number = store.record(record, text, images)
        for decoded in images:
            pictures.add(decoded)
        for start, stop in cut(text):
            store.passage(Place(number, start, stop))
            keywords.add(text[start : stop + OVERLAP])
    keywords.finish()
    return errors


class _Pictures:
    """Vectors of the pictures, gathered in a file while records go by."""

    def __init__(self, folder: Path, model: Path | None) -> None:
        self._folder, self._file = folder, folder / "pictures.f32"
        self._views: list[NDArray[np.uint8]] = []
        self._count = 0
        self._tower: PictureVectors | None = None
        if model is not None:
            from jvlm.model.towers import load_tower, save_tower
            from jvlm.trace import pictures  # torch is imported for pictures alone

            save_tower(folder / TOWER, load_tower(model))  # the index is asked with the tower it was made with
            self._tower = pictures.PictureVectors(folder / TOWER)

    def add(self, image: Image.Image) -> None:
        if self._tower is not None:
            self._views.append(self._tower.view(image))
            if len(self._views) == _VIEWS_AT_ONCE:
                self._flush()

    def index(self) -> None:
        """Make the vector index, if there is a picture."""
        self._flush()
        if self._count:
            from jvlm.trace.vectors import write_vectors

            def of_pictures(numbers: NDArray[np.int64]) -> NDArray[np.float32]:
                # mapped for this call alone: a map keeps in memory what was read of it
                return np.array(np.memmap(self._file, np.float32, mode="r").reshape(self._count, -1)[numbers])

            write_vectors(self._folder / PICTURE_VECTORS, self._count, of_pictures)
            self._file.unlink()

    def _flush(self) -> None:
        if self._views and self._tower is not None:
            with open(self._file, "ab") as file:
                file.write(self._tower(self._views).tobytes())
            self._count += len(self._views)
            self._views.clear()


def _write_text_vectors(folder: Path) -> None:
    """Vectors of all passages: frequencies in one pass, vectors in another."""
    from jvlm.trace.vectors import write_vectors

    store = Store(folder)
    count = store.sizes["passages"]
    frequencies = DocumentFrequencies()
    for begin in range(0, count, BATCH):
        frequencies.add([store.passage(number) for number in range(begin, min(begin + BATCH, count))])
    vectors_of = TextVectors(frequencies.weights())
    vectors_of.save(folder / WEIGHTS)

    def of_passages(numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        found = np.empty((len(numbers), DIMENSIONS), np.float32)
        for begin in range(0, len(numbers), BATCH):
            found[begin : begin + BATCH] = vectors_of(list(map(store.passage, numbers[begin : begin + BATCH])))
        return found

    write_vectors(folder / TEXT_VECTORS, count, of_passages)


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _spent(began: tuple[float, float]) -> dict[str, float]:
    """Seconds since, by the clock and of all processors together."""
    wall, processor = (now - then for now, then in zip(_clocks(), began, strict=True))
    return {"wall": round(wall, 3), "processor": round(processor, 3)}
