"""Our loop as a contestant of the pretraining benchmark, and the ceiling that the machine sets it.

`ours` is `jvlm.train.loop.train` as a stage runs it: packed rows made from token shards, clipping, metrics.jsonl,
checkpoints that are synced and hashed. `gemm` is no training: a span is the best speed of one matrix product.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from jvlm.bench.contestant import ENDLESS, Spans, Spec
from jvlm.bench.gemm import serve
from jvlm.bench.pretrain_data import SEED
from jvlm.files import read_json
from jvlm.model.directory import load_directory, write_model_files
from jvlm.text.shards import TokenShards
from jvlm.train.config import EngineConfig, LoopConfig, OptimizerConfig, PackingConfig
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import NextToken
from jvlm.train.source import PackedRows, TokenDocuments
from jvlm.train.world import ONE_PROCESS, World


class _Measured(NextToken):
    """Tells the spans of every step and its targets."""

    spans: Spans

    def micro_batches(self, step: int, world: World = ONE_PROCESS) -> list[Any]:
        self.spans.begin(step)  # the dry step before step 0 is warm-up
        batches = super().micro_batches(step, world)
        self.spans.add(targets=sum(batch.weight for batch in batches))
        return batches


def run(spec: Spec, spans: Spans) -> None:
    """Train until the parent has seen enough."""
    work, settings = Path(spec.work), spec.settings
    loaded = load_directory(work / spec.size)
    model, processor = loaded.model, loaded.processor
    documents = TokenDocuments(TokenShards(work / "tokens"), processor)
    rows = PackedRows(documents, spec.row_length, SEED, processor.pad)
    objective = _Measured(model, rows, PackingConfig(row_length=spec.row_length, rows=settings.rows))
    objective.spans = spans
    config = LoopConfig(
        steps=ENDLESS,
        optimizer=OptimizerConfig(**spec.optimizer),
        checkpoint_every=spec.span_steps,
        log_every=spec.span_steps,
        engine=EngineConfig(**engine_fields(settings.precision, settings.compile)),
    )
    files = partial(write_model_files, model, processor)
    train(objective, config, Path(spec.folder), lambda line: print(line, file=sys.stderr), files)


def engine_fields(precision: str, compiled: bool) -> dict[str, Any]:
    """Fields of EngineConfig."""
    return {"precision": precision} | ({"compile": True} if compiled else {})


def gemm(spec: Spec, spans: Spans) -> None:
    """The ceiling, over the matrix products of the model."""
    config = read_json(Path(spec.work) / spec.size / "config.json")
    d, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    serve([(d, d), (d, inner), (inner, d), (d, vocabulary)], spans)


if __name__ == "__main__":
    spec = Spec.read(Path(sys.argv[1]))
    torch.set_num_threads(spec.threads)
    {"ours": run, "gemm": gemm}[spec.kind](spec, Spans(spec.warmup_steps, spec.span_steps))
