"""Captions a second of the engine beside transformers' `generate`: the same model, pictures, prompt and machine.

From encoded images to texts, all of it. The rival is transformers' `generate` of the language model, fed with the
embeddings of the same tower and projector; it tries its caches and several batch sizes, as the engine tries numbers of
rows, both also compiled, and each takes part with what was fastest; compiled only where that is worth its memory. Then
they take turns, each alone while it is measured, in processes of their own (`jvlm.bench.generate_child`). With int8 and
int4 weights the engine takes part again.

Without a model it has random weights of the demo's shape, and a caption ends where the picture's own would. With one
that has its data beside it, all kinds of weights are scored on the demo's tests.
"""

import importlib.util
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
import yaml
from jvlm_data.toyworld import corpus

import jvlm
from jvlm.assets import asset
from jvlm.bench.child import Child, Failed
from jvlm.bench.generate_child import TEXTS, Job, pictures
from jvlm.eval.toy import evaluate_general, load_toy_config
from jvlm.files import read_json
from jvlm.model.config import LanguageConfig, ProjectorConfig, VisionConfig
from jvlm.model.directory import save_model
from jvlm.model.jvlm import JvlmModel
from jvlm.model.language import build_language_model
from jvlm.model.processor import Processor
from jvlm.model.quantized import Weights, weight_bytes
from jvlm.model.vision import build_tower
from jvlm.text.tokenizer import train_tokenizer

OURS, CACHES = "ours", ("dynamic", "static")
ROUNDED: tuple[Weights, ...] = get_args(Weights)[1:]
TARGET, SEED = 3.0, 7
WORTH_COMPILING = 1.05
"""Times as fast it must be: a compiler takes half a minute and 80 MiB."""
RIVAL = "transformers' LlamaForCausalLM.generate, fed with the embeddings of the same tower and projector"


class Settings(NamedTuple):
    """What a contestant may choose for itself, and the weights it is given."""

    kind: str
    rows: int
    weights: Weights = "full"
    compile: bool = False

    def __str__(self) -> str:
        told = f"rows {self.rows}" if self.kind == OURS else f"{self.kind} cache, batch {self.rows}"
        return told + ", compiled" * self.compile


@dataclass(frozen=True)
class Plan:
    """How long the benchmark is."""

    images: int = 1024
    rows: Sequence[int] = (32, 64, 128, 256)
    batches: Sequence[int] = (16, 32, 64, 128, 256)
    rounds: int = 5
    most: int = 96
    scored: int | None = None
    """Items of each test that are scored; None: all."""


def run(model: Path | None, threads: int, say: Callable[[str], None], plan: Plan) -> dict[str, Any]:
    """Captions a second, memory, `ratios.over_transformers_generate`; of a trained model, `scores`.

    Raises DataError when `model` is no vision-language model.
    """
    with tempfile.TemporaryDirectory() as work:
        folder = model or random_model(Path(work) / "model")
        found = _Bench(Path(work), folder, model is None, threads, say, plan).run()
        shards = folder.parent / "data" / "shards"
        if model is not None and shards.is_dir():
            found |= {"scores": scores(folder, shards, Path(work) / "scores", plan.scored)}
    return {"model": "random weights of the demo's shape" if model is None else str(model)} | found


class _Bench:
    def __init__(
        self, work: Path, model: Path, capped: bool, threads: int, say: Callable[[str], None], plan: Plan
    ) -> None:
        self.work, self.model, self.capped, self.threads, self.say, self.plan = work, model, capped, threads, say, plan
        self.started = 0

    def run(self) -> dict[str, Any]:
        plan = self.plan
        trials = {
            OURS: self._tried([Settings(OURS, rows) for rows in plan.rows]),
            "rival": self._tried([Settings(cache, n) for cache in CACHES for n in plan.batches]),
        }
        best = {who: _best(tried) for who, tried in trials.items()}
        chosen = dict(best)
        if importlib.util.find_spec("torchao"):
            chosen |= {weights: best[OURS]._replace(weights=weights) for weights in ROUNDED}
        spans, texts = self._take_turns(chosen)
        rates = {who: [span["images"] / span["seconds"] for span in told] for who, told in spans.items()}
        per_s = {who: statistics.median(found) for who, found in rates.items()}
        peaks = {who: told[-1]["peak_kib"] / 1024 for who, told in spans.items()}
        ratios = {"over_transformers_generate": per_s[OURS] / per_s["rival"]}
        ratios |= {f"{weights}_over_full": per_s[weights] / per_s[OURS] for weights in ROUNDED if weights in per_s}
        return {
            "ratios": ratios,
            "targets": {"over_transformers_generate": TARGET},
            "rival": RIVAL,
            "settings": {who: str(one) for who, one in best.items()},
            "images": plan.images,
            "tokens_per_image": spans[OURS][-1]["tokens"] / plan.images,
            "images_per_s": per_s,
            "images_per_s_of_rounds": rates,
            "tokens_per_s": {
                who: statistics.median(span["tokens"] / span["seconds"] for span in told) for who, told in spans.items()
            },
            "peak_mib": peaks,
            "memory_of_rival": peaks[OURS] / peaks["rival"],
            "same_texts": {
                who: sum(map(str.__eq__, texts[OURS], found)) / len(found)
                for who, found in texts.items()
                if who != OURS
            },
            "share_of_processors": {
                who: sum(s["cpu_seconds"] for s in told) / sum(s["seconds"] for s in told) / self.threads
                for who, told in spans.items()
            },
            "tried_images_per_s": {
                who: {str(one): rate for one, rate in tried.items()} for who, tried in trials.items()
            },
        }

    def _start(self, settings: Settings) -> Child:
        self.started += 1
        folder = self.work / f"run-{self.started}"
        plan = self.plan
        job = Job(
            **settings._asdict(),
            model=str(self.model),
            work=str(self.work),
            folder=str(folder),
            threads=self.threads,
            images=plan.images,
            most=plan.most,
            capped=self.capped,
        )
        return Child(sys.executable, "generate_child", job)

    def _tried(self, uncompiled: Sequence[Settings]) -> dict[Settings, float]:
        """Images a second of each, and of the fastest of those that can be compiled, compiled."""
        rates = {settings: self._try(settings) for settings in uncompiled}
        compiled = max((s for s in uncompiled if s.kind != "dynamic"), key=lambda s: rates[s])._replace(compile=True)
        return rates | {compiled: self._try(compiled)}

    def _try(self, settings: Settings) -> float:
        """Images a second in one pass; none where it does not run."""
        child = self._start(settings)
        try:
            child.ready()
            span = child.span()
        except Failed as error:
            self.say(f"{settings}: {error}")
            return 0.0
        finally:
            child.end()
        rate: float = span["images"] / span["seconds"]
        self.say(f"{settings}: {rate:.0f} images/s, {span['peak_kib'] / 1024:.0f} MiB")
        return rate

    def _take_turns(self, chosen: dict[str, Settings]) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[str]]]:
        """What each told of its rounds, and its captions."""
        children = {who: self._start(settings) for who, settings in chosen.items()}
        spans: dict[str, list[dict[str, Any]]] = {who: [] for who in children}
        try:
            for child in children.values():
                child.ready()
            for _ in range(self.plan.rounds):
                for who, child in children.items():
                    spans[who].append(child.span())
            texts = {who: read_json(child.log.with_name(TEXTS)) for who, child in children.items()}
        finally:
            for child in children.values():
                child.end()
        return spans, texts


def _best(tried: dict[Settings, float]) -> Settings:
    return max(tried, key=lambda one: tried[one] / WORTH_COMPILING**one.compile)


def random_model(folder: Path) -> Path:
    """A model of the demo's shape with random weights, and a tokenizer of its size."""
    stages = yaml.safe_load(asset("configs", "demo.yaml").read_text(encoding="utf-8"))["stages"]
    vision = VisionConfig(**stages["clip"]["vision"])
    projector = ProjectorConfig(**stages["align"]["projector"])
    texts = [corpus.document(SEED, index)["text"] for index in range(300)] + pictures(300, 32)[1]
    size = stages["tokenizer"]["vocab_size"]
    tokenizer = train_tokenizer(texts, size, folder.with_name("tokenizer"), seed=SEED)
    special = tokenizer.special
    torch.manual_seed(SEED)
    language = build_language_model(
        LanguageConfig(**stages["pretrain"]["language"]), size, *(special[t] for t in ("<pad>", "<s>", "</s>"))
    )
    processor = Processor(tokenizer, vision, projector)
    save_model(folder, JvlmModel(language, build_tower(vision), projector, processor.image_ids), processor)
    return folder


def scores(model: Path, shards: Path, out: Path, limit: int | None) -> dict[str, Any]:
    """Exact captions and the mean over kinds of questions, in points of 100, and bytes, with all kinds of weights; what
    each kind loses and saves."""
    config = load_toy_config(asset("evals", "toy.yaml")).limited(limit)
    tasks = [t.model_copy(update={"arms": ("image",)}) for t in config.tasks if t.name in ("captions_test", "vqa_test")]
    config, found = config.model_copy(update={"tasks": tuple(tasks)}), dict[str, Any]()
    for weights in get_args(Weights):
        loaded = jvlm.load(model, weights=weights)
        result = evaluate_general(loaded, shards, config, out, name=weights)
        found[weights] = {
            "captions_exact": 100 * result["captions_test"]["exact"]["value"],
            "questions": 100 * result["vqa_test"]["value"],
            "weight_bytes": weight_bytes(loaded.model),
        }
    full, rounded = found["full"], {weights: found[weights] for weights in ROUNDED}
    lost = {
        weights: {what: full[what] - one[what] for what in ("captions_exact", "questions")}
        for weights, one in rounded.items()
    }
    smaller = {weights: full["weight_bytes"] / one["weight_bytes"] for weights, one in rounded.items()}
    return found | {"points_lost": lost, "times_smaller": smaller}
