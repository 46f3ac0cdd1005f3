"""DPO on conversations, with images or without (Rafailov et al. 2023), with a likelihood term on the chosen answer.

The reference model's log-probabilities are computed once, beforehand, and handed in: training holds one model.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jvlm.errors import DataError, UsageError
from jvlm.images.load import load_image
from jvlm.images.shards import ShardReader
from jvlm.model.experts import router_scores
from jvlm.model.flops import Flops
from jvlm.model.geometry import Grid
from jvlm.model.loss import token_log_probabilities
from jvlm.model.packed import Example, PackedBatch, pack
from jvlm.model.processor import Processor
from jvlm.sample import Message, Sample
from jvlm.train.monitor import LossBySource
from jvlm.train.objectives.next_token import experts_loss, language_model, packed_hidden
from jvlm.train.order import permute
from jvlm.train.routers import RouterLoad
from jvlm.train.world import ONE_PROCESS, World


@dataclass(frozen=True)
class PairBatch:
    """`packed` holds chosen and rejected answers in turn, one document each; `reference` ``[pairs, 2]``."""

    packed: PackedBatch
    reference: Tensor

    @property
    def weight(self) -> int:
        return len(self.reference)

    @property
    def sample_ids(self) -> list[str]:
        return self.packed.sample_ids

    @property
    def undecoded(self) -> list[tuple[str, str]]:
        """None: the model has answered on every picture of a pair."""
        return []


def chosen_and_rejected(sample: Sample) -> tuple[list[Message], list[Message]]:
    """The two conversations of a preference pair. Raises DataError for a sample that is none."""
    if not sample.rejected or sample.messages[-1].role != "assistant":
        raise DataError("not a preference pair: it needs a last assistant turn and `rejected`", where=sample.id)
    return sample.messages, [*sample.messages[:-1], *sample.rejected]


def pair_batch(samples: Sequence[Sample], processor: Processor) -> PackedBatch:
    """All answers of `samples` in one row: chosen, rejected, chosen, rejected, …

    Only the last turn counts as target; what came before is the same for both.
    """
    examples = [example for sample in samples for example in _answers(sample, processor)]
    return pack([examples], sum(len(e.inputs) for e in examples), processor.pad)


def _answers(sample: Sample, processor: Processor) -> Iterator[Example]:
    images, sizes = [load_image(image) for image in sample.images], processor.sizes(sample)

    @cache
    def views(image: int, grid: Grid) -> np.ndarray:
        return processor.pixels(images[image], grid)

    prompt = processor.encode(sample.messages[:-1], generation_prompt=True, sizes=sizes).ids
    for messages in chosen_and_rejected(sample):
        encoded = processor.encode(messages, sizes=sizes)
        if encoded.ids[: len(prompt)] != prompt:
            raise DataError("an image in the answer takes tiles from those of the prompt", where=sample.id)
        inputs, labels = encoded.shifted(sample.id)
        labels = [-100] * (len(prompt) - 1) + labels[len(prompt) - 1 :]
        pixels = [views(image, grid) for image, grid in zip(encoded.images, encoded.grids, strict=True)]
        yield Example(sample.id, inputs, labels, pixels, str(sample.meta.get("source", "")))


def answer_log_probabilities(model: nn.Module, batch: PackedBatch) -> tuple[Tensor, Tensor]:
    """Summed log-probability and number of target tokens of each document of a one-row batch: both ``[documents]``."""
    hidden = packed_hidden(model, batch)[0]
    tokens = token_log_probabilities(hidden, batch.labels[0], language_model(model).lm_head)
    documents = torch.repeat_interleave(torch.tensor(batch.doc_lens)).to(tokens.device)
    zeros = tokens.new_zeros(len(batch.doc_lens))
    counts = zeros.index_add(0, documents, (batch.labels[0] != -100).to(tokens.dtype))
    return zeros.index_add(0, documents, tokens), counts


class Preference:
    """-log σ(β · (margin of the policy − margin of the reference)) + α · (−log p of the chosen answer per token)."""

    unit = "pairs"

    def __init__(
        self,
        model: nn.Module,
        processor: Processor,
        shards: ShardReader,
        reference: Mapping[str, Sequence[float]],
        pairs: int,
        beta: float,
        alpha: float,
        seed: int,
        rate_scale: dict[str, float],
    ) -> None:
        self.model: nn.Module = model
        self.processor, self.shards, self.reference = processor, shards, reference
        self.pairs, self.beta, self.alpha, self.seed = pairs, beta, alpha, seed
        self.rate_scale = rate_scale
        self.by_source, self.routers = LossBySource(), RouterLoad()
        self._flops = Flops(model)

    def micro_batches(self, step: int, world: World = ONE_PROCESS) -> list[PairBatch]:
        """Raises UsageError when the pairs cannot be dealt out evenly."""
        if self.pairs % world.size:
            raise UsageError(f"{self.pairs} pairs for {world.size} processes", where="prefer", fix="change pairs")
        count = len(self.shards)
        samples = []
        for place in world.share(range(step * self.pairs, (step + 1) * self.pairs)):
            epoch, at = divmod(place, count)
            samples.append(self.shards.read(int(permute(at, count, self.seed, epoch))))
        reference = torch.tensor([list(self.reference[sample.id]) for sample in samples])
        return [PairBatch(pair_batch(samples, self.processor), reference)]

    def largest_batch(self, world: World = ONE_PROCESS) -> PairBatch:
        """The first: how long others are is not known before they are read."""
        return self.micro_batches(0, world)[0]

    def loss_sum(self, batch: PairBatch) -> Tensor:
        """Of a mixture of experts with the loss that keeps them in balance, as often as there are pairs."""
        language = language_model(self.model)
        with router_scores(language) as scores:
            sums, counts = answer_log_probabilities(self.model, batch.packed)
        chosen, rejected = sums[0::2], sums[1::2]
        margin = (chosen - rejected) - (batch.reference[:, 0] - batch.reference[:, 1])
        losses = -F.logsigmoid(self.beta * margin) - self.alpha * chosen / counts[0::2]
        self.by_source.add(batch.packed.sources[0::2], torch.arange(len(losses), device=losses.device), losses)
        loss = losses.sum()
        if scores:
            loss = loss + batch.weight * experts_loss(language, scores, batch.packed.input_ids, self.routers)
        return loss

    def flops(self, batch: PairBatch) -> float:
        return self._flops(batch.packed)

    def fingerprint(self) -> str:
        return f"{self.shards.fingerprint} seed={self.seed} pairs={self.pairs} beta={self.beta} alpha={self.alpha}"
