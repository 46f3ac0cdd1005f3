"""Our loop as a contestant of the vision-language benchmark, and the ceiling that the machine sets it.

`ours` is `jvlm.train.loop.train` as a stage runs it: packed rows of shards and tokens, resuming, clipping,
metrics.jsonl, checkpoints that are synced and hashed; projector and language model learn, the tower is frozen. `gemm`
is no training: a span is the best speed of one matrix product.
"""

import sys
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from jvlm.bench.contestant import ENDLESS, Spans, Spec
from jvlm.bench.data_pictures import SEED
from jvlm.bench.gemm import serve
from jvlm.bench.pretrain_ours import engine_fields
from jvlm.bench.train_vl_data import open_mix
from jvlm.model.directory import load_directory, write_model_files
from jvlm.model.flops import Flops
from jvlm.model.packed import PackedBatch
from jvlm.train.config import EngineConfig, LoopConfig, OptimizerConfig, PackingConfig
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import NextToken, train_only
from jvlm.train.source import PackedRows

TRAINED = ("projector", "language")


class _Measured(NextToken):
    """Tells the spans of every step and its targets when the step begins to compute: batches may be made ahead."""

    spans: Spans
    step = -1  # the loop's dry step comes before step 0

    def loss_sum(self, batch: PackedBatch) -> Tensor:
        self.spans.begin(self.step)
        self.step += 1
        self.spans.add(targets=batch.weight, **work_of(self.flops, batch))
        return super().loss_sum(batch)


def work_of(flops: Flops, batch: PackedBatch) -> dict[str, float]:
    """Input tokens, pictures and operations of a batch's samples; what padding costs is not counted."""
    lengths = [length for length, source in zip(batch.doc_lens, batch.sources, strict=True) if source]
    images = 0 if batch.pixels is None else len(batch.pixels)
    products = flops.per_token * sum(lengths) + flops.per_target * batch.weight + flops.per_image * images
    attention = flops.per_pair * sum(length**2 for length in lengths)
    rows = batch.input_ids.numel()
    return {"tokens": sum(lengths), "computed": rows, "images": images, "gflop": (products + attention) / 1e9}


def run(spec: Spec, spans: Spans) -> None:
    """Train until the parent has seen enough."""
    work, settings = Path(spec.work), spec.settings
    loaded = load_directory(work / spec.size)
    model, processor = loaded.model, loaded.processor
    train_only(model, TRAINED)
    rows = PackedRows(open_mix(work, processor, spec.row_length), spec.row_length, SEED, processor.pad)
    objective = _Measured(model, rows, PackingConfig(row_length=spec.row_length, rows=settings.rows))
    objective.spans = spans
    config = LoopConfig(
        steps=ENDLESS,
        optimizer=OptimizerConfig(**spec.optimizer),
        checkpoint_every=spec.span_steps,
        log_every=spec.span_steps,
        engine=EngineConfig(**engine_fields(settings.precision, settings.compile)),
        workers=settings.workers,
    )
    files = partial(write_model_files, model, processor)
    train(objective, config, Path(spec.folder), lambda line: print(line, file=sys.stderr), files)


def gemm(spec: Spec, spans: Spans) -> None:
    """The ceiling, over the linear layers of the model."""
    model = load_directory(Path(spec.work) / spec.size).model
    serve({(part.in_features, part.out_features) for part in model.modules() if isinstance(part, nn.Linear)}, spans)


if __name__ == "__main__":
    spec = Spec.read(Path(sys.argv[1]))
    torch.set_num_threads(spec.threads)
    {"ours": run, "gemm": gemm}[spec.kind](spec, Spans(spec.warmup_steps, spec.span_steps))
