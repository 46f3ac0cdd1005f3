"""From a run folder to `report.json` (with `headline`) and `report.html`, one self-contained page.

Only what the stages wrote is shown; a figure whose stage did not run is None, never a guess.
"""

import base64
from pathlib import Path
from typing import Any

from jvlm import files
from jvlm.errors import DataError
from jvlm.eval.boards import as_number, board_of
from jvlm.eval.ledger import FILE as SAMPLES
from jvlm.eval.markup import at, last_model
from jvlm.eval.page import render
from jvlm.eval.thumbnails import thumbnail_name

STAGES = (
    "corpus", "tokenizer", "pretrain", "clip", "align", "pretrain_vl", "instruct", "prefer", "medical",
    "combine", "eval", "caption",
)  # fmt: skip
_EXAMPLE_ARM = "image"


def write_report(run: Path) -> dict[str, Any]:
    """Read what the run's stages wrote, write `report.json` and `report.html` beside them, return the report.

    Raises DataError when `run` holds no finished stage.
    """
    run = Path(run)
    stages = _read_stages(run)
    if not stages:
        raise DataError("no finished stage in the run", where=run, fix="run the recipe first")
    board = board_of(stages)
    headline = board.headline(stages)
    targets = [
        {"name": name, "value": headline[name], "target": target.text, "met": target.met(headline[name], headline)}
        for name, target in board.targets.items()
    ]
    report = {
        "name": run.resolve().name,
        "headline": headline,
        "targets": targets,
        "stages": stages,
        "examples": _examples(run / "eval", stages, board.examples),
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
                if key.endswith("loss") and (number := as_number(value)) is not None:
                    series.setdefault(key, []).append((float(step), number))
        if series:
            curves[stage] = series
    return curves


def _examples(folder: Path, stages: dict[str, Any], task: str) -> list[dict[str, Any]]:
    """The shown images' records of the last model evaluated, in order of id."""
    model = last_model(at(stages, "eval", "metrics", "models"))
    shown = set(_pictures(folder / "images"))
    wanted = {"model": model, "task": task, "arm": _EXAMPLE_ARM}
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
