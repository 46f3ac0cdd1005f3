"""`jvlm merge`: an adapter and its base as one plain model directory."""

from pathlib import Path
from typing import Annotated

import typer

from jvlm.commands.output import Json, print_record


def merge(
    adapter: Annotated[Path, typer.Argument(help="The directory of an adapter.")],
    out: Annotated[Path, typer.Option(help="The model directory to write.")],
    base: Annotated[
        Path | None, typer.Option(help="Its base, where that is no longer at the recorded path (also: JVLM_BASE).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Add what an adapter learned to the weights of its base, which itself stays as it is."""
    from jvlm.model.adapter import merge as write

    difference = write(adapter, out, base)
    if as_json:
        print_record({"out": str(out), "max_logit_difference": difference}, as_json)
    else:
        print(f"{out}: merged; the largest change of a logit is {difference:.1e}")
