"""A mixture of experts on real text: how evenly its experts are used after a short training, and what a step costs with
each way of computing them, beside a dense model that has as many parameters for a token.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jvlm.bench.pretrain_data import SEED, DataSpec, prepare
from jvlm.model.directory import load_directory
from jvlm.model.experts import router_scores
from jvlm.model.packed import PackedBatch
from jvlm.text.shards import TokenShards
from jvlm.train.config import LoopConfig, OptimizerConfig, PackingConfig
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import NextToken, experts_loss, language_model, packed_hidden
from jvlm.train.routers import RouterLoad, routing_figures
from jvlm.train.source import PackedRows, TokenDocuments

WAYS = ("grouped_mm", "eager")
"""transformers' grouped product of tokens sorted by expert, and its loop over experts."""


@dataclass(frozen=True)
class Plan:
    """Shapes and sizes."""

    hidden_size: int = 128
    num_layers: int = 4
    intermediate_size: int = 352
    """Of the dense model; an expert's is this divided by `experts_per_token`."""
    num_experts: int = 8
    experts_per_token: int = 2
    vocab_size: int = 4096
    row_length: int = 256
    rows: int = 8
    steps: int = 200
    measured_rows: int = 256
    """Rows, which the training has not seen, whose load is measured."""
    repeats: int = 7
    stride: int = 16
    """Every so many documents of every source are read."""


FULL = Plan()


def run(data_root: Path, threads: int, say: Callable[[str], None], plan: Plan = FULL) -> dict[str, Any]:
    """`load` per layer after `steps` steps: the shares of the experts, even being 1, and the farthest from it; and step
    times (medians, interleaved)."""
    shape = {"hidden_size": plan.hidden_size, "num_layers": plan.num_layers, "num_heads": 4}
    experts = {"num_experts": plan.num_experts, "experts_per_token": plan.experts_per_token}
    sizes = {
        "dense": shape | {"intermediate_size": plan.intermediate_size},
        "mixture": shape | experts | {"intermediate_size": plan.intermediate_size // plan.experts_per_token},
    }
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(
            DataSpec(
                root=str(data_root),
                work=str(work),
                sizes=sizes,
                vocab_size=plan.vocab_size,
                row_length=plan.row_length,
                stride=plan.stride,
                held_out=1,
                held_out_chars=1000,
                tokenizer_chars=2_000_000,
                threads=threads,
            )
        )
        objectives = {name: _objective(work, name, plan) for name in sizes}
        times = _times(objectives, plan)
        mixture = objectives["mixture"]
        optimizer = OptimizerConfig(learning_rate=3e-3, warmup=20)
        train(mixture, LoopConfig(steps=plan.steps, optimizer=optimizer), work / "run", say, lambda _: None)
        routing, shares = _load(mixture, plan)
    deviation = [float(np.abs(layer - 1).max()) for layer in shares]
    return {
        "ratios": {"eager_over_grouped": times["eager"] / times["grouped_mm"]},
        "figures": {f"{name}_ms": value for name, value in times.items()}
        | {"mixture_over_dense": times["grouped_mm"] / times["dense"]},
        "load": {"shares": [layer.round(4).tolist() for layer in shares], "deviation": deviation} | routing,
        "worst_deviation": max(deviation),
        "targets": {"worst_deviation": 0.1},
    }


def _objective(work: Path, name: str, plan: Plan) -> NextToken:
    loaded = load_directory(work / name)
    documents = TokenDocuments(TokenShards(work / "tokens"), loaded.processor)
    rows = PackedRows(documents, plan.row_length, SEED, loaded.processor.pad)
    return NextToken(loaded.model, rows, PackingConfig(row_length=plan.row_length, rows=plan.rows))


def _times(objectives: dict[str, NextToken], plan: Plan) -> dict[str, float]:
    """Milliseconds of forward and backward over a step's rows, of the dense model and of the mixture in each way."""
    (batch,) = objectives["mixture"].micro_batches(0)
    found: dict[str, list[float]] = {name: [] for name in ("dense", *WAYS)}
    for _ in range(1 + plan.repeats):
        for name, times in found.items():
            objective = objectives["dense" if name == "dense" else "mixture"]
            if name in WAYS:
                language_model(objective.model).config._experts_implementation = name
            times.append(_milliseconds(objective, batch))
    language_model(objectives["mixture"].model).config._experts_implementation = WAYS[0]
    return {name: statistics.median(times[1:]) for name, times in found.items()}  # the first warms up


def _milliseconds(objective: NextToken, batch: PackedBatch) -> float:
    started = time.perf_counter()
    objective.loss_sum(batch).backward()
    seconds = time.perf_counter() - started
    objective.model.zero_grad()
    return seconds * 1000


@torch.no_grad()
def _load(objective: NextToken, plan: Plan) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Of rows behind those that were trained on: the figures of the log, and per layer each expert's share times their
    number."""
    model, load = language_model(objective.model.eval()), RouterLoad()
    begin = plan.steps * plan.rows
    for first in range(begin, begin + plan.measured_rows, plan.rows):
        batch = objective.rows.batch(range(first, first + plan.rows))
        with router_scores(model) as scores:
            packed_hidden(model, batch)
        experts_loss(model, scores, batch.input_ids, load)
    routing = load.take()
    tokens = np.asarray(routing)[:, :-2]
    shares = tokens / tokens.sum(1, keepdims=True) * plan.num_experts
    return routing_figures(routing), list(shares)
