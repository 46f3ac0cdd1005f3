"""CLIP: open_clip's model and loss on images and captions (Radford et al. 2021)."""

from dataclasses import dataclass

import numpy as np
import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from torch import Tensor, nn

from jvlm.errors import DataError, UsageError
from jvlm.images.load import load_image
from jvlm.images.shards import ShardReader
from jvlm.model.config import VisionConfig
from jvlm.model.flops import counted
from jvlm.model.processor import Processor
from jvlm.model.vision import VisionTower
from jvlm.sample import Sample
from jvlm.train.monitor import LossBySource
from jvlm.train.order import permute
from jvlm.train.world import ONE_PROCESS, World

MAX_LOGIT_SCALE = 4.6052  # ln 100, as in the paper


@dataclass(frozen=True)
class PairBatch:
    """Images and their captions."""

    pixels: Tensor  # uint8 [N, 3, S, S]
    text: Tensor  # int64 [N, text_length], padded
    sample_ids: list[str]
    undecoded: list[tuple[str, str]]  # (sample id, error) of those that are left out

    @property
    def weight(self) -> int:
        return len(self.pixels)


def caption_of(sample: Sample) -> str:
    """The text a picture is paired with: the first assistant turn."""
    for message in sample.messages:
        if message.role == "assistant" and message.text.strip():
            return message.text
    raise DataError("an image-text pair without text", where=sample.id)


def caption_ids(processor: Processor, captions: list[str], length: int) -> Tensor:
    """``[N, length]`` int64: ``<s> text <|end|>`` padded; longer captions lose their tail, never the end mark."""
    out = np.full((len(captions), length), processor.pad, np.int64)
    for row, ids in zip(out, processor.tokenizer.encode_batch(captions), strict=True):
        ids = [processor.bos, *ids[: length - 2], processor.end]
        row[: len(ids)] = ids
    return torch.from_numpy(out)


class Contrastive:
    """Mean of the image-to-text and text-to-image cross-entropy, times the number of pairs.

    The negatives of a pair are the rest of its batch, so a global batch is one piece.
    """

    unit = "pairs"

    def __init__(
        self,
        model: CLIP,
        config: VisionConfig,
        processor: Processor,
        shards: ShardReader,
        batch_size: int,
        seed: int,
    ) -> None:
        if len(shards) < batch_size:
            raise UsageError(f"a batch of {batch_size} pairs from {len(shards)} samples", fix="lower batch_size")
        self.model: nn.Module = model
        self.clip, self.processor, self.shards = model, processor, shards
        self.config, self.batch_size, self.seed = config, batch_size, seed
        self.normalise = VisionTower(config, model.visual).normalise
        self.rate_scale: dict[str, float] = {}
        self.loss = ClipLoss()
        self.by_source = LossBySource()  # stays empty: a pair's loss is its batch's too
        self._flops_of_a_pair = counted(model, self._look_at_one)

    def micro_batches(self, step: int, world: World = ONE_PROCESS) -> list[PairBatch]:
        if world.size > 1:
            fix = "run this stage in one process"
            raise UsageError("the negatives of a contrastive loss are one process's batch", where="clip", fix=fix)
        count = len(self.shards)
        per_epoch = count // self.batch_size  # the rest of an epoch would repeat a pair inside a batch
        epoch, at = divmod(step, per_epoch)
        places = np.arange(at * self.batch_size, (at + 1) * self.batch_size)
        samples: list[Sample] = []
        pictures: list[np.ndarray] = []
        undecoded: list[tuple[str, str]] = []
        for sample in (self.shards.read(int(i)) for i in permute(places, count, self.seed, epoch)):
            try:
                pictures.append(self.processor.pixels(load_image(sample.images[0])))
                samples.append(sample)
            except DataError as error:
                undecoded.append((sample.id, str(error)))  # its place is taken, its caption teaches nothing
        side = self.config.image_size
        pixels = np.concatenate(pictures) if pictures else np.zeros((0, 3, side, side), np.uint8)
        text = caption_ids(self.processor, [caption_of(s) for s in samples], self.config.text_length)
        return [PairBatch(torch.from_numpy(pixels), text, [sample.id for sample in samples], undecoded)]

    def largest_batch(self, world: World = ONE_PROCESS) -> PairBatch:
        return self.micro_batches(0, world)[0]  # all are of one shape

    def loss_sum(self, batch: PairBatch) -> Tensor:
        with torch.no_grad():
            self.clip.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        images = self.clip.encode_image(self.normalise(batch.pixels), normalize=True)
        texts = self.clip.encode_text(batch.text, normalize=True)
        return self.loss(images, texts, self.clip.logit_scale.exp()) * batch.weight

    def fingerprint(self) -> str:
        return f"{self.shards.fingerprint} seed={self.seed} pairs={self.batch_size}"

    def flops(self, batch: PairBatch) -> float:
        pairs = batch.weight
        return 3 * (self._flops_of_a_pair * pairs + 4 * pairs**2 * self.config.embed_dim)

    def _look_at_one(self) -> None:
        side = self.config.image_size
        self.clip.encode_image(self.normalise(torch.zeros((1, 3, side, side), dtype=torch.uint8)))
        self.clip.encode_text(caption_ids(self.processor, [""], self.config.text_length))
