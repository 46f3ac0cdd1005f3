"""From a run folder to `report.json` (with `headline`) and `report.html`, one self-contained page.

Only what the stages wrote is shown; a figure whose stage did not run is None, never a guess.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jvlm import files
from jvlm.errors import DataError
from jvlm.eval.ledger import FILE as SAMPLES
from jvlm.eval.markup import MODELS, at
from jvlm.eval.page import render
from jvlm.eval.toy import thumbnail_name

Headline = dict[str, float | None]

STAGES = (
    "corpus", "tokenizer", "pretrain", "clip", "align", "instruct", "prefer", "medical", "eval", "caption"
)  # fmt: skip
_EXAMPLE_TASK, _EXAMPLE_ARM = "vqa_test", "image"
_CLOSE = 1e-9  # 0.9 - 0.87 must count as 0.03

# headline key → where it stands: stage, then keys of its metrics
_SOURCES: dict[str, tuple[str, ...]] = {
    "caption_exact_test": ("eval", "models", "medical", "captions_test", "exact", "value"),
    "caption_exact_compositional": ("eval", "models", "medical", "captions_compositional", "exact", "value"),
    "vqa_test": ("eval", "models", "medical", "vqa_test", "value"),
    "vqa_removed_over_constant": ("eval", "models", "medical", "vqa_test", "removed", "over_constant"),
    "retrieval_r1_of_100": ("clip", "retrieval", "r1"),
    "bpc_model": ("pretrain", "bpc_model"),
    "bpc_ngram": ("pretrain", "bpc_ngram"),
    "exam_image_before": ("eval", "exam", "before", "exam_image", "image", "value"),
    "exam_image_after": ("eval", "exam", "after", "exam_image", "image", "value"),
    "exam_image_removed": ("eval", "exam", "after", "exam_image", "removed", "value"),
    "exam_twohop_unseen": ("eval", "exam", "after", "exam_twohop", "image", "value"),
    "hallucination_before": ("eval", "models", "instruct", "captions_test", "hallucination", "value"),
    "hallucination_after": ("eval", "models", "prefer", "captions_test", "hallucination", "value"),
    "dirt_recall": ("corpus", "dirt_recall"),
    "clean_loss": ("corpus", "clean_loss"),
}
# headline key → first - second
_DIFFERENCES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "vqa_forgetting": (
        ("eval", "models", "prefer", "vqa_test", "value"),
        ("eval", "models", "medical", "vqa_test", "value"),
    ),
    "caption_exact_drop_prefer": (
        ("eval", "models", "instruct", "captions_test", "exact", "value"),
        ("eval", "models", "prefer", "captions_test", "exact", "value"),
    ),
}


@dataclass(frozen=True)
class Target:
    """What a headline figure should reach; `bound` gives the limit, None when what it depends on is missing."""

    text: str
    sign: str
    bound: Callable[[Headline], float | None]

    def met(self, value: float | None, headline: Headline) -> bool | None:
        bound = self.bound(headline)
        if value is None or bound is None:
            return None
        if self.sign == "<":
            return value < bound
        return value >= bound - _CLOSE if self.sign == "≥" else value <= bound + _CLOSE


def _fixed(sign: str, bound: float) -> Target:
    return Target(f"{sign} {bound:g}", sign, lambda _: bound)


def _two_thirds_of_before(headline: Headline) -> float | None:
    before = headline["hallucination_before"]
    return None if before is None else before * 2 / 3


TARGETS: dict[str, Target] = {
    "caption_exact_test": _fixed("≥", 0.70),
    "caption_exact_compositional": _fixed("≥", 0.25),
    "caption_exact_drop_prefer": _fixed("≤", 0.02),
    "vqa_test": _fixed("≥", 0.85),
    "vqa_removed_over_constant": _fixed("≤", 0.08),
    "vqa_forgetting": _fixed("≤", 0.03),
    "retrieval_r1_of_100": _fixed("≥", 0.50),
    "bpc_model": Target("< bpc_ngram", "<", lambda headline: headline["bpc_ngram"]),
    "exam_image_before": _fixed("≤", 0.35),
    "exam_image_after": _fixed("≥", 0.70),
    "exam_image_removed": _fixed("≤", 0.45),
    "hallucination_after": Target("≤ 2/3 hallucination_before", "≤", _two_thirds_of_before),
    "dirt_recall": _fixed("≥", 0.95),
    "clean_loss": _fixed("≤", 0.01),
}

HEADLINE_KEYS = (
    "caption_exact_test", "caption_exact_compositional", "caption_exact_drop_prefer", "vqa_test",
    "vqa_removed_over_constant", "vqa_forgetting", "retrieval_r1_of_100", "bpc_model", "bpc_ngram",
    "exam_image_before", "exam_image_after", "exam_image_removed", "exam_twohop_unseen", "hallucination_before",
    "hallucination_after", "dirt_recall", "clean_loss", "seconds", "peak_gib",
)  # fmt: skip


def write_report(run: Path) -> dict[str, Any]:
    """Read what the run's stages wrote, write `report.json` and `report.html` beside them, return the report.

    Raises DataError when `run` holds no finished stage.
    """
    run = Path(run)
    stages = _read_stages(run)
    if not stages:
        raise DataError("no finished stage in the run", where=run, fix="run the recipe first")
    headline = _headline(stages)
    targets = [
        {"name": name, "value": headline[name], "target": target.text, "met": target.met(headline[name], headline)}
        for name, target in TARGETS.items()
    ]
    report = {
        "name": run.resolve().name,
        "headline": headline,
        "targets": targets,
        "stages": stages,
        "examples": _examples(run / "eval", stages),
    }
    page = render(report, _curves(run, list(stages)), _pictures(run / "eval" / "images"))
    files.write_json(run / "report.json", report)
    files.write_text(run / "report.html", page)
    return report


def headline_table(report: dict[str, Any]) -> list[tuple[str, float | None, str, bool | None]]:
    """(name, value, target, met) of every headline figure; target is "" and met None where there is no target."""
    met = {row["name"]: row["met"] for row in report["targets"]}
    texts = {row["name"]: row["target"] for row in report["targets"]}
    return [(name, value, texts.get(name, ""), met.get(name)) for name, value in report["headline"].items()]


def _read_stages(run: Path) -> dict[str, Any]:
    """Each finished stage's done.json, in the recipe's order; stages of other names come after, by name."""
    done = {path.parent.name: files.read_json(path) for path in sorted(run.glob("*/done.json"))}
    done.pop("report", None)
    for name, record in done.items():
        if not isinstance(record, dict) or not isinstance(record.get("metrics", {}), dict):
            raise DataError(
                "not a record of a finished stage", where=run / name / "done.json", fix="run the stage again"
            )
    ordered = [name for name in STAGES if name in done] + [name for name in done if name not in STAGES]
    return {name: done[name] for name in ordered}


def _headline(stages: dict[str, Any]) -> Headline:
    values: Headline = {name: _metric(stages, path) for name, path in _SOURCES.items()}
    for name, (first, second) in _DIFFERENCES.items():
        a, b = _metric(stages, first), _metric(stages, second)
        values[name] = None if a is None or b is None else a - b
    seconds = [s for stage in stages.values() if (s := _number(at(stage, "seconds"))) is not None]
    peaks = [p for stage in stages.values() if (p := _number(at(stage, "peak_gib"))) is not None]
    values |= {"seconds": sum(seconds) if seconds else None, "peak_gib": max(peaks, default=None)}
    return {name: values[name] for name in HEADLINE_KEYS}


def _metric(stages: dict[str, Any], path: tuple[str, ...]) -> float | None:
    stage, *keys = path
    return _number(at(stages, stage, "metrics", *keys))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _curves(run: Path, stages: list[str]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Per training stage or phase the (step, value) series of its losses; of a step written twice the later counts."""
    curves = {}
    found = [path for stage in stages for path in sorted((run / stage).glob("**/metrics.jsonl"))]
    for path in found:
        stage = path.parent.relative_to(run).as_posix()
        records = {r["step"]: r for r in files.read_json_lines(path) if "step" in r}
        series: dict[str, list[tuple[float, float]]] = {}
        for step in sorted(records):
            for key, value in records[step].items():
                if key.endswith("loss") and (number := _number(value)) is not None:
                    series.setdefault(key, []).append((float(step), number))
        if series:
            curves[stage] = series
    return curves


def _examples(folder: Path, stages: dict[str, Any]) -> list[dict[str, Any]]:
    """The shown images' records of the last model evaluated, in order of id."""
    models = at(stages, "eval", "metrics", "models") or {}
    model = next((name for name in reversed(MODELS) if name in models), None)
    shown = set(_pictures(folder / "images"))
    wanted = {"model": model, "task": _EXAMPLE_TASK, "arm": _EXAMPLE_ARM}
    found = {}
    for record in files.read_json_lines(folder / SAMPLES) if model else []:
        if all(record.get(key) == value for key, value in wanted.items()) and thumbnail_name(record["id"]) in shown:
            found[record["id"]] = record
    keys = ("id", "kind", "question", "output", "gold", "correct", "model")
    return [{key: found[name].get(key) for key in keys} for name in sorted(found)]


def _pictures(folder: Path) -> dict[str, str]:
    """File name → data URI of the PNG thumbnails."""
    pictures = sorted(folder.glob("*.png")) if folder.is_dir() else []
    return {path.name: "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode() for path in pictures}
