"""`jvlm data`: list, fetch, build, check."""

import json
from pathlib import Path
from typing import Annotated

import typer

from jvlm.commands.output import Json, Overrides, print_record, quiet, say, table
from jvlm.errors import EXIT_BAD_DATA, EXIT_ITEM_ERRORS, UsageError

app = typer.Typer(no_args_is_help=True, help="Data sets: list, fetch, build, check.")
_SUFFIXES = (".jsonl", ".json", ".parquet", ".tar")


@app.command(name="list")
def list_known(as_json: Json = False) -> None:
    """The data sets jvlm knows by name."""
    from jvlm.datasets.named import cards

    found = cards()
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    table(["name", "licence", "source"], [[n, str(c.get("licence")), str(c.get("source"))] for n, c in found.items()])


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A known data set.")],
    out: Annotated[Path, typer.Option(help="The folder the published files are downloaded to.")],
    as_json: Json = False,
) -> None:
    """Download the published files of a data set: licence shown first, hashes verified."""
    from jvlm.datasets.named import fetch_named

    print_record(fetch_named(name, out, quiet if as_json else say), as_json)


@app.command()
def build(
    name: Annotated[str, typer.Argument(metavar="SOURCE", help="A known data set, or a file or folder of your own.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    layout: Annotated[
        str | None,
        typer.Option(help="folder, llava, coco, parquet, datasets, webdataset or jsonl, where it is not plain."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="The folder that names of images are relative to; that of the file.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes, 1; the bytes do not depend on it.")] = None,
    samples_per_shard: Annotated[int | None, typer.Option(min=1, help="Records of a shard, 2,000.")] = None,
    licence: Annotated[str | None, typer.Option(help="The data's licence, for the card.")] = None,
    origin: Annotated[str | None, typer.Option(help="Where the data come from, for the card.")] = None,
    source: Annotated[Path | None, typer.Option(help="The published files of a known set that is converted.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of a generated set.")] = 7,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Build a data set: shards with an index and hashes, text, or the records of an exam.

    Captions, conversations and pairs of your own are read in the layouts others use: a folder of images with captions,
    LLaVA's JSON, COCO's, Parquet, what `datasets` saved, webdataset's tars, JSONL. What cannot be used is left out and
    listed in OUT.errors.jsonl. An interrupted build goes on by the same command.
    """
    from jvlm.datasets import build_named, build_set, convert_named

    own = {"layout": layout, "images": images, "workers": workers, "samples_per_shard": samples_per_shard}
    about = {key: value for key, value in (("licence", licence), ("source", origin)) if value is not None}
    given = {key: value for key, value in own.items() if value is not None}
    if source is None and (layout is not None or _is_place(name)):
        _no_settings(overrides)
        counts = build_set(Path(name), out, about=about, **given)  # type: ignore[arg-type]
    elif given or about:
        options = "--layout, --images, --workers, --samples-per-shard, --licence and --origin"
        raise UsageError(f"{options} are for data of your own, '{name}' is a known set", fix="leave them out")
    elif source is not None:
        _no_settings(overrides)
        counts = convert_named(name, source, out)
    else:
        from jvlm.config import load_config
        from jvlm.settings import DataStage

        settings = load_config(DataStage, None, overrides or []).model_dump(exclude={"set"})
        print_record(build_named(name, out, seed, settings, quiet if as_json else say), as_json)
        return
    print_record(counts, as_json)
    if counts["errors"]:
        raise typer.Exit(EXIT_ITEM_ERRORS)


def _is_place(name: str) -> bool:
    """Whether a file or a folder is meant. A known set is never one, unless it is written with a slash."""
    from jvlm.datasets.named import cards

    if Path(name).suffix in _SUFFIXES or "/" in name or ":" in name:
        return True
    return name not in cards() and Path(name).exists()


def _no_settings(overrides: list[str] | None) -> None:
    if overrides:
        raise UsageError("this set has no settings", fix=f"leave out {' '.join(overrides)}")


@app.command()
def check(folder: Annotated[Path, typer.Argument(help="A folder of shards.")], as_json: Json = False) -> None:
    """Every fault of a folder of shards, at once."""
    from jvlm.images.shards import check_shards

    faults = check_shards(folder)
    if as_json:
        print(json.dumps({"faults": faults}, ensure_ascii=False))
    else:
        print("\n".join(faults) or "no fault found")
    if faults:
        raise typer.Exit(EXIT_BAD_DATA)
