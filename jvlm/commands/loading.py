"""Options that say how a model is loaded to answer."""

from typing import Annotated, Literal

import typer

Weights = Annotated[
    Literal["full", "int8", "int4"],
    typer.Option(help="int8 and int4 take a quarter and a seventh of the memory (extra 'quant')."),
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the steps of writing: half a minute at first, then faster.")
]
