"""`jvlm plan`: what a recipe costs."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jvlm.commands.output import ConfigPath, Json, Overrides, config_file, table
from jvlm.errors import UsageError

if TYPE_CHECKING:
    from jvlm.plan.work import Like
    from jvlm.recipe import Recipe


def plan(
    config: ConfigPath,
    overrides: Overrides = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="Number of GPUs, for memory, time and cost.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Which: a100-40g, a100-80g, h100, h200, l40s, rtx4090, …")] = None,
    zero: Annotated[int | None, typer.Option(min=0, max=3, help="ZeRO stage; the recipe's own when left out.")] = None,
    mfu: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Share of the data sheet's speed that is reached; 0.4.")
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price-per-gpu-hour", min=0, help="Yen for one GPU and hour.")
    ] = None,
    ladder: Annotated[Path | None, typer.Option(help="ladder.json of `jvlm scale`, to forecast the loss from.")] = None,
    like: Annotated[
        str | None, typer.Option(help="A recipe of configs/sizes with the shape of a model to start from: 1.8b")
    ] = None,
    tower_like: Annotated[
        str | None, typer.Option(help="open_clip's architecture of a tower to start from: ViT-L-14")
    ] = None,
    text_per_view: Annotated[
        int | None, typer.Option(min=1, help="Tokens of text beside each view of an image; 100.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What a recipe costs: parameters, tokens, operations and memory of each training stage.

    With --gpus and --gpu also memory by part for every ZeRO stage, tokens a second, days, kWh, yen and the loss to
    expect, and what to change where it does not fit.
    """
    from jvlm.plan.ask import like_of
    from jvlm.recipe import load_recipe

    recipe, found = load_recipe(config_file(config), overrides or []), like_of(like, tower_like, text_per_view)
    if (gpus is None) != (gpu is None):
        raise UsageError("--gpus says how many and --gpu which", fix="give both: --gpus 8 --gpu a100-40g")
    if gpus is None or gpu is None:
        options = {"zero": zero, "mfu": mfu, "price-per-gpu-hour": price, "ladder": ladder}
        if given := [name for name, value in options.items() if value is not None]:
            raise UsageError(f"--{given[0]} goes with GPUs", fix="give --gpus 8 --gpu a100-40g")
        _short(recipe, found, as_json)
        return
    from jvlm.plan.gpus import gpu_named
    from jvlm.plan.report import lines, report
    from jvlm.plan.time import DEFAULT_MFU

    record = report(
        recipe,
        gpu_named(gpu),
        gpus,
        zero=zero,
        mfu=mfu or DEFAULT_MFU,
        yen_per_gpu_hour=price,
        ladder=ladder,
        like=found,
    )
    print(json.dumps(record) if as_json else "\n".join(lines(record)))


def _short(recipe: "Recipe", like: "Like", as_json: bool) -> None:
    from jvlm.plan import plan as make_plan

    rows = [dataclasses.asdict(row) for row in make_plan(recipe, like)]
    if as_json:
        print(json.dumps({"stages": rows}))
        return
    head = ["stage", "parameters", "tokens", "operations", "weights + optimizer"]
    table(
        head,
        [
            [
                row["stage"],
                f"{row['parameters']:,}",
                f"{row['tokens']:,}",
                f"{row['operations']:.2e}",
                f"{row['state_gib']:.3f} GiB",
            ]
            for row in rows
        ],
    )
