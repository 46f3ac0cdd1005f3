"""Pretraining speed beside transformers' Trainer and litgpt: real target tokens a second, memory, bits per character.

Everybody trains the same model from the same real documents with the same threads, AdamW, clipping and row length, and
writes checkpoints as often. A target is a token whose prediction is trained: padding and what is cut off is none.

Each contestant first looks for its best settings, one after the other: precision, batch size, for padded rows batches
of like length or not, compilation; of all settings within `NEAR` of the fastest, those that hold the least memory. The
larger sizes try again the best few of the size before. Then the winners take turns, `rounds` times, each alone while it
is measured; figures are medians of the rounds.

Operations (those of the model on packed rows, whatever was computed): for each target 6 × the weights that are used in
matrix products (the head is, the embedding is not), and 6 × layers × width × Σ len² for causal attention inside the
documents: forward 2 · 2 · len² · width / 2, backward twice that. The ceiling is the fastest matrix product, of any
precision, among those of the model's forward pass, measured in the same rounds.
"""

import json
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jvlm
from jvlm.bench.contestant import Settings, Spec
from jvlm.bench.pretrain_data import DataSpec, write_spec
from jvlm.errors import JvlmError
from jvlm.files import read_json
from jvlm.process import die_with_parent

OURS = "ours"
MODULES = {
    OURS: "pretrain_ours",
    "trainer_padded": "pretrain_trainer",
    "trainer_packed": "pretrain_trainer",
    "trainer_causal": "pretrain_trainer",
    "litgpt": "pretrain_litgpt",
}
NEAR = 0.03
START_LIMIT, SPAN_LIMIT = 300, 300  # seconds: start-up with compilation, and one span
OPTIMIZER = {"learning_rate": 1e-3, "muon": False, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.05, "clip": 1.0}
TARGETS = {
    "over_trainer_padded": 1.5,
    "over_trainer_packed": 1.2,
    "over_trainer_causal": 1.0,
    "over_litgpt": 1.0,
    "of_gemm_ceiling": 0.60,
}
LANGUAGE = {
    "10M": {"hidden_size": 256, "num_layers": 8, "num_heads": 4, "intermediate_size": 688},
    "30M": {"hidden_size": 512, "num_layers": 7, "num_heads": 8, "intermediate_size": 1376},
}


@dataclass(frozen=True)
class Plan:
    """How large the benchmark is."""

    languages: dict[str, dict[str, Any]]
    vocab_size: int = 16_000
    row_length: int = 512
    stride: int = 20
    tokenizer_chars: int = 2_000_000
    compiled: bool = True
    rows: Sequence[int] = (8, 4, 16)
    span_rows: int = 32
    probe_rows: int = 16
    rounds: int = 5
    again: int = 3
    quality_steps: int = 40
    quality_rows: int = 8
    held_out: int = 40
    held_out_chars: int = 2_000


@dataclass(frozen=True)
class Trial:
    """One setting of a contestant, tried: targets a second, or the error."""

    settings: Settings
    tokens_per_s: float = 0.0
    peak_mib: float = 0.0
    error: str | None = None


class _Failed(JvlmError):
    """A contestant that did not run."""


class _Child:
    """A contestant's process; `span` lets it go on."""

    def __init__(self, python: str, module: str, spec: Spec) -> None:
        folder = Path(spec.folder)
        folder.mkdir(parents=True)
        path = folder / "spec.json"
        spec.write(path)
        self.log = folder / "log.txt"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [python, "-m", f"jvlm.bench.{module}", str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(spec),
                preexec_fn=die_with_parent,
            )

    def answer(self, limit: float | None) -> dict[str, Any]:
        """What the child says next. Raises _Failed when it ends or takes more than `limit` seconds."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], limit)[0]:
            raise _Failed(f"took more than {limit:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise _Failed(_last_words(self.log))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def span(self) -> dict[str, Any]:
        """One span of steps."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(b"go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise _Failed(_last_words(self.log)) from None
        return self.answer(SPAN_LIMIT)

    def end(self) -> None:
        """The process is over and its checkpoints are gone."""
        self.process.kill()
        self.process.communicate()
        shutil.rmtree(self.log.parent)


def run(root: Path, threads: int, litgpt_python: Path | None, say: Callable[[str], None], plan: Plan) -> dict[str, Any]:
    """All figures; without `litgpt_python` (the Python of an environment that has litgpt) that rival is not run."""
    with tempfile.TemporaryDirectory() as work:
        return _Bench(Path(work), threads, litgpt_python, say, plan).run(root)


class _Bench:
    def __init__(
        self, work: Path, threads: int, litgpt_python: Path | None, say: Callable[[str], None], plan: Plan
    ) -> None:
        self.work, self.threads, self.say, self.plan = work, threads, say, plan
        self.pythons = dict.fromkeys(MODULES, sys.executable)
        self.not_run = {}
        if litgpt_python is None:
            del self.pythons["litgpt"]
            self.not_run["litgpt"] = "no --litgpt-python was given"
        else:
            self.pythons["litgpt"] = str(litgpt_python)
        self.started = 0

    def run(self, root: Path) -> dict[str, Any]:
        began = time.perf_counter()
        data = self._prepare(root)
        sizes: dict[str, dict[str, Any]] = {}
        tried: dict[str, list[Trial]] = {}
        for name in self.plan.languages:
            tried = {who: self._search(who, name, data, tried.get(who, [])) for who in self.pythons}
            sizes[name] = self._size(name, data, tried)
        return {
            "ratios": worst([size["ratios"] for size in sizes.values()]),
            "targets": TARGETS | {"memory_of_least_rival": 1.0, "bpc_ours_minus_trainer": 0.01},
            "memory_of_least_rival": max(size["memory_of_least_rival"] for size in sizes.values()),
            "quality": self._quality(),
            "sizes": sizes,
            "data": data,
            "threads": self.threads,
            "optimizer": OPTIMIZER,
            "not_run": self.not_run,
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
        subprocess.run([sys.executable, "-m", "jvlm.bench.pretrain_data", str(path)], env=_environment(), check=True)
        data: dict[str, Any] = read_json(self.work / "data.json")
        self.say(f"{data['documents']:,} documents, {data['tokens']:,} tokens")
        return data

    def _search(self, who: str, size: str, data: dict[str, Any], before: list[Trial]) -> list[Trial]:
        """Settings tried at this size. `before`: those of a smaller size, whose best are tried again."""
        trials: list[Trial] = []

        def probe(settings: Settings) -> None:
            trials.append(self._probe(who, size, settings, data))
            self.say(f"{size} {who} {trials[-1]}")

        if before:
            for trial in _ranked(before)[: self.plan.again]:
                probe(trial.settings)
            return trials
        padded = who == "trainer_padded"
        for precision in ("float32", "bfloat16"):
            probe(Settings(precision, rows=self.plan.rows[0], group=padded))
        for rows in self.plan.rows[1:]:
            probe(best(trials).settings.but(rows=rows))
        if padded:
            probe(best(trials).settings.but(group=False))
        if self.plan.compiled:  # last: minutes each
            probe(best(trials).settings.but(compile=True))
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
        return Trial(settings, span["targets"] / span["seconds"], span["peak_kib"] / 1024)

    def _size(self, size: str, data: dict[str, Any], tried: dict[str, list[Trial]]) -> dict[str, Any]:
        """The rounds of one size."""
        chosen = {who: best(trials).settings for who, trials in tried.items() if any(t.error is None for t in trials)}
        self.not_run |= dict.fromkeys(tried.keys() - chosen.keys(), f"every setting failed at {size}")
        span = self.plan.span_rows
        children = {who: self._start(who, size, settings, data, span) for who, settings in chosen.items()}
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
                rates = {who: round(found[-1]["targets"] / found[-1]["seconds"]) for who, found in spans.items()}
                self.say(f"{size} round {number + 1}: {rates}")
        finally:
            for child in (gemm, *children.values()):
                child.end()
        counts = parameter_counts(self.plan.languages[size], data["vocab_size"])
        rates = {who: [span["targets"] / span["seconds"] for span in found] for who, found in spans.items()}
        peaks = {who: found[-1]["peak_kib"] / 1024 for who, found in spans.items()}
        gflop = flops_of_a_target(self.plan.languages[size], data["vocab_size"], data["squares_of_a_token"]) / 1e9
        best_gemm = [max(ceiling.values()) for ceiling in ceilings]
        return {
            "parameters": counts,
            "ratios": ratios(rates, gflop, best_gemm),
            "memory_of_least_rival": peaks[OURS] / min((p for who, p in peaks.items() if who != OURS), default=1.0),
            "tokens_per_s": {who: statistics.median(values) for who, values in rates.items()},
            "tokens_per_s_of_rounds": rates,
            "share_of_processors": {who: share_of_processors(found, self.threads) for who, found in spans.items()},
            "peak_mib": peaks,
            "settings": {who: asdict(settings) for who, settings in chosen.items()},
            "gflop_of_a_target": gflop,
            "gemm_gflops_of_rounds": ceilings,
            "tried": {who: [asdict(trial) for trial in trials] for who, trials in tried.items()},
        }

    def _quality(self) -> dict[str, float]:
        plan, size = self.plan, next(iter(self.plan.languages))
        settings = Settings(rows=plan.quality_rows)
        schedule = {"warmup": max(1, plan.quality_steps // 10), "schedule": "cosine"}
        spec = self._spec("quality", size, settings, 1, plan.quality_steps, OPTIMIZER | schedule)
        child = _Child(sys.executable, "pretrain_quality", spec)
        try:
            return child.answer(None)
        finally:
            child.end()

    def _start(self, who: str, size: str, settings: Settings, data: dict[str, Any], rows: int) -> _Child:
        padded = who == "trainer_padded"
        units = rows * self.plan.row_length / data["targets_of_a_document"] if padded else rows
        warmup = 4 if padded and settings.compile else 2  # shapes differ: the second one compiles again
        kind = who.removeprefix("trainer_")
        spec = self._spec(kind, size, settings, warmup, max(1, round(units / settings.rows)))
        return _Child(self.pythons[who], MODULES[who], spec)

    def _spec(
        self,
        kind: str,
        size: str,
        settings: Settings,
        warmup_steps: int,
        span_steps: int,
        optimizer: dict[str, Any] = OPTIMIZER,
    ) -> Spec:
        self.started += 1
        return Spec(
            kind=kind,
            work=str(self.work),
            size=size,
            folder=str(self.work / f"run-{self.started}"),
            settings=settings,
            optimizer=optimizer,
            row_length=self.plan.row_length,
            threads=self.threads,
            warmup_steps=warmup_steps,
            span_steps=span_steps,
        )


def best(trials: list[Trial]) -> Trial:
    """Of those within `NEAR` of the fastest, the one that holds the least memory."""
    ranked = _ranked(trials)
    near = [trial for trial in ranked if trial.tokens_per_s >= (1 - NEAR) * ranked[0].tokens_per_s]
    return min(near, key=lambda trial: trial.peak_mib)


def _ranked(trials: list[Trial]) -> list[Trial]:
    return sorted(trials, key=lambda trial: -trial.tokens_per_s)


def ratios(rates: dict[str, list[float]], gflop: float, gemm_gflops: Sequence[float]) -> dict[str, float]:
    """Of medians over the rounds. rates: targets a second by contestant; gflop: of one target."""
    medians = {who: statistics.median(values) for who, values in rates.items()}
    ours = medians.pop(OURS)
    found = {f"over_{who}": ours / rival for who, rival in medians.items()}
    return found | {"of_gemm_ceiling": ours * gflop / statistics.median(gemm_gflops)}


def share_of_processors(spans: list[dict[str, Any]], threads: int) -> float:
    """Of the time of `threads` processors, what a contestant had: far below 1 when other work disturbed the run."""
    return sum(span["cpu_seconds"] for span in spans) / sum(span["seconds"] for span in spans) / threads


def worst(ratios_of_sizes: list[dict[str, float]]) -> dict[str, float]:
    """Of every ratio the least over the sizes; a rival that ran at one size alone has that one's."""
    keys = dict.fromkeys(key for found in ratios_of_sizes for key in found)
    return {key: min(found[key] for found in ratios_of_sizes if key in found) for key in keys}


def parameter_counts(language: dict[str, Any], vocab_size: int) -> dict[str, int]:
    """`all`, with a head that is the embedding; `products`: those used in matrix products."""
    d, inner, layers = (language[name] for name in ("hidden_size", "intermediate_size", "num_layers"))
    products = layers * (4 * d * d + 3 * d * inner) + vocab_size * d
    return {"all": products + (2 * layers + 1) * d, "embedding": vocab_size * d, "products": products}


def flops_of_a_target(language: dict[str, Any], vocab_size: int, squares_of_a_token: float) -> float:
    """Floating-point operations of training on one target; see the module's docstring."""
    attention = 6 * language["num_layers"] * language["hidden_size"] * squares_of_a_token
    return 6 * parameter_counts(language, vocab_size)["products"] + attention


def _environment(spec: Spec | None = None) -> dict[str, str]:
    """Of a child: this package, the threads, and compiled code kept beside the run, so that it is compiled once."""
    package = str(Path(jvlm.__file__).parent.parent)
    added = {"PYTHONPATH": package, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if spec is not None:
        added |= {"OMP_NUM_THREADS": str(spec.threads), "TORCHINDUCTOR_CACHE_DIR": str(Path(spec.work) / "inductor")}
    return dict(os.environ) | added


def _last_words(log: Path) -> str:
    """The lines that say why a process ended."""
    lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-500:] if lines else "ended without a word"
