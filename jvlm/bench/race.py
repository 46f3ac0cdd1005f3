"""Trainings that race each other on one machine: each looks for its best settings, then all take turns.

Each contestant is a process of its own (`jvlm.bench.contestant`). It first tries settings one after the other:
precision, batch size, for padded rows batches of like length or not, helpers that prepare batches, compilation; of
all settings within `NEAR` of the fastest, those that hold the least memory are taken. Larger sizes try again the best
few of the size before. Then the winners take turns, each alone while it is measured, beside the ceiling that the
machine sets.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from jvlm.bench.child import Child, Failed
from jvlm.bench.contestant import Settings, Spec

OURS = "ours"
NEAR = 0.03
OPTIMIZER = {"learning_rate": 1e-3, "muon": False, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.05, "clip": 1.0}
LANGUAGE = {
    "10M": {"hidden_size": 256, "num_layers": 8, "num_heads": 4, "intermediate_size": 688},
    "30M": {"hidden_size": 512, "num_layers": 7, "num_heads": 8, "intermediate_size": 1376},
}


@dataclass(frozen=True)
class RacePlan:
    """How long a race is."""

    languages: dict[str, dict[str, Any]]
    """Fields of LanguageConfig by the size's name, the smallest first."""
    vocab_size: int = 16_000
    row_length: int = 512
    precisions: Sequence[str] = ("float32", "bfloat16")
    workers: Sequence[int] = ()
    """Helpers that prepare batches, tried beside none."""
    compiled: bool = True
    span_rows: int = 32
    """Rows, or as many padded samples as fill them, that are measured at once; a checkpoint is written in each span."""
    probe_rows: int = 16
    """The same while settings are tried."""
    rounds: int = 5
    again: int = 3
    """Settings that a larger size tries again."""


@dataclass(frozen=True)
class Trial:
    """One setting of a contestant, tried: tokens a second, or the error."""

    settings: Settings
    tokens_per_s: float = 0.0
    peak_mib: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class Turns:
    """What the rounds of one size showed."""

    settings: dict[str, Settings]
    """What each contestant chose."""
    spans: dict[str, list[dict[str, Any]]]
    """By contestant, what it told of each round."""
    ceilings: list[dict[str, float]]
    """GFLOP/s of the best matrix product in each round, by precision."""

    @property
    def best_gemm(self) -> list[float]:
        """GFLOP/s of the best matrix product of any precision in each round."""
        return [max(ceiling.values()) for ceiling in self.ceilings]

    @property
    def peak_mib(self) -> dict[str, float]:
        """The most memory each contestant has held."""
        return {who: found[-1]["peak_kib"] / 1024 for who, found in self.spans.items()}

    def rates(self, what: str) -> dict[str, list[float]]:
        """`what` a second in each round, by contestant."""
        return {who: rates(found, what) for who, found in self.spans.items()}

    def record(self, threads: int) -> dict[str, Any]:
        """What every race reports."""
        return {
            "share_of_processors": {who: share_of_processors(found, threads) for who, found in self.spans.items()},
            "peak_mib": self.peak_mib,
            "settings": {who: asdict(settings) for who, settings in self.settings.items()},
            "gemm_gflops_of_rounds": self.ceilings,
        }


class Race(ABC):
    """The contestants of one benchmark; a benchmark says how each is started and which batches it tries."""

    ranked_by: ClassVar[str]
    """What of a span settings are ranked by."""

    def __init__(
        self, work: Path, threads: int, say: Callable[[str], None], plan: RacePlan, modules: dict[str, str]
    ) -> None:
        self.work, self.threads, self.say, self.modules = work, threads, say, modules
        self._plan = plan
        self.pythons = dict.fromkeys(modules, sys.executable)
        self.not_run: dict[str, str] = {}
        self.started = 0

    @abstractmethod
    def start(self, who: str, size: str, settings: Settings, data: dict[str, Any], rows: int) -> Child:
        """A contestant whose spans are `rows` rows, or as many padded samples as fill them."""

    @abstractmethod
    def batches(self, who: str) -> tuple[Sequence[int], bool]:
        """Batch sizes that a contestant tries, and whether its rows are padded."""

    @abstractmethod
    def figures(self, size: str, data: dict[str, Any], turns: Turns) -> dict[str, Any]:
        """What the benchmark reports of one size; `ratios` among it."""

    def race(self, data: dict[str, Any]) -> dict[str, Any]:
        """Every size: settings searched, turns taken. Returns the least of each ratio, and all figures by size."""
        sizes: dict[str, dict[str, Any]] = {}
        tried: dict[str, list[Trial]] = {}
        for size in self._plan.languages:
            tried = {who: self.search(who, size, data, tried.get(who, [])) for who in self.pythons}
            turns = self.take_turns(size, data, tried)
            trials = {who: [asdict(trial) for trial in found] for who, found in tried.items()}
            sizes[size] = self.figures(size, data, turns) | turns.record(self.threads) | {"tried": trials}
        return {
            "ratios": worst([found["ratios"] for found in sizes.values()]),
            "sizes": sizes,
            "data": data,
            "threads": self.threads,
            "optimizer": OPTIMIZER,
            "not_run": self.not_run,
        }

    def search(self, who: str, size: str, data: dict[str, Any], before: list[Trial]) -> list[Trial]:
        """Settings tried at this size. `before`: those of a smaller size, whose best are tried again."""
        plan, trials = self._plan, list[Trial]()

        def probe(settings: Settings) -> None:
            trials.append(self.probe(who, size, settings, data))
            self.say(f"{size} {who} {trials[-1]}")

        if before:
            for trial in ranked(before)[: plan.again]:
                probe(trial.settings)
            return trials
        rows, padded = self.batches(who)
        for precision in plan.precisions:
            probe(Settings(precision, rows=rows[0], group=padded))
        for number in rows[1:]:
            probe(best(trials).settings.but(rows=number))
        if padded:
            probe(best(trials).settings.but(group=False))
        for number in plan.workers:
            probe(best(trials).settings.but(workers=number))
        if plan.compiled:  # last: minutes each
            probe(best(trials).settings.but(compile=True))
        return trials

    def probe(self, who: str, size: str, settings: Settings, data: dict[str, Any]) -> Trial:
        """One span of a contestant with these settings."""
        child = self.start(who, size, settings, data, self._plan.probe_rows)
        try:
            child.ready()
            span = child.span()
        except Failed as error:
            return Trial(settings, error=str(error))
        finally:
            child.end()
        return Trial(settings, span[self.ranked_by] / span["seconds"], span["peak_kib"] / 1024)

    def take_turns(self, size: str, data: dict[str, Any], tried: dict[str, list[Trial]]) -> Turns:
        """The rounds of one size, each contestant with its best settings."""
        chosen = {who: best(trials).settings for who, trials in tried.items() if any(t.error is None for t in trials)}
        self.not_run |= dict.fromkeys(tried.keys() - chosen.keys(), f"every setting failed at {size}")
        rows = self._plan.span_rows
        children = {who: self.start(who, size, settings, data, rows) for who, settings in chosen.items()}
        gemm = Child(sys.executable, self.modules[OURS], self.spec("gemm", size, Settings(), 1, 1))
        turns = Turns(chosen, {who: [] for who in children}, [])
        try:
            for child in (gemm, *children.values()):
                child.ready()
            for number in range(self._plan.rounds):
                turns.ceilings.append(gemm.span()["gflops"])
                for who, child in children.items():
                    turns.spans[who].append(child.span())
                last = {who: round(found[-1]) for who, found in turns.rates("targets").items()}
                self.say(f"{size} round {number + 1}: {last}")
        finally:
            for child in (gemm, *children.values()):
                child.end()
        return turns

    def spec(
        self,
        kind: str,
        size: str,
        settings: Settings,
        warmup_steps: int,
        span_steps: int,
        optimizer: dict[str, Any] = OPTIMIZER,
    ) -> Spec:
        """Of a run in a folder of its own."""
        self.started += 1
        return Spec(
            kind=kind,
            work=str(self.work),
            size=size,
            folder=str(self.work / f"run-{self.started}"),
            settings=settings,
            optimizer=optimizer,
            row_length=self._plan.row_length,
            threads=self.threads,
            warmup_steps=warmup_steps,
            span_steps=span_steps,
        )


def best(trials: list[Trial]) -> Trial:
    """Of those within `NEAR` of the fastest, the one that holds the least memory."""
    in_order = ranked(trials)
    near = [trial for trial in in_order if trial.tokens_per_s >= (1 - NEAR) * in_order[0].tokens_per_s]
    return min(near, key=lambda trial: trial.peak_mib)


def ranked(trials: list[Trial]) -> list[Trial]:
    """The fastest first."""
    return sorted(trials, key=lambda trial: -trial.tokens_per_s)


def rates(spans: list[dict[str, Any]], what: str) -> list[float]:
    """`what` a second in each span."""
    return [span[what] / span["seconds"] for span in spans]


def share_of_processors(spans: list[dict[str, Any]], threads: int) -> float:
    """Of the time of `threads` processors, what a contestant had: far below 1 when other work disturbed the run."""
    return sum(span["cpu_seconds"] for span in spans) / sum(span["seconds"] for span in spans) / threads


def worst(ratios_of_sizes: list[dict[str, float]]) -> dict[str, float]:
    """Of every ratio the least over the sizes; a rival that ran at one size alone has that one's."""
    keys = dict.fromkeys(key for found in ratios_of_sizes for key in found)
    return {key: min(found[key] for found in ratios_of_sizes if key in found) for key in keys}
