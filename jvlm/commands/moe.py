"""`jvlm upcycle`: a mixture of experts from a dense model."""

from pathlib import Path
from typing import Annotated

import typer


def upcycle(
    dense: Annotated[Path, typer.Argument(help="A model directory: a Llama or Mistral, or a model around one.")],
    out: Annotated[Path, typer.Option(help="The model directory to write.")],
    experts: Annotated[int, typer.Option(min=2, help="Experts in each block.")] = 8,
    top_k: Annotated[int, typer.Option(min=1, help="Experts that a token goes to.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the new routers.")] = 7,
) -> None:
    """Give a dense model experts, each a copy of its feed-forward, to train on from."""
    from jvlm.model.upcycle import upcycle as write

    print(f"{out}: {write(dense, experts, top_k, out, seed)}")
