"""`jvlm caption`: one row for every image of an input, whatever dies on the way."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jvlm.commands.loading import Compile, Weights
from jvlm.commands.output import Json, print_record, quiet, say_aside
from jvlm.errors import EXIT_ITEM_ERRORS, UsageError

if TYPE_CHECKING:
    from jvlm.infer.caption.progress import Progress


def caption(
    model: Annotated[Path, typer.Argument(help="A model directory.")],
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A folder, a glob in quotes, a .txt that lists images, shards (.tar), .parquet or .jsonl, or an "
            "address of one (s3://, https://).",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The job's folder: captions.jsonl, summary.html, progress.json. A dry run needs none."),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="What each image is asked; {name}, {directory}, {column} are the row's. May be given again."),
    ] = None,
    format: Annotated[
        list[str] | None, typer.Option(help="jsonl, jsonl.zst, parquet, txt or shards. May be given again.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="The folder that names of images in a table are relative to; the table's.")
    ] = None,
    unit: Annotated[int, typer.Option(min=1, help="Items that are committed together.")] = 500,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 96,
    temperature: Annotated[float, typer.Option(min=0, help="0: the likeliest words.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the draws, where the temperature is not 0.")] = 0,
    clip: Annotated[Path | None, typer.Option(help="A CLIP model directory that scores each caption.")] = None,
    weights: Weights = "full",
    compile: Compile = False,
    threads: Annotated[
        int, typer.Option(min=0, help="Of each process; 0: those the job was planned with, or the processors.")
    ] = 0,
    ray: Annotated[int, typer.Option(min=0, help="So many Ray workers, here or on the cluster of RAY_ADDRESS.")] = 0,
    retry_failed: Annotated[bool, typer.Option(help="Try the rows that failed once more.")] = False,
    max_failures: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="End when more than this share failed, of the rows done once they are 1,000, else of all; ten may.",
        ),
    ] = 0.2,
    dry_run: Annotated[int, typer.Option(min=0, help="Caption so many images, keep nothing, tell the hours.")] = 0,
    as_json: Json = False,
) -> None:
    """Caption images, or ask a question of each: exactly one row an id, bad images as rows with an error code.

    The same command goes on with a job that was killed, and several at once share its folder and its work, here or on
    other machines: the output is the same, byte for byte. A SIGTERM ends it after the unit in work. What the input
    holds is listed once; files that come later are not seen. Exit code 4: some rows are errors.
    """
    import dataclasses
    from functools import partial

    from jvlm.infer.caption import job
    from jvlm.infer.caption.plan import Settings
    from jvlm.infer.caption.worker import load_tools
    from jvlm.infer.identity import model_hash

    if out is None and not dry_run:
        raise UsageError("a job needs a folder", fix="give --out JOB, or --dry-run 200 to see what it would take")
    settings = Settings(
        source=source,
        model_hash=model_hash(model),
        images=images,
        prompts=tuple(prompt or ()),
        unit=unit,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        threads=threads,
        clip_hash=None if clip is None else model_hash(clip),
        weights=weights,
        compile=compile,
    )
    load = partial(load_tools, model.absolute(), None if clip is None else clip.absolute(), weights, compile)
    if dry_run:
        from jvlm.infer.caption.forecast import forecast

        print_record(dataclasses.asdict(forecast(settings, load, dry_run)), as_json)
        return
    assert out is not None
    with _shown(as_json) as on_progress:
        report = job.caption(
            out,
            settings,
            load,
            formats=tuple(format or ("jsonl",)),
            retry_failed=retry_failed,
            max_failures=max_failures,
            ray_workers=ray,
            on_progress=on_progress,
        )
    print_record(dataclasses.asdict(report), as_json)
    if report.errors and report.complete:
        raise typer.Exit(EXIT_ITEM_ERRORS)


@contextmanager
def _shown(as_json: bool) -> Iterator[Callable[["Progress"], None]]:
    """A live line on a terminal, else a line a unit."""
    if as_json or not sys.stderr.isatty():
        tell = quiet if as_json else say_aside
        yield lambda progress: tell(str(progress))
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        yield lambda p: bar.update(task, total=p.rows, completed=p.rows_done, description=str(p).partition(", ")[2])
