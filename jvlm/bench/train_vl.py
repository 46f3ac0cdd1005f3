"""Vision-language training speed beside transformers' LLaVA and Trainer: real target tokens a second, and memory.

Both train the same model (open_clip's ViT as a frozen tower, LLaVA's two-layer projector, a Llama) from the same
weights on the same samples of real data: captions, conversations, some text. Projector and language model learn. Both
have the same threads, AdamW, clipping and sample lengths and write checkpoints as often. A target is a token whose
prediction is trained: words of answers, captions and documents, no question, no picture, no padding.

We train packed rows with the loop of every stage. The rival trains padded batches (`jvlm.bench.train_vl_llava`). How
they race is told in `jvlm.bench.race`; settings are ranked by input tokens a second, padding not counted, which vary
less than targets do from batch to batch.

Operations are those of `jvlm.model.flops` for the samples of the rows, padding left out: for each token
2 × the weights of the decoder's matrices, for each target 2 × width × vocabulary, 2 × layers × width × Σ len² for
causal attention inside the samples, and for each picture the products of the projector, all three times (forward,
gradients of weights and of inputs); those of the frozen tower once. The ceiling is the fastest matrix product, of any
precision, among those of the model's linear layers, measured in the same rounds.
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
from jvlm.bench.race import LANGUAGE, OURS, Race, RacePlan, Turns, rates
from jvlm.bench.train_vl_data import DataSpec, write_spec
from jvlm.files import read_json

RIVAL = "llava"
MODULES = {OURS: "train_vl_ours", RIVAL: "train_vl_llava"}
TARGETS = {"over_padded_llava": 1.8, "of_gemm_ceiling": 0.45, "packing_fill": 0.97}
VISION = {"image_size": 96, "patch_size": 16, "width": 192, "layers": 6, "head_width": 64, "feature_norm": False}


@dataclass(frozen=True, kw_only=True)
class Plan(RacePlan):
    """How large the benchmark is."""

    vision: dict[str, Any]
    source_chars: int = 100_000
    text_chars: int = 150_000
    rows: Sequence[int] = (8, 4, 16)
    """Packed rows in our batch."""
    samples: Sequence[int] = (16, 8, 32)
    """Samples in the rival's."""
    workers: Sequence[int] = (1,)
    span_rows: int = 96
    probe_rows: int = 32


FULL = Plan(LANGUAGE, vision=VISION)


def run(root: Path, threads: int, say: Callable[[str], None], plan: Plan) -> dict[str, Any]:
    """All figures. `root` is a folder of real data as `jvlm_data.real` reads it."""
    with tempfile.TemporaryDirectory() as work:
        return _Bench(Path(work), threads, say, plan).run(root)


class _Bench(Race):
    ranked_by = "tokens"

    def __init__(self, work: Path, threads: int, say: Callable[[str], None], plan: Plan) -> None:
        super().__init__(work, threads, say, plan, MODULES)
        self.plan = plan

    def run(self, root: Path) -> dict[str, Any]:
        began = time.perf_counter()
        result = self.race(self._prepare(root))
        return result | {
            "packing_fill": result["data"]["packing_fill"],
            "targets": TARGETS,
            "vision": self.plan.vision,
            "languages": self.plan.languages,
            "trained": "projector and language model; the tower is frozen",
            "seconds": time.perf_counter() - began,
        }

    def _prepare(self, root: Path) -> dict[str, Any]:
        plan, path = self.plan, self.work / "data_spec.json"
        spec = DataSpec(
            root=str(root),
            work=str(self.work),
            sizes=plan.languages,
            vision=plan.vision,
            vocab_size=plan.vocab_size,
            row_length=plan.row_length,
            source_chars=plan.source_chars,
            text_chars=plan.text_chars,
            threads=self.threads,
        )
        write_spec(spec, path)
        prepare("train_vl_data", path)
        data: dict[str, Any] = read_json(self.work / "data.json")
        self.say(f"{data['samples']} samples, {data['tokens']} tokens, lengths {data['length_histogram']}")
        return data

    def batches(self, who: str) -> tuple[Sequence[int], bool]:
        return (self.plan.samples, True) if who == RIVAL else (self.plan.rows, False)

    def start(self, who: str, size: str, settings: Settings, data: dict[str, Any], rows: int) -> Child:
        padded = who == RIVAL
        units = rows * self.plan.row_length / data["mean_length"] if padded else rows
        warmup = 8 if padded and settings.compile else 2  # shapes differ, with pictures and without
        spec = self.spec(who, size, settings, warmup, max(1, round(units / settings.rows)))
        return Child(sys.executable, MODULES[who], spec)

    def figures(self, size: str, data: dict[str, Any], turns: Turns) -> dict[str, Any]:
        peaks, per_s = turns.peak_mib, {what: turns.rates(what) for what in ("targets", "tokens", "images")}
        medians = {
            f"{what}_per_s": {who: statistics.median(found) for who, found in of.items()} for what, of in per_s.items()
        }
        return {
            "ratios": ratios(turns.spans, turns.best_gemm),
            "memory_of_rival": peaks[OURS] / peaks[RIVAL] if len(peaks) == 2 else None,
            **medians,
            "targets_per_s_of_rounds": per_s["targets"],
            "fill": {who: fill(found) for who, found in turns.spans.items()},
            "gflop_per_s_of_rounds": rates(turns.spans[OURS], "gflop"),
        }


def ratios(spans: dict[str, list[dict[str, Any]]], gemm_gflops: Sequence[float]) -> dict[str, float]:
    """Of medians over the rounds. spans: what each contestant told of its rounds; gemm_gflops: the ceiling in each."""
    speed = statistics.median(rates(spans[OURS], "gflop"))
    found = {"of_gemm_ceiling": speed / statistics.median(gemm_gflops)}
    if RIVAL in spans:
        targets = {who: statistics.median(rates(told, "targets")) for who, told in spans.items()}
        found["over_padded_llava"] = targets[OURS] / targets[RIVAL]
    return found


def fill(spans: list[dict[str, Any]]) -> float:
    """Of the token places that were computed, the share that held samples."""
    return sum(span["tokens"] for span in spans) / sum(span["computed"] for span in spans)
