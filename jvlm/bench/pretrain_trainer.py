"""transformers' Trainer as a contestant of the pretraining benchmark, in the three ways it is used for documents.

* ``padded``: a document a row, cut to the row length and padded to the longest of its batch;
* ``packed``: our rows, each with a dense block-diagonal mask ``[1, T, T]`` over its documents;
* ``causal``: our rows with no mask but the causal one: documents see each other.

All with sdpa attention, from the initial weights that our loop starts from.
"""

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import (
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from jvlm.bench.contestant import ENDLESS, Spans, Spec

IGNORED = -100


class Documents(Dataset[dict[str, list[int]]]):
    """A document a row, cut to `row_length` tokens; the model shifts the labels."""

    def __init__(self, work: Path, row_length: int) -> None:
        with np.load(work / "documents.npz") as file:
            self.tokens, self.offsets = file["tokens"], file["offsets"]
        self.row_length = row_length

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        start, stop = int(self.offsets[index]), int(self.offsets[index + 1])
        return {"input_ids": self.tokens[start : min(stop, start + self.row_length)].tolist()}


class Rows(Dataset[dict[str, Any]]):
    """Packed rows with labels that are shifted already; with `masked` a dense mask and positions that restart."""

    def __init__(self, work: Path, masked: bool) -> None:
        with np.load(work / "rows.npz") as file:
            self.rows = {name: torch.from_numpy(file[name]) for name in file.files}
        self.masked = masked

    def __len__(self) -> int:
        return len(self.rows["labels"])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        labels = self.rows["labels"][index]
        row = {"input_ids": self.rows["input_ids"][index], "labels": labels, "shift_labels": labels}
        if self.masked:
            row["position_ids"] = self.rows["position_ids"][index]
            row["attention_mask"] = block_mask(self.rows["documents"][index])
        return row


def block_mask(documents: Tensor) -> Tensor:
    """``[1, T, T]``: causal within a document. documents: ``[T]``, the number of each token's."""
    return ((documents[:, None] == documents) & torch.ones(2 * documents.shape, dtype=torch.bool).tril())[None]


def count_targets(batch: dict[str, Tensor]) -> int:
    """Tokens of a batch whose prediction is trained."""
    shifted = batch["shift_labels"] if "shift_labels" in batch else batch["labels"][:, 1:]
    return int((shifted != IGNORED).sum())


class _Shuffled(Sampler[int]):
    """The batches of Trainer's own sampler in another order: its order goes from long documents to short ones within
    fifty batches, so that no short span would be like the whole."""

    def __init__(self, sampler: Any, rows: int) -> None:
        self.sampler, self.rows = sampler, rows

    def __iter__(self) -> Iterator[int]:
        indices = list(self.sampler)
        batches = [indices[i : i + self.rows] for i in range(0, len(indices) - self.rows + 1, self.rows)]
        random.Random(0).shuffle(batches)
        return (index for batch in batches for index in batch)

    def __len__(self) -> int:
        return len(self.sampler) // self.rows * self.rows


class _Measured(Trainer):
    """Tells the spans of every step and its targets."""

    spans: Spans

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(train_dataset)
        grouped = self.args.train_sampling_strategy == "group_by_length"
        return _Shuffled(sampler, self.args.per_device_train_batch_size) if grouped else sampler

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        self.spans.begin(self.state.global_step)
        self.spans.add(targets=count_targets(inputs))
        return super().training_step(model, inputs, num_items_in_batch)


def arguments(spec: Spec, **changes: Any) -> TrainingArguments:
    """Trainer's settings; optimizer, clipping and checkpoints as our loop has them."""
    settings, optimizer = spec.settings, spec.optimizer
    fields = {
        "output_dir": spec.folder,
        "per_device_train_batch_size": settings.rows,
        "max_steps": ENDLESS,
        "learning_rate": optimizer["learning_rate"],
        "weight_decay": optimizer["weight_decay"],
        "adam_beta1": optimizer["betas"][0],
        "adam_beta2": optimizer["betas"][1],
        "adam_epsilon": optimizer["eps"],
        "max_grad_norm": optimizer["clip"],
        "lr_scheduler_type": "constant",
        "bf16": settings.precision == "bfloat16",
        "torch_compile": settings.compile,
        "train_sampling_strategy": "group_by_length" if settings.group else "random",
        "save_strategy": "steps",
        "save_steps": spec.span_steps,
        "save_total_limit": 2,
        "logging_steps": spec.span_steps,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }
    return TrainingArguments(**fields | changes)


def load_model(spec: Spec) -> LlamaForCausalLM:
    """The initial weights, with the attention that transformers takes by itself."""
    folder = Path(spec.work) / spec.size
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(folder, attn_implementation="sdpa", dtype=torch.float32)
    return model


def data(spec: Spec) -> dict[str, Any]:
    """Trainer's data set and collator."""
    work = Path(spec.work)
    if spec.kind != "padded":
        return {"train_dataset": Rows(work, spec.kind == "packed"), "data_collator": default_data_collator}
    tokenizer = AutoTokenizer.from_pretrained(work / spec.size)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    return {"train_dataset": Documents(work, spec.row_length), "data_collator": collator}


def run(spec: Spec, spans: Spans) -> None:
    """Train until the parent has seen enough."""
    trainer = _Measured(model=load_model(spec), args=arguments(spec), **data(spec))
    trainer.spans = spans
    trainer.train()


if __name__ == "__main__":
    spec = Spec.read(Path(sys.argv[1]))
    torch.set_num_threads(spec.threads)
    run(spec, Spans(spec.warmup_steps, spec.span_steps))
