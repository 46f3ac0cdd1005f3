"""`jvlm trace`: from an answer back to the training data."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jvlm.commands.output import Json, print_record, quiet, say, table
from jvlm.errors import EXIT_ITEM_ERRORS, UsageError

if TYPE_CHECKING:
    from jvlm.trace.types import Evidence, Found

app = typer.Typer(no_args_is_help=True, help="From an answer back to the training data.")
_SHOWN = 120  # characters of a passage


@app.command()
def build(
    data: Annotated[
        list[Path], typer.Argument(metavar="RUN | DATA...", help="The folder of a run; or text files, folders, shards.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    image_model: Annotated[
        Path | None, typer.Option(help="Model directory whose tower compares pictures; of a run, its own.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Index what a run was trained on, with the steps that saw it; or training data without a run."""
    from jvlm.trace.build import build_index
    from jvlm.trace.sources import source_records

    runs = [path for path in data if (path / "recipe.yaml").is_file()]
    if runs and len(data) > 1:
        raise UsageError("a run is indexed by itself: its steps are of no other", where=runs[0], fix="name it alone")
    if runs:
        from jvlm.stages.exposure import run_records

        records, image_model = run_records(runs[0]), image_model or _own_tower(runs[0])
    else:
        records = source_records(data)
    report = build_index(records, out, image_model, quiet if as_json else say)
    print_record(report, as_json)
    if report["errors"]:
        raise typer.Exit(EXIT_ITEM_ERRORS)


def _own_tower(run: Path) -> Path | None:
    """The run's own CLIP, or else its first model with a tower."""
    models = (run / stage / "model" for stage in ("clip", "align"))
    return next((model for model in models if model.is_dir()), None)


@app.command()
def search(
    text: Annotated[str, typer.Argument(help="An answer, or any text.")],
    index: Annotated[Path, typer.Option(help="The folder of `jvlm trace build`.")],
    image: Annotated[Path | None, typer.Option(help="An image, for the nearest pictures.")] = None,
    as_json: Json = False,
) -> None:
    """Where a text stands in the training data word for word, what is near to it, what pictures are near an image."""
    from jvlm.trace.search import Trace

    evidence = Trace.open(index).evidence(text, image)
    if as_json:
        print(json.dumps(as_record(evidence), ensure_ascii=False))
    else:
        _show(evidence)


def as_record(evidence: "Evidence") -> dict[str, Any]:
    """As JSON, without the bytes of the pictures."""
    record = asdict(evidence)
    for found in (*record["spans"], *record["passages"], *record["images"]):
        for origin in found["origins"]:
            del origin["thumbnail"]
    return record


def _show(evidence: "Evidence") -> None:
    head = ["from", "licence", "seen"]
    rows = [[str(span.stop - span.start), *_about(span)] for span in evidence.spans]
    table(["characters", "word for word", *head], rows)
    ranks = [[str(rank or "–") for rank in (p.keyword_rank, p.vector_rank)] for p in evidence.passages]
    rows = [[*own, *_about(passage)] for own, passage in zip(ranks, evidence.passages, strict=True)]
    table(["by keyword", "by vector", "passage", *head], rows)
    if evidence.images:
        table(["cosine", "picture", *head], [[f"{p.similarity:.3f}", *_about(p)] for p in evidence.images])


def _about(found: "Found") -> list[str]:
    first, *others = found.origins
    steps = (f"{seen.stage} {seen.first}–{seen.last} (×{seen.times})" for seen in first.seen)
    more = f" and {len(others)} more" if others else ""
    return [_short(found.text), f"{first.source}: {first.id}{more}", first.licence or "–", ", ".join(steps) or "–"]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "…"
