"""What a stage reads: token shards and image shards as one kind of data set, and the order of its rows.

A data set is a sequence of samples with known lengths. Rows of an epoch are planned from the lengths and the
epoch's permutations alone (of the samples, and of the rows where those cut samples), so the batch of any step is a pure
function of (seed, step).
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from threading import Lock
from typing import Protocol

import numpy as np

from jvlm.errors import DataError
from jvlm.images.crop import cropped
from jvlm.images.load import load_image
from jvlm.images.shards import ShardReader
from jvlm.model.geometry import Grid
from jvlm.model.packed import Example, PackedBatch, pack
from jvlm.model.processor import IGNORED, Encoded, Processor
from jvlm.sample import ImageRef, Sample
from jvlm.text.shards import TokenShards
from jvlm.train.config import Overlong
from jvlm.train.order import permute
from jvlm.train.packing import Piece, Row, plan_documents, plan_samples
from jvlm.train.streaming import interleaved, repeated, streamed_order


class SampleSet(Protocol):
    """Samples by number. `cuttable`: rows may cut a sample in two (documents without images)."""

    lengths: np.ndarray
    views: np.ndarray  # of each sample, the squares that its pictures are seen in
    cuttable: bool
    fingerprint: str

    def example(self, index: int, seed: tuple[int, ...] = ()) -> Example:
        """Sample `index`; what is random in it, if anything, is drawn from `seed`."""

    def document_of(self, index: int) -> int | None:
        """The number in its token shards of the document that sample `index` is of; None for other data."""

    def order(self, seed: int, epoch: int, count: int | None = None) -> np.ndarray | None:
        """The order of an epoch of a set that should not be read at random; None where any order will do.

        With `count` that of a set repeated, or broken off, after so many samples: sample number modulo its length.
        """


class TokenDocuments:
    """Documents of token shards, each as ``<s> text </s>``; with `source` those of that source alone.

    With `max_length` a longer document is cut into samples of that many tokens, for mixtures with samples that
    must not be cut.
    """

    def __init__(
        self, shards: TokenShards, processor: Processor, max_length: int | None = None, source: str | None = None
    ) -> None:
        shards.check(processor.tokenizer)
        chosen = np.arange(shards.num_documents) if source is None else shards.documents_of(source)
        self.shards, self.bos, self.eos = shards, processor.bos, processor.eos
        self.cuttable = max_length is None
        lengths = np.asarray(shards.lengths, np.int64)[chosen] + 1  # inputs: <s> and the text; </s> is only a label
        limit = max_length or int(lengths.max(initial=1))
        parts = -(-lengths // limit)
        of = np.repeat(np.arange(len(lengths)), parts)
        self.document = chosen[of]
        self.start = np.concatenate([np.arange(p) * limit for p in parts]) if len(parts) else np.zeros(0, np.int64)
        self.lengths = np.minimum(lengths[of] - self.start, limit)
        self.views = np.zeros_like(self.lengths)
        self.fingerprint = f"{shards.fingerprint}/{limit}" + (f"/{source}" if source is not None else "")

    def example(self, index: int, seed: tuple[int, ...] = ()) -> Example:
        document, start = int(self.document[index]), int(self.start[index])
        tokens = self.shards.tokens(document).tolist()
        window = slice(start, start + int(self.lengths[index]))
        source = str(self.shards.identity(document)["source"])
        return Example(f"document-{document}", [self.bos, *tokens][window], [*tokens, self.eos][window], [], source)

    def document_of(self, index: int) -> int:
        return int(self.document[index])

    def order(self, seed: int, epoch: int, count: int | None = None) -> None:
        return None


class ImageSamples:
    """Samples of image shards through the processor.

    With `row_length` no sample is longer than a row: `overlong` says what becomes of one that would be, and `dropped`
    are the ids of those left out. With `crop` below 1 a part of each picture is seen, another each time, of at least so
    much of its area; a grid of tiles stays that of the whole, which has the same shape. A sample whose image cannot be
    decoded keeps its place in the order: its labels are masked, its picture is grey and its example says why. Raises
    DataError naming a sample that is too long.
    """

    cuttable = False

    def __init__(
        self,
        shards: ShardReader,
        processor: Processor,
        row_length: int | None = None,
        overlong: Overlong = "error",
        crop: float = 1.0,
    ) -> None:
        self.shards, self.processor, self.crop = shards, processor, crop
        self.row_length, self.overlong = row_length, overlong
        lengths, views = np.zeros(len(shards), np.int64), np.zeros(len(shards), np.int64)
        for index in range(len(shards)):
            encoded = self._encode(index)
            lengths[index], views[index] = len(encoded.ids) - 1, encoded.views
        too_long = lengths > row_length if row_length is not None else np.zeros(len(shards), bool)
        if too_long.any() and overlong != "drop":
            raise self._too_long(shards.ids[int(too_long.argmax())], int(lengths[too_long][0]), int(too_long.sum()))
        self.numbers = np.flatnonzero(~too_long)  # in the shards, of the samples that are kept
        self.dropped = [shards.ids[index] for index in np.flatnonzero(too_long)]
        self.lengths, self.views = lengths[self.numbers], views[self.numbers]
        self.fingerprint = f"{shards.fingerprint} {processor.tiles!r} {overlong}" + (
            f" crop={crop}" if crop < 1 else ""
        )

    def example(self, index: int, seed: tuple[int, ...] = ()) -> Example:
        number = int(self.numbers[index])
        sample, encoded = self.shards.read(number), self._encode(number)
        inputs, labels = encoded.shifted(sample.id)
        source = str(sample.meta.get("source") or self.shards.folder.name)
        shown = list(zip(encoded.images, encoded.grids, strict=True))
        try:
            pixels = [self._pixels(sample.images[image], grid, (*seed, number, image)) for image, grid in shown]
        except DataError as error:
            pixels = [self.processor.blank(grid) for _, grid in shown]
            return Example(sample.id, inputs, [IGNORED] * len(labels), pixels, source, str(error))
        return Example(sample.id, inputs, labels, pixels, source)

    def _pixels(self, image: ImageRef, grid: Grid, seed: tuple[int, ...]) -> np.ndarray:
        picture = load_image(image)
        return self.processor.pixels(cropped(picture, self.crop, seed) if self.crop < 1 else picture, grid)

    def _encode(self, number: int) -> Encoded:
        """Of a sample by its number in the shards, the same whenever it is asked for; its pictures are not needed."""
        images = [ImageRef()] * self.shards.num_images(number)
        messages = Sample.from_record(self.shards.record(number), images).messages
        room = self.row_length + 1 if self.row_length is not None and self.overlong == "fewer_tiles" else None
        sizes = self.shards.sizes(number) if self.processor.tiles.per_image else []
        return self.processor.encode(messages, sizes=sizes, room=room)

    def _too_long(self, identity: str, length: int, number: int) -> DataError:
        return DataError(
            f"it takes {length} tokens, a row has {self.row_length}; {number} of {len(self.shards)} samples are longer",
            where=identity,
            fix="raise row_length, or set packing.overlong to fewer_tiles or drop",
        )

    def document_of(self, index: int) -> None:
        return None

    def order(self, seed: int, epoch: int, count: int | None = None) -> np.ndarray | None:
        shards, samples = self.shards, len(self.numbers)
        if shards.buffer is None:
            return None
        one_pass = partial(streamed_order, shards.shard_numbers[self.numbers], shards.buffer, seed)
        order = repeated(one_pass, samples, samples if count is None else count, epoch)
        shards.will_read(self.numbers[order % samples])
        return order


class Mixture:
    """Several data sets as one; `repeats[i]` says how often set i is seen in an epoch.

    A fraction takes the first part of a set, the same in every epoch.
    """

    def __init__(self, sets: Sequence[SampleSet], repeats: Sequence[float]) -> None:
        self.sets = list(sets)
        self.counts = [round(len(s.lengths) * r) for s, r in zip(sets, repeats, strict=True)]
        self.starts = np.cumsum([0, *self.counts])
        self.lengths, self.views = (
            np.concatenate([np.resize(of, count) for of, count in zip(each, self.counts, strict=True)])
            for each in ([s.lengths for s in self.sets], [s.views for s in self.sets])
        )
        self.cuttable = all(s.cuttable for s in self.sets)
        self.fingerprint = hashlib.sha256(
            repr([(s.fingerprint, c) for s, c in zip(self.sets, self.counts, strict=True)]).encode()
        ).hexdigest()

    def example(self, index: int, seed: tuple[int, ...] = ()) -> Example:
        inner, number = self.locate(index)
        return inner.example(number, seed)

    def document_of(self, index: int) -> int | None:
        inner, number = self.locate(index)
        return inner.document_of(number)

    def order(self, seed: int, epoch: int, count: int | None = None) -> np.ndarray | None:
        """The sets interleaved in proportion where one of them has an order of its own."""
        assert count is None
        orders = [s.order(seed, epoch, number) for s, number in zip(self.sets, self.counts, strict=True)]
        if all(order is None for order in orders):
            return None
        return interleaved(
            [
                permute(np.arange(number), number, seed, epoch) if order is None else order
                for order, number in zip(orders, self.counts, strict=True)
            ],
            seed,
            epoch,
        )

    def locate(self, index: int) -> tuple[SampleSet, int]:
        """The set that sample `index` is of, and its number there."""
        which = int(np.searchsorted(self.starts, index, side="right")) - 1
        inner = self.sets[which]
        return inner, (index - int(self.starts[which])) % len(inner.lengths)


class PackedRows:
    """The endless stream of packed rows of a data set, by row number."""

    def __init__(self, data: SampleSet, row_length: int, seed: int, pad_id: int) -> None:
        if len(data.lengths) == 0:
            raise DataError("the data set is empty")
        self.data, self.row_length, self.seed, self.pad_id = data, row_length, seed, pad_id
        self._ends: list[int] = []  # rows up to the end of each epoch
        self._epoch = -1
        self._rows: list[Row] = []
        self._planning = Lock()  # batches are prepared in threads

    @property
    def fingerprint(self) -> str:
        """Of the data and its order: a run that was begun with another one does not go on."""
        return f"{self.data.fingerprint} seed={self.seed}" + (" rows shuffled" if self.data.cuttable else "")

    def row(self, number: int) -> Row:
        """Row `number` of the stream, counted from 0 over all epochs."""
        with self._planning:
            while not self._ends or number >= self._ends[-1]:
                self._plan(len(self._ends))
                self._ends.append((self._ends[-1] if self._ends else 0) + len(self._rows))
            epoch = int(np.searchsorted(self._ends, number, side="right"))
            if epoch != self._epoch:
                self._plan(epoch)
            return self._rows[number - (self._ends[epoch - 1] if epoch else 0)]

    def views(self) -> np.ndarray:
        """Number of views of pictures in each row of the first epoch."""
        self.row(0)
        if not self.data.views.any():
            return np.zeros(len(self._rows), np.int64)
        return np.array([sum(int(self.data.views[piece.sample]) for piece in row) for row in self._rows])

    def batch(self, numbers: Sequence[int]) -> PackedBatch:
        """The named rows as tensors."""
        return pack([self.examples(number) for number in numbers], self.row_length, self.pad_id)

    def examples(self, number: int) -> list[Example]:
        """What row `number` holds, in order."""
        return [self._cut(piece, number) for piece in self.row(number)]

    def _plan(self, epoch: int) -> None:
        count = len(self.data.lengths)
        order = self.data.order(self.seed, epoch)
        if order is None:
            order = permute(np.arange(count), count, self.seed, epoch)
        if self.data.cuttable:  # one after the other, rows of a long document would be all that many steps see
            planned = plan_documents(self.data.lengths, order, self.row_length)
            last = len(planned) - 1  # partly filled, it stays the last
            order = permute(np.arange(len(planned)), len(planned), self.seed, epoch)
            rows = [planned[number] for number in (*order[order != last], last)]
        else:
            rows = plan_samples(self.data.lengths, order, self.row_length)
        self._rows, self._epoch = rows, epoch

    def _cut(self, piece: Piece, row: int) -> Example:
        example = self.data.example(piece.sample, (self.seed, row, piece.sample))
        if piece.stop - piece.start == len(example.inputs):
            return example
        window = slice(piece.start, piece.stop)
        return example._replace(inputs=example.inputs[window], labels=example.labels[window])
