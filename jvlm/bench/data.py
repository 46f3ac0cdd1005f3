"""The loader beside the ceiling that reading and decoding set it: pictures a second, on the same threads.

* ``read_decode``: the bytes of every picture from the tars at known offsets, then `load_image`: header check, decoding,
  upright RGB. Nothing else: no caption, no index. This is the ceiling.
* ``read_decode_resize``: the same, and `Processor.pixels`: scaled to the tower's input and padded.
* ``ours``: `PackedRows.batch` prepared in threads by `Prefetch`, as the training loop gets its batches: the sample's
  record, its tokens and labels, the picture read, decoded and scaled, all packed into rows and stacked as tensors.

All three go through the same pictures, whole, in the same process, in turns; a first round warms up and is thrown away,
so that the files lie in memory. Figures are medians of the rounds.
"""

import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jvlm.bench.data_pictures import SEED, made_pictures, real_pictures
from jvlm.images.load import load_image
from jvlm.images.shards import ShardReader, write_shards
from jvlm.model.config import ProjectorConfig, VisionConfig
from jvlm.model.processor import Processor
from jvlm.text.tokenizer import train_tokenizer
from jvlm.train.order import permute
from jvlm.train.packing import Row, plan_samples
from jvlm.train.prefetch import Prefetch
from jvlm.train.source import ImageSamples, PackedRows, SampleSet

OURS, CEILING, RESIZED = "ours", "read_decode", "read_decode_resize"
TARGETS = {"of_read_decode_ceiling": 0.9, "packing_fill": 0.97}
ROW_LENGTH, LOOK_AHEAD = 4096, 512
VISION = VisionConfig(image_size=224, patch_size=16)
PROJECTOR = ProjectorConfig(shuffle=2)


@dataclass(frozen=True)
class Plan:
    """How large the benchmark is."""

    pictures: int = 2_000
    rounds: int = 5


class Place(NamedTuple):
    """Where the bytes of a picture stand in a file that is open."""

    descriptor: int
    offset: int
    size: int

    def read(self) -> bytes:
        """The picture, encoded."""
        return os.pread(self.descriptor, self.size, self.offset)


def run(root: Path | None, threads: int, plan: Plan) -> dict[str, Any]:
    """All figures, for pictures of `root`; without one, pictures are made."""
    found = made_pictures(plan.pictures) if root is None else real_pictures(root, plan.pictures)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
        work = Path(folder)
        write_shards(found.samples, work / "shards")
        tokenizer = train_tokenizer(found.texts, found.vocab_size, work / "tokenizer", seed=SEED, threads=threads)
        processor = Processor(tokenizer, VISION, PROJECTOR)
        began = time.perf_counter()
        data = ImageSamples(ShardReader(work / "shards"), processor)
        counted = time.perf_counter()
        num_rows = len(packed_rows(data))
        planned = time.perf_counter()
        rows = PackedRows(data, ROW_LENGTH, SEED, processor.pad)
        places = picture_places(work / "shards", closing)
        seconds = _rounds(rows, num_rows, processor, places, threads, plan.rounds)
        sizes = np.array([load_image(place.read()).size for place in places])
    num_bytes = sum(place.size for place in places)
    return {
        "ratios": ratios(seconds),
        "targets": TARGETS,
        "packing_fill": packing_fill(data),
        "pictures": {
            "what": found.what,
            "number": len(places),
            "median_size": np.median(sizes, axis=0).tolist(),
            "largest_size": sizes.max(axis=0).tolist(),
            "median_bytes": statistics.median(place.size for place in places),
        },
        "images_per_s": {who: len(places) / statistics.median(found) for who, found in seconds.items()},
        "mb_per_s": {who: num_bytes / 1e6 / statistics.median(found) for who, found in seconds.items()},
        "seconds_of_rounds": seconds,
        "seconds_of_lengths": counted - began,
        "seconds_of_plan": planned - counted,
        "tower_input": VISION.image_size,
        "threads": threads,
    }


def ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Of medians over the rounds: the ceiling's seconds as a share of ours, for the same pictures."""
    medians = {who: statistics.median(found) for who, found in seconds.items()}
    return {f"of_{who}_ceiling": medians[who] / medians[OURS] for who in (CEILING, RESIZED)}


def packing_fill(data: SampleSet) -> float:
    """The share of an epoch's rows of 4,096 tokens that samples fill, planned 512 ahead; none is left out."""
    rows = packed_rows(data)
    assert sorted(piece.sample for row in rows for piece in row) == list(range(len(data.lengths)))
    return float(data.lengths.sum()) / (len(rows) * ROW_LENGTH)


def packed_rows(data: SampleSet) -> list[Row]:
    """The rows of an epoch."""
    count = len(data.lengths)
    return plan_samples(data.lengths, permute(np.arange(count), count, SEED, 0), ROW_LENGTH, LOOK_AHEAD)


def picture_places(folder: Path, closing: ExitStack) -> list[Place]:
    """Every picture of the shards, found by going through the tars, without their index; `closing` closes them."""
    places = []
    for path in sorted(folder.glob("*.tar")):
        descriptor = os.open(path, os.O_RDONLY)
        closing.callback(os.close, descriptor)
        with tarfile.open(path) as tar:
            places += [Place(descriptor, m.offset_data, m.size) for m in tar if not m.name.endswith(".json")]
    return places


def _rounds(
    rows: PackedRows, num_rows: int, processor: Processor, places: Sequence[Place], threads: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each, round by round."""

    def decode(place: Place) -> None:
        load_image(place.read())

    def resize(place: Place) -> None:
        processor.pixels(load_image(place.read()))

    def ours() -> None:
        with Prefetch(lambda number: rows.batch([number]), 0, num_rows, threads) as batches:
            seen = sum(0 if batch.pixels is None else len(batch.pixels) for batch in batches)
        assert seen == len(places)

    contestants = {
        CEILING: lambda: _over(places, decode, threads),
        RESIZED: lambda: _over(places, resize, threads),
        OURS: ours,
    }
    seconds: dict[str, list[float]] = {who: [] for who in contestants}
    for _ in range(rounds + 1):
        for who, work in contestants.items():
            began = time.perf_counter()
            work()
            seconds[who].append(time.perf_counter() - began)
    return {who: found[1:] for who, found in seconds.items()}


def _over(places: Sequence[Place], work: Callable[[Place], None], threads: int) -> None:
    """Each thread takes its share in a plain loop: nothing is handed from thread to thread."""

    def share(first: int) -> None:
        for place in places[first::threads]:
            work(place)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(share, range(threads)))
