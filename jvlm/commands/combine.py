"""`jvlm combine`: several checkpoints of one architecture as one model."""

from pathlib import Path
from typing import Annotated

import typer

from jvlm.errors import UsageError


def combine(
    models: Annotated[list[Path], typer.Argument(help="Model directories of one architecture and tokenizer.")],
    out: Annotated[Path, typer.Option(help="The model directory to write.")],
    weights: Annotated[str | None, typer.Option(help="Of the models in order, by commas: 0.7,0.3; all 1.")] = None,
    method: Annotated[str, typer.Option(help="linear, the weighted mean, or task_arithmetic, which needs --base.")] = (
        "linear"
    ),
    base: Annotated[Path | None, typer.Option(help="What the models were trained from.")] = None,
) -> None:
    """Combine checkpoints into one model without training."""
    if method not in ("linear", "task_arithmetic"):
        raise UsageError(f"no method '{method}'", where="--method", fix="linear or task_arithmetic")
    try:
        given = [float(weight) for weight in weights.split(",")] if weights else [1.0] * len(models)
    except ValueError:
        raise UsageError(f"'{weights}' are no weights", where="--weights", fix="numbers, by commas: 0.7,0.3") from None
    if len(given) != len(models):
        raise UsageError(f"{len(given)} weights for {len(models)} models", where="--weights", fix="one for each")
    if out.exists():
        raise UsageError("the target exists already", where=out, fix="name a new directory")
    from jvlm.model.combine import combine as write

    record = write(list(zip(models, given, strict=True)), out, method, base)  # type: ignore[arg-type]
    parts = ", ".join(f"{model['weight']:g} × {model['path']}" for model in record["models"])
    print(f"{out}: {method} of {parts}" + (f" on {base}" if base else ""))
