"""`jvlm audit`: the trail of a run."""

import json
from pathlib import Path
from typing import Annotated

import typer

from jvlm.commands.output import Json
from jvlm.errors import EXIT_BAD_DATA

app = typer.Typer(no_args_is_help=True, help="Audit trails: who did what, with which code, data and settings.")


@app.callback()
def _group() -> None:
    """Keep `verify` a word of its own."""


@app.command()
def verify(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    head: Annotated[str | None, typer.Option(help="The last hash, as the run printed it.")] = None,
    as_json: Json = False,
) -> None:
    """Every change of a run's trail, of its models and of its stages' records since they were written, at once."""
    from jvlm.audit import verify as find_faults

    faults = find_faults(run, head)
    if as_json:
        print(json.dumps({"faults": faults}, ensure_ascii=False))
    else:
        print("\n".join(faults) or "no fault found")
    if faults:
        raise typer.Exit(EXIT_BAD_DATA)
