"""transformers' LLaVA and Trainer as a contestant of the vision-language benchmark.

A sample a row, padded on the right to the longest of its batch; batches of like length by transformers' own sampler.
Samples are made by the very code that ours are: the same pictures, tokens and targets at the same cost. Attention is
sdpa, the weights those that our loop starts from, the tower is frozen as there.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, RandomSampler, Sampler
from transformers import LlavaForConditionalGeneration
from transformers.trainer_pt_utils import LengthGroupedSampler

from jvlm.bench.contestant import Spans, Spec
from jvlm.bench.pretrain_trainer import IGNORED, _Measured, _Shuffled, arguments
from jvlm.bench.train_vl_data import open_mix, open_processor
from jvlm.model.config import VisionConfig
from jvlm.model.packed import Example
from jvlm.train.source import SampleSet


class Samples(Dataset[Example]):
    """Samples by number; `lengths` are known without reading them."""

    def __init__(self, data: SampleSet) -> None:
        self.data, self.lengths = data, data.lengths.tolist()

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Example:
        return self.data.example(index)


def collate(examples: Sequence[Example], pad: int, vision: VisionConfig) -> dict[str, Tensor]:
    """A batch as LLaVA takes it; the model shifts the labels. Pictures are in the order of their places."""
    width = 1 + max(len(example.inputs) for example in examples)
    batch = {
        "input_ids": torch.full((len(examples), width), pad),
        "attention_mask": torch.zeros(len(examples), width, dtype=torch.long),
        "labels": torch.full((len(examples), width), IGNORED),
    }
    for row, example in enumerate(examples):
        length = 1 + len(example.inputs)
        last = pad if example.labels[-1] == IGNORED else example.labels[-1]
        batch["input_ids"][row, :length] = torch.tensor([*example.inputs, last])
        batch["attention_mask"][row, :length] = 1
        batch["labels"][row, 1:length] = torch.tensor(example.labels)
    if pictures := [picture for example in examples for picture in example.pixels]:
        mean, std = (torch.tensor(channels).view(1, 3, 1, 1) for channels in (vision.mean, vision.std))
        pixels = np.concatenate(pictures).reshape(-1, 3, vision.image_size, vision.image_size)
        batch["pixel_values"] = (torch.from_numpy(pixels).float() / 255 - mean) / std
    return batch


def work_of(batch: dict[str, Tensor]) -> dict[str, float]:
    """Input tokens and pictures of a batch's samples, and what its rows hold with their padding."""
    mask, pixels = batch["attention_mask"], batch.get("pixel_values")
    tokens = int(mask.sum()) - len(mask)  # the last of a sample is only a label
    return {"tokens": tokens, "computed": mask.numel(), "images": 0 if pixels is None else len(pixels)}


class _LlavaMeasured(_Measured):
    """Groups samples by the lengths that are known; tells the spans of every step, its targets and its work."""

    spans: Spans
    train_dataset: Samples

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        rows = self.args.per_device_train_batch_size
        if self.args.train_sampling_strategy != "group_by_length":
            return RandomSampler(self.train_dataset)
        return _Shuffled(LengthGroupedSampler(rows, lengths=self.train_dataset.lengths), rows)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        work = work_of(inputs)
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.spans.add(**work)
        return loss


def load_model(folder: Path) -> LlavaForConditionalGeneration:
    """The initial weights with the attention that transformers takes by itself; the tower is frozen."""
    model: LlavaForConditionalGeneration = LlavaForConditionalGeneration.from_pretrained(
        folder, attn_implementation="sdpa", dtype=torch.float32
    )
    model.model.vision_tower.requires_grad_(False)
    return model


def run(spec: Spec, spans: Spans) -> None:
    """Train until the parent has seen enough."""
    work, settings = Path(spec.work), spec.settings
    processor = open_processor(work, spec.size)
    assert processor.vision is not None
    trainer = _LlavaMeasured(
        model=load_model(work / f"{spec.size}-llava"),
        args=arguments(spec, dataloader_num_workers=settings.workers),
        train_dataset=Samples(open_mix(work, processor, spec.row_length)),
        data_collator=partial(collate, pad=processor.pad, vision=processor.vision),
    )
    trainer.spans = spans
    trainer.train()


if __name__ == "__main__":
    spec = Spec.read(Path(sys.argv[1]))
    torch.set_num_threads(spec.threads)
    run(spec, Spans(spec.warmup_steps, spec.span_steps))
