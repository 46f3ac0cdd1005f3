"""What all commands share: common options, and how results are printed."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from jvlm.errors import UsageError

ConfigPath = Annotated[Path, typer.Argument(help="A YAML file; configs that ship with jvlm are found by name too.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings that replace the file's: key.sub=value")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def config_file(path: Path) -> Path:
    """The file itself, or the one of that name that ships with jvlm. Raises UsageError where there is none."""
    from jvlm.assets import asset

    if path.exists():
        return path
    shipped = [file for file in asset("configs").rglob("*.yaml") if file.name == path.name]
    if not shipped:
        raise UsageError("config file not found", where=path)
    return shipped[0]


def table(columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    drawn = Table(*columns)
    for row in rows:
        drawn.add_row(*row)
    Console().print(drawn)


def print_record(record: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(record, ensure_ascii=False, indent=None if as_json else 2))


def say_aside(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def say(text: str) -> None:
    print(text, flush=True)


def quiet(text: str) -> None:
    """Progress has no place in JSON output."""
