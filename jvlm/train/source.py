"""What a stage reads: token shards and image shards as one kind of data set, and the order of its rows.

A data set is a sequence of samples with known lengths. Rows of an epoch are planned from the lengths and the
epoch's permutation alone, so the batch of any step is a pure function of (seed, step).
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import numpy as np

from jvlm.errors import DataError
from jvlm.images.load import load_image
from jvlm.images.shards import ShardReader
from jvlm.model.packed import Example, PackedBatch, pack
from jvlm.model.processor import IGNORED, PADDING_GREY, Processor
from jvlm.sample import ImageRef, Sample
from jvlm.text.shards import TokenShards
from jvlm.train.order import permute
from jvlm.train.packing import Piece, Row, plan_documents, plan_samples
from jvlm.train.streaming import interleaved, repeated, streamed_order


class SampleSet(Protocol):
    """Samples by number. `cuttable`: rows may cut a sample in two (documents without images)."""

    lengths: np.ndarray
    pictures: np.ndarray  # of each sample, their number
    cuttable: bool
    fingerprint: str

    def example(self, index: int) -> Example: ...
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
        self.pictures = np.zeros_like(self.lengths)
        self.fingerprint = f"{shards.fingerprint}/{limit}" + (f"/{source}" if source is not None else "")

    def example(self, index: int) -> Example:
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

    A sample whose image cannot be decoded keeps its place in the order: its labels are masked, its picture is
    grey and its example says why.
    """

    cuttable = False

    def __init__(self, shards: ShardReader, processor: Processor) -> None:
        self.shards, self.processor = shards, processor
        self.lengths = np.array([self._length(i) for i in range(len(shards))], np.int64)
        self.pictures = np.array([shards.num_images(i) for i in range(len(shards))], np.int64)
        self.fingerprint = shards.fingerprint

    def _length(self, index: int) -> int:
        images = [ImageRef()] * self.shards.num_images(index)  # lengths do not need the pictures
        return self.processor.length(Sample.from_record(self.shards.record(index), images))

    def example(self, index: int) -> Example:
        sample = self.shards.read(index)
        encoded = self.processor.encode(sample.messages)
        inputs, labels = encoded.shifted(sample.id)
        source = str(sample.meta.get("source") or self.shards.folder.name)
        try:
            pixels = [self.processor.pixels(load_image(sample.images[image])) for image in encoded.images]
        except DataError as error:
            assert self.processor.vision is not None
            side = self.processor.vision.image_size
            pixels = [np.full((3, side, side), PADDING_GREY, np.uint8) for _ in encoded.images]
            return Example(sample.id, inputs, [IGNORED] * len(labels), pixels, source, str(error))
        return Example(sample.id, inputs, labels, pixels, source)

    def document_of(self, index: int) -> None:
        return None

    def order(self, seed: int, epoch: int, count: int | None = None) -> np.ndarray | None:
        shards, samples = self.shards, len(self.shards)
        if shards.buffer is None:
            return None
        one_pass = partial(streamed_order, shards.shard_numbers, shards.buffer, seed)
        order = repeated(one_pass, samples, samples if count is None else count, epoch)
        shards.will_read(order % samples)
        return order


class Mixture:
    """Several data sets as one; `repeats[i]` says how often set i is seen in an epoch.

    A fraction takes the first part of a set, the same in every epoch.
    """

    def __init__(self, sets: Sequence[SampleSet], repeats: Sequence[float]) -> None:
        self.sets = list(sets)
        self.counts = [round(len(s.lengths) * r) for s, r in zip(sets, repeats, strict=True)]
        self.starts = np.cumsum([0, *self.counts])
        self.lengths, self.pictures = (
            np.concatenate([np.resize(of, count) for of, count in zip(each, self.counts, strict=True)])
            for each in ([s.lengths for s in self.sets], [s.pictures for s in self.sets])
        )
        self.cuttable = all(s.cuttable for s in self.sets)
        self.fingerprint = hashlib.sha256(
            repr([(s.fingerprint, c) for s, c in zip(self.sets, self.counts, strict=True)]).encode()
        ).hexdigest()

    def example(self, index: int) -> Example:
        inner, number = self._locate(index)
        return inner.example(number)

    def document_of(self, index: int) -> int | None:
        inner, number = self._locate(index)
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

    def _locate(self, index: int) -> tuple[SampleSet, int]:
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

    @property
    def fingerprint(self) -> str:
        """Of the data and its order."""
        return f"{self.data.fingerprint} seed={self.seed}"

    def row(self, number: int) -> Row:
        """Row `number` of the stream, counted from 0 over all epochs."""
        while not self._ends or number >= self._ends[-1]:
            self._plan(len(self._ends))
            self._ends.append((self._ends[-1] if self._ends else 0) + len(self._rows))
        epoch = int(np.searchsorted(self._ends, number, side="right"))
        if epoch != self._epoch:
            self._plan(epoch)
        return self._rows[number - (self._ends[epoch - 1] if epoch else 0)]

    def pictures(self) -> np.ndarray:
        """Number of pictures in each row of the first epoch."""
        self.row(0)
        if not self.data.pictures.any():
            return np.zeros(len(self._rows), np.int64)
        return np.array([sum(int(self.data.pictures[piece.sample]) for piece in row) for row in self._rows])

    def batch(self, numbers: Sequence[int]) -> PackedBatch:
        """The named rows as tensors."""
        return pack([self.examples(number) for number in numbers], self.row_length, self.pad_id)

    def examples(self, number: int) -> list[Example]:
        """What row `number` holds, in order."""
        return [self._cut(piece) for piece in self.row(number)]

    def _plan(self, epoch: int) -> None:
        count = len(self.data.lengths)
        order = self.data.order(self.seed, epoch)
        if order is None:
            order = permute(np.arange(count), count, self.seed, epoch)
        plan = plan_documents if self.data.cuttable else plan_samples
        self._rows, self._epoch = plan(self.data.lengths, order, self.row_length), epoch

    def _cut(self, piece: Piece) -> Example:
        example = self.data.example(piece.sample)
        if piece.stop - piece.start == len(example.inputs):
            return example
        window = slice(piece.start, piece.stop)
        return example._replace(inputs=example.inputs[window], labels=example.labels[window])
