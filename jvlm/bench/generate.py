"""Captions a second of the engine beside transformers' `generate`: the same model, pictures, prompt and machine.

From encoded images to texts, all of it. The rival is transformers' `generate` of the language model, fed with the
embeddings of the same tower and projector; it tries its caches and several batch sizes, as the engine tries numbers of
rows, and each takes part with what was fastest. Then they take turns, each alone while it is measured, in processes of
their own (`jvlm.bench.generate_child`). With int8 weights the engine takes part once more.

Without a model it has random weights of the demo's shape, and a caption ends where the picture's own would. With one
that has its data beside it, full and int8 weights are scored on the demo's tests.
"""

import importlib.util
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from jvlm.model.quantized import weight_bytes
from jvlm.model.jvlm import JvlmModel
from jvlm.model.language import build_language_model
from jvlm.model.processor import Processor
from jvlm.model.vision import build_tower
from jvlm.text.tokenizer import train_tokenizer

OURS, INT8, CACHES = "ours", "int8", ("dynamic", "static")
TARGET, SEED = 3.0, 7
RIVAL = "transformers' LlamaForCausalLM.generate, fed with the embeddings of the same tower and projector"


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
            OURS: {f"rows {rows}": self._try(OURS, rows) for rows in plan.rows},
            "rival": {f"{cache} cache, batch {n}": self._try(cache, n) for cache in CACHES for n in plan.batches},
        }
        best = {who: max(tried, key=lambda name: tried[name]) for who, tried in trials.items()}
        rows = int(best[OURS].split()[-1])
        chosen = {OURS: (OURS, rows), "rival": (best["rival"].split()[0], int(best["rival"].split()[-1]))}
        if importlib.util.find_spec("torchao"):
            chosen[INT8] = (INT8, rows)
        spans, texts = self._take_turns(chosen)
        rates = {who: [span["images"] / span["seconds"] for span in told] for who, told in spans.items()}
        per_s = {who: statistics.median(found) for who, found in rates.items()}
        peaks = {who: told[-1]["peak_kib"] / 1024 for who, told in spans.items()}
        ratios = {"over_transformers_generate": per_s[OURS] / per_s["rival"]}
        if INT8 in per_s:
            ratios["int8_over_full"] = per_s[INT8] / per_s[OURS]
        return {
            "ratios": ratios,
            "targets": {"over_transformers_generate": TARGET},
            "rival": RIVAL,
            "settings": best,
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
            "tried_images_per_s": trials,
        }

    def _start(self, kind: str, rows: int) -> Child:
        self.started += 1
        folder = self.work / f"run-{self.started}"
        plan = self.plan
        job = Job(
            kind=kind,
            model=str(self.model),
            work=str(self.work),
            folder=str(folder),
            threads=self.threads,
            images=plan.images,
            rows=rows,
            most=plan.most,
            capped=self.capped,
        )
        return Child(sys.executable, "generate_child", job)

    def _try(self, kind: str, rows: int) -> float:
        """Images a second in one pass; none where it does not run."""
        child = self._start(kind, rows)
        try:
            child.ready()
            span = child.span()
        except Failed as error:
            self.say(f"{kind} {rows}: {error}")
            return 0.0
        finally:
            child.end()
        rate: float = span["images"] / span["seconds"]
        self.say(f"{kind} {rows}: {rate:.0f} images/s, {span['peak_kib'] / 1024:.0f} MiB")
        return rate

    def _take_turns(
        self, chosen: dict[str, tuple[str, int]]
    ) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[str]]]:
        """What each told of its rounds, and its captions."""
        children = {who: self._start(*settings) for who, settings in chosen.items()}
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
    """Exact captions and the mean over kinds of questions, with full and with int8 weights, in points of 100; and the
    bytes of the weights."""
    config = load_toy_config(asset("evals", "toy.yaml")).limited(limit)
    tasks = [t.model_copy(update={"arms": ("image",)}) for t in config.tasks if t.name in ("captions_test", "vqa_test")]
    config, found = config.model_copy(update={"tasks": tuple(tasks)}), dict[str, Any]()
    for weights in ("full", "int8"):
        loaded = jvlm.load(model, weights=weights)
        result = evaluate_general(loaded, shards, config, out, name=weights)
        found[weights] = {
            "captions_exact": 100 * result["captions_test"]["exact"]["value"],
            "questions": 100 * result["vqa_test"]["value"],
            "weight_bytes": weight_bytes(loaded.model),
        }
    lost = {what: found["full"][what] - found["int8"][what] for what in ("captions_exact", "questions")}
    smaller = found["full"]["weight_bytes"] / found["int8"]["weight_bytes"]
    return found | {"points_lost": lost, "times_smaller": smaller}
