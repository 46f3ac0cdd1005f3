"""Pretraining speed beside transformers' Trainer and litgpt: real target tokens a second, memory, bits per character.

Everybody trains the same model from the same real documents with the same threads, AdamW, clipping and row length, and
writes checkpoints as often; how they race is told in `jvlm.bench.race`. A target is a token whose prediction is
trained: padding and what is cut off is none.

Operations (those of the model on packed rows, whatever was computed): for each target 6 × the weights that are used in
matrix products (the head is, the embedding is not), and 6 × layers × width × Σ len² for causal attention inside the
documents: forward 2 · 2 · len² · width / 2, backward twice that. The ceiling is the fastest matrix product, of any
precision, among those of the model's forward pass, measured in the same rounds.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jvlm.bench.child import Child, prepare
from jvlm.bench.contestant import Settings
from jvlm.bench.pretrain_data import DataSpec, write_spec
from jvlm.bench.race import LANGUAGE, OPTIMIZER, OURS, Race, RacePlan, Turns
from jvlm.files import read_json

MODULES = {
    OURS: "pretrain_ours",
    "trainer_padded": "pretrain_trainer",
    "trainer_packed": "pretrain_trainer",
    "trainer_causal": "pretrain_trainer",
    "litgpt": "pretrain_litgpt",
}
TARGETS = {
    "over_trainer_padded": 1.5,
    "over_trainer_packed": 1.2,
    "over_trainer_causal": 1.0,
    "over_litgpt": 1.0,
    "of_gemm_ceiling": 0.60,
}


@dataclass(frozen=True, kw_only=True)
class Plan(RacePlan):
    """How large the benchmark is."""

    stride: int = 20
    tokenizer_chars: int = 2_000_000
    rows: Sequence[int] = (8, 4, 16)
    quality_steps: int = 40
    quality_rows: int = 8
    held_out: int = 40
    held_out_chars: int = 2_000


FULL = Plan(LANGUAGE)


def run(root: Path, threads: int, litgpt_python: Path | None, say: Callable[[str], None], plan: Plan) -> dict[str, Any]:
    """All figures; without `litgpt_python` (the Python of an environment that has litgpt) that rival is not run."""
    with tempfile.TemporaryDirectory() as work:
        return _Bench(Path(work), threads, litgpt_python, say, plan).run(root)


class _Bench(Race):
    ranked_by = "targets"

    def __init__(
        self, work: Path, threads: int, litgpt_python: Path | None, say: Callable[[str], None], plan: Plan
    ) -> None:
        super().__init__(work, threads, say, plan, MODULES)
        self.plan = plan
        if litgpt_python is None:
            del self.pythons["litgpt"]
            self.not_run["litgpt"] = "no --litgpt-python was given"
        else:
            self.pythons["litgpt"] = str(litgpt_python)

    def run(self, root: Path) -> dict[str, Any]:
        began = time.perf_counter()
        result = self.race(self._prepare(root))
        return result | {
            "targets": TARGETS | {"memory_of_least_rival": 1.0, "bpc_ours_minus_trainer": 0.01},
            "memory_of_least_rival": max(size["memory_of_least_rival"] for size in result["sizes"].values()),
            "quality": self._quality(),
            "seconds": time.perf_counter() - began,
        }

    def _prepare(self, root: Path) -> dict[str, Any]:
        plan = self.plan
        path = self.work / "data_spec.json"
        spec = DataSpec(
            root=str(root),
            work=str(self.work),
            sizes=plan.languages,
            vocab_size=plan.vocab_size,
            row_length=plan.row_length,
            stride=plan.stride,
            held_out=plan.held_out,
            held_out_chars=plan.held_out_chars,
            tokenizer_chars=plan.tokenizer_chars,
            threads=self.threads,
        )
        write_spec(spec, path)
        prepare("pretrain_data", path)
        data: dict[str, Any] = read_json(self.work / "data.json")
        self.say(f"{data['documents']:,} documents, {data['tokens']:,} tokens")
        return data

    def batches(self, who: str) -> tuple[Sequence[int], bool]:
        return self.plan.rows, who == "trainer_padded"

    def figures(self, size: str, data: dict[str, Any], turns: Turns) -> dict[str, Any]:
        rates, peaks = turns.rates("targets"), turns.peak_mib
        gflop = flops_of_a_target(self.plan.languages[size], data["vocab_size"], data["squares_of_a_token"]) / 1e9
        return {
            "parameters": parameter_counts(self.plan.languages[size], data["vocab_size"]),
            "ratios": ratios(rates, gflop, turns.best_gemm),
            "memory_of_least_rival": peaks[OURS] / min((p for who, p in peaks.items() if who != OURS), default=1.0),
            "tokens_per_s": {who: statistics.median(values) for who, values in rates.items()},
            "tokens_per_s_of_rounds": rates,
            "gflop_of_a_target": gflop,
        }

    def _quality(self) -> dict[str, float]:
        plan, size = self.plan, next(iter(self.plan.languages))
        settings = Settings(rows=plan.quality_rows)
        schedule = {"warmup": max(1, plan.quality_steps // 10), "schedule": "cosine"}
        spec = self.spec("quality", size, settings, 1, plan.quality_steps, OPTIMIZER | schedule)
        child = Child(sys.executable, "pretrain_quality", spec)
        try:
            return child.answer(None)
        finally:
            child.end()

    def start(self, who: str, size: str, settings: Settings, data: dict[str, Any], rows: int) -> Child:
        padded = who == "trainer_padded"
        units = rows * self.plan.row_length / data["targets_of_a_document"] if padded else rows
        warmup = 4 if padded and settings.compile else 2  # shapes differ: the second one compiles again
        kind = who.removeprefix("trainer_")
        spec = self.spec(kind, size, settings, warmup, max(1, round(units / settings.rows)))
        return Child(self.pythons[who], MODULES[who], spec)


def ratios(rates: dict[str, list[float]], gflop: float, gemm_gflops: Sequence[float]) -> dict[str, float]:
    """Of medians over the rounds. rates: targets a second by contestant; gflop: of one target."""
    medians = {who: statistics.median(values) for who, values in rates.items()}
    ours = medians.pop(OURS)
    found = {f"over_{who}": ours / rival for who, rival in medians.items()}
    return found | {"of_gemm_ceiling": ours * gflop / statistics.median(gemm_gflops)}


def parameter_counts(language: dict[str, Any], vocab_size: int) -> dict[str, int]:
    """`all`, with a head that is the embedding; `products`: those used in matrix products."""
    d, inner, layers = (language[name] for name in ("hidden_size", "intermediate_size", "num_layers"))
    products = layers * (4 * d * d + 3 * d * inner) + vocab_size * d
    return {"all": products + (2 * layers + 1) * d, "embedding": vocab_size * d, "products": products}


def flops_of_a_target(language: dict[str, Any], vocab_size: int, squares_of_a_token: float) -> float:
    """Floating-point operations of training on one target; see the module's docstring."""
    attention = 6 * language["num_layers"] * language["hidden_size"] * squares_of_a_token
    return 6 * parameter_counts(language, vocab_size)["products"] + attention
