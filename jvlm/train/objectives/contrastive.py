"""CLIP: open_clip's model on images and captions, with CLIP's softmax or SigLIP's pairwise sigmoid as loss.

The negatives of a pair are the rest of the global batch: every process encodes its share of it, the features are
gathered, and each process takes the losses of its own pairs against all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from open_clip.model import CLIP
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from jvlm.errors import DataError, UsageError
from jvlm.images.crop import cropped
from jvlm.images.load import load_image
from jvlm.images.shards import ShardReader
from jvlm.model.config import VisionConfig
from jvlm.model.contrast import caption_ids, sigmoid_loss, softmax_loss
from jvlm.model.flops import counted
from jvlm.model.geometry import WHOLE
from jvlm.model.processor import Processor
from jvlm.model.vision import VisionTower
from jvlm.sample import Sample
from jvlm.train.monitor import LossBySource
from jvlm.train.pairs import PairOrder
from jvlm.train.routers import RouterLoad
from jvlm.train.world import ONE_PROCESS, World, gather_rows

MAX_LOGIT_SCALE = 4.6052  # ln 100, as in the paper


@dataclass(frozen=True)
class PairBatch:
    """Images and their captions. Where no image decodes a grey one stands, without a sample id: it counts nothing."""

    pixels: Tensor  # uint8 [max(1, N), 3, S, S]
    text: Tensor  # int64 [max(1, N), text_length], padded
    sample_ids: list[str]
    undecoded: list[tuple[str, str]]  # (sample id, error) of those that are left out

    @property
    def weight(self) -> int:
        return len(self.sample_ids)


def caption_of(sample: Sample) -> str:
    """The text a picture is paired with: the first assistant turn."""
    for message in sample.messages:
        if message.role == "assistant" and message.text.strip():
            return message.text
    raise DataError("an image-text pair without text", where=sample.id)


class Contrastive:
    """The loss of each pair among the pairs of the global batch, summed over this process's.

    A model with a bias (`build_clip(…, sigmoid=True)`) takes the sigmoid loss, one without the softmax. Both are
    divided by the number of pairs, as their papers have it. With `accumulation` images and texts are encoded in so
    many pieces, each again in the backward pass: of activations only one piece's are held, and the loss is still that
    of the whole batch.
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
        accumulation: int = 1,
        source_block: int = 1,
        crop: float = 1.0,
    ) -> None:
        if len(shards) < batch_size:
            raise UsageError(f"a batch of {batch_size} pairs from {len(shards)} samples", fix="lower batch_size")
        self.model: nn.Module = model
        self.clip, self.processor, self.shards = model, processor, shards
        self.config, self.batch_size = config, batch_size
        self.order = PairOrder.of(shards, batch_size, seed, source_block)
        self.accumulation, self.crop = accumulation, crop
        self.normalise = VisionTower(config, model.visual).normalise
        self.rate_scale: dict[str, float] = {}
        self.by_source = LossBySource()  # stays empty: a pair's loss is its batch's too
        self.routers = RouterLoad()  # stays empty: there are no experts
        self._flops_of_a_pair = counted(model, self._look_at_one)

    def micro_batches(self, step: int, world: World = ONE_PROCESS) -> list[PairBatch]:
        """This process's share of the pairs, as one: what a pair is told from must be there."""
        samples: list[Sample] = []
        pictures: list[np.ndarray] = []
        undecoded: list[tuple[str, str]] = []
        for number in self.order.numbers(step, world).tolist():
            sample = self.shards.read(number)
            try:
                picture = load_image(sample.images[0])
                if self.crop < 1:
                    picture = cropped(picture, self.crop, (self.order.seed, step, number))
                pictures.append(self.processor.pixels(picture))
                samples.append(sample)
            except DataError as error:
                undecoded.append((sample.id, str(error)))  # its place is taken, its caption teaches nothing
        captions = [caption_of(sample) for sample in samples]
        if not pictures:  # every process runs both towers every step, or those that do would wait for it
            pictures, captions = [self.processor.blank(WHOLE)], [""]
        text = caption_ids(self.processor, captions, self.config.text_length)
        pixels = torch.from_numpy(np.concatenate(pictures))
        return [PairBatch(pixels, text, [sample.id for sample in samples], undecoded)]

    def largest_batch(self, world: World = ONE_PROCESS) -> PairBatch:
        return self.micro_batches(0, world)[0]  # all are of one shape

    def loss_sum(self, batch: PairBatch) -> Tensor:
        clip = self.clip
        with torch.no_grad():
            clip.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        images = self._encoded(lambda pixels: clip.encode_image(self.normalise(pixels), normalize=True), batch.pixels)
        texts = self._encoded(lambda text: clip.encode_text(text, normalize=True), batch.text)
        with torch.autocast(images.device.type, enabled=False):  # cosines times a hundred: bfloat16 is too coarse
            own = [features.float()[: batch.weight] for features in (images, texts)]
            (all_images, all_texts), begin = gather_rows(*own)
            mine, scale, bias = slice(begin, begin + batch.weight), clip.logit_scale.exp(), clip.logit_bias
            if not batch.weight:  # what the others use, sharded weights or collectives, is used here as well
                used = [images, texts, all_images, all_texts, scale, *([] if bias is None else [bias])]
                return 0 * torch.stack([part.sum() for part in used]).sum()
            if bias is None:
                return softmax_loss(all_images, all_texts, mine, scale)
            return sigmoid_loss(all_images, all_texts, mine, scale, bias)

    def _encoded(self, encode: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """Features ``[N, embed_dim]`` of inputs ``[N, …]``."""
        if self.accumulation == 1:
            return encode(inputs)
        pieces = inputs.chunk(self.accumulation)
        return torch.cat([checkpoint(encode, piece, use_reentrant=False) for piece in pieces])

    def fingerprint(self) -> str:
        loss = "" if self.clip.logit_bias is None else " sigmoid"
        blocks = "" if self.order.block == 1 else f" blocks={self.order.block}"
        crop = "" if self.crop == 1 else f" crop={self.crop}"
        return f"{self.shards.fingerprint} seed={self.order.seed} pairs={self.batch_size}{blocks}{crop}{loss}"

    def flops(self, batch: PairBatch) -> float:
        directions = 2 if self.clip.logit_bias is None else 1
        cosines = directions * 2 * self.batch_size * self.config.embed_dim
        return 3 * batch.weight * (self._flops_of_a_pair + cosines)

    def _look_at_one(self) -> None:
        side = self.config.image_size
        self.clip.encode_image(self.normalise(torch.zeros((1, 3, side, side), dtype=torch.uint8)))
        self.clip.encode_text(caption_ids(self.processor, [""], self.config.text_length))
