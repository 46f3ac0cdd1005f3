"""Vision-language training speed beside transformers' LLaVA and Trainer: real target tokens a second, and memory.

Both train the same model (open_clip's ViT as a frozen tower, LLaVA's two-layer projector, a Llama) from the same
weights on the same samples of real data: captions, conversations, some text. Projector and language model learn. Both
have the same threads, AdamW, clipping and sample lengths and write checkpoints as often. A target is a token whose
prediction is trained: words of answers, captions and documents, no question, no picture, no padding.

We train packed rows with the loop of every stage. The rival trains padded batches (`jvlm.bench.train_vl_llava`). Each
first looks for its best settings, one after the other: precision, batch size, for the rival batches of like length or
not, helpers that prepare batches, compilation; settings are ranked by input tokens a second, padding not counted, which
vary less than targets do from batch to batch. The larger size tries the best few of the smaller again. Then both take
turns, `rounds` times, each alone while it is measured; figures are medians of the rounds.

Operations are those of `jvlm.model.flops` for the samples of the rows, padding left out: for each token
2 × the weights of the decoder's matrices, for each target 2 × width × vocabulary, 2 × layers × width × Σ len² for
causal attention inside the samples, and for each picture the products of the projector, all three times (forward,
gradients of weights and of inputs); those of the frozen tower once. The ceiling is the fastest matrix product, of any
precision, among those of the model's linear layers, measured in the same rounds.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jvlm.bench.pretrain import (
    LANGUAGE,
    OPTIMIZER,
    START_LIMIT,
    Trial,
    _Child,
    _environment,
    _Failed,
    _ranked,
    best,
    share_of_processors,
    worst,
)
from jvlm.bench.train_vl_contestant import Settings, Spec
from jvlm.bench.train_vl_data import DataSpec, write_spec
from jvlm.files import read_json

OURS, RIVAL = "ours", "llava"
MODULES = {OURS: "train_vl_ours", RIVAL: "train_vl_llava"}
TARGETS = {"over_padded_llava": 1.8, "of_gemm_ceiling": 0.45, "packing_fill": 0.97}
VISION = {"image_size": 96, "patch_size": 16, "width": 192, "layers": 6, "head_width": 64, "feature_norm": False}


@dataclass(frozen=True)
class Plan:
    """How large the benchmark is."""

    languages: dict[str, dict[str, Any]]
    vision: dict[str, Any]
    vocab_size: int = 16_000
    row_length: int = 512
    source_chars: int = 100_000
    text_chars: int = 150_000
    precisions: Sequence[str] = ("float32", "bfloat16")
    compiled: bool = True
    rows: Sequence[int] = (8, 4, 16)
    """Packed rows in our batch."""
    samples: Sequence[int] = (16, 8, 32)
    """Samples in the rival's."""
    workers: Sequence[int] = (1,)
    """Helpers that prepare batches, beside none."""
    span_rows: int = 96
    """Rows, or as many samples as fill them, that are measured at once."""
    probe_rows: int = 32
    rounds: int = 5
    again: int = 3


FULL = Plan(LANGUAGE, VISION)


def run(root: Path, threads: int, say: Callable[[str], None], plan: Plan) -> dict[str, Any]:
    """All figures. `root` is a folder of real data as `jvlm_data.real` reads it."""
    with tempfile.TemporaryDirectory() as work:
        return _Bench(Path(work), threads, say, plan).run(root)


class _Bench:
    def __init__(self, work: Path, threads: int, say: Callable[[str], None], plan: Plan) -> None:
        self.work, self.threads, self.say, self.plan = work, threads, say, plan
        self.not_run: dict[str, str] = {}
        self.started = 0

    def run(self, root: Path) -> dict[str, Any]:
        began = time.perf_counter()
        data = self._prepare(root)
        sizes: dict[str, dict[str, Any]] = {}
        tried: dict[str, list[Trial]] = {}
        for name in self.plan.languages:
            tried = {who: self._search(who, name, data, tried.get(who, [])) for who in MODULES}
            sizes[name] = self._size(name, data, tried)
        return {
            "ratios": worst([size["ratios"] for size in sizes.values()]),
            "packing_fill": data["packing_fill"],
            "targets": TARGETS,
            "sizes": sizes,
            "data": data,
            "vision": self.plan.vision,
            "languages": self.plan.languages,
            "trained": "projector and language model; the tower is frozen",
            "optimizer": OPTIMIZER,
            "threads": self.threads,
            "not_run": self.not_run,
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
        command = [sys.executable, "-m", "jvlm.bench.train_vl_data", str(path)]
        subprocess.run(command, env=_environment(), check=True, stdout=subprocess.DEVNULL)
        data: dict[str, Any] = read_json(self.work / "data.json")
        self.say(f"{data['samples']} samples, {data['tokens']} tokens, lengths {data['length_histogram']}")
        return data

    def _search(self, who: str, size: str, data: dict[str, Any], before: list[Trial]) -> list[Trial]:
        """Settings tried at this size. `before`: those of a smaller size, whose best are tried again."""
        trials: list[Trial] = []

        def probe(settings: Settings) -> None:
            trials.append(self._probe(who, size, settings, data))
            self.say(f"{size} {who} {trials[-1]}")

        def change(**changes: Any) -> None:
            probe(best(trials).settings.but(**changes))  # type: ignore[arg-type]

        if before:
            for trial in _ranked(before)[: self.plan.again]:
                probe(trial.settings)  # type: ignore[arg-type]
            return trials
        padded = who == RIVAL
        batches = self.plan.samples if padded else self.plan.rows
        for precision in self.plan.precisions:
            probe(Settings(precision, rows=batches[0], group=padded))
        for rows in batches[1:]:
            change(rows=rows)
        if padded:
            change(group=False)
        for workers in self.plan.workers:
            change(workers=workers)
        if self.plan.compiled:  # last: minutes each
            change(compile=True)
        return trials

    def _probe(self, who: str, size: str, settings: Settings, data: dict[str, Any]) -> Trial:
        child = self._start(who, size, settings, data, self.plan.probe_rows)
        try:
            child.answer(START_LIMIT)
            span = child.span()
        except _Failed as error:
            return Trial(settings, error=str(error))
        finally:
            child.end()
        return Trial(settings, span["tokens"] / span["seconds"], span["peak_kib"] / 1024)

    def _size(self, size: str, data: dict[str, Any], tried: dict[str, list[Trial]]) -> dict[str, Any]:
        """The rounds of one size."""
        chosen = {who: best(trials).settings for who, trials in tried.items() if any(t.error is None for t in trials)}
        self.not_run |= dict.fromkeys(tried.keys() - chosen.keys(), f"every setting failed at {size}")
        children = {
            who: self._start(who, size, settings, data, self.plan.span_rows)  # type: ignore[arg-type]
            for who, settings in chosen.items()
        }
        spans: dict[str, list[dict[str, Any]]] = {who: [] for who in children}
        gemm = _Child(sys.executable, MODULES[OURS], self._spec("gemm", size, Settings(), 1, 1))
        try:
            for child in (gemm, *children.values()):
                child.answer(START_LIMIT)
            ceilings = []
            for number in range(self.plan.rounds):
                ceilings.append(gemm.span()["gflops"])
                for who, child in children.items():
                    spans[who].append(child.span())
                rates = {who: round(_rates(found[-1:], "targets")[0]) for who, found in spans.items()}
                self.say(f"{size} round {number + 1}: {rates}")
        finally:
            for child in (gemm, *children.values()):
                child.end()
        peaks = {who: found[-1]["peak_kib"] / 1024 for who, found in spans.items()}
        return {
            "ratios": ratios(spans, [max(ceiling.values()) for ceiling in ceilings]),
            "memory_of_rival": peaks[OURS] / peaks[RIVAL] if len(peaks) == 2 else None,
            "targets_per_s": {who: statistics.median(_rates(found, "targets")) for who, found in spans.items()},
            "targets_per_s_of_rounds": {who: _rates(found, "targets") for who, found in spans.items()},
            "tokens_per_s": {who: statistics.median(_rates(found, "tokens")) for who, found in spans.items()},
            "images_per_s": {who: statistics.median(_rates(found, "images")) for who, found in spans.items()},
            "fill": {who: fill(found) for who, found in spans.items()},
            "share_of_processors": {who: share_of_processors(found, self.threads) for who, found in spans.items()},
            "peak_mib": peaks,
            "settings": {who: asdict(settings) for who, settings in chosen.items()},
            "gflop_per_s_of_rounds": _rates(spans[OURS], "gflop"),
            "gemm_gflops_of_rounds": ceilings,
            "tried": {who: [asdict(trial) for trial in trials] for who, trials in tried.items()},
        }

    def _start(self, who: str, size: str, settings: Settings, data: dict[str, Any], rows: int) -> _Child:
        padded = who == RIVAL
        units = rows * self.plan.row_length / data["mean_length"] if padded else rows
        warmup = 8 if padded and settings.compile else 2  # shapes differ, with pictures and without
        return _Child(
            sys.executable, MODULES[who], self._spec(who, size, settings, warmup, max(1, round(units / settings.rows)))
        )

    def _spec(self, kind: str, size: str, settings: Settings, warmup_steps: int, span_steps: int) -> Spec:
        self.started += 1
        return Spec(
            kind=kind,
            work=str(self.work),
            size=size,
            folder=str(self.work / f"run-{self.started}"),
            settings=settings,
            optimizer=OPTIMIZER,
            row_length=self.plan.row_length,
            threads=self.threads,
            warmup_steps=warmup_steps,
            span_steps=span_steps,
        )


def ratios(spans: dict[str, list[dict[str, Any]]], gemm_gflops: Sequence[float]) -> dict[str, float]:
    """Of medians over the rounds. spans: what each contestant told of its rounds; gemm_gflops: the ceiling in each."""
    speed = statistics.median(_rates(spans[OURS], "gflop"))
    found = {"of_gemm_ceiling": speed / statistics.median(gemm_gflops)}
    if RIVAL in spans:
        targets = {who: statistics.median(_rates(told, "targets")) for who, told in spans.items()}
        found["over_padded_llava"] = targets[OURS] / targets[RIVAL]
    return found


def fill(spans: list[dict[str, Any]]) -> float:
    """Of the token places that were computed, the share that held samples."""
    return sum(span["tokens"] for span in spans) / sum(span["computed"] for span in spans)


def _rates(spans: list[dict[str, Any]], what: str) -> list[float]:
    return [span[what] / span["seconds"] for span in spans]
