"""`jvlm scale`: a ladder of sizes, its law, the next size's loss."""

from pathlib import Path
from typing import Annotated

import typer

from jvlm.commands.output import ConfigPath, Json, Overrides, config_file, print_record, quiet, say, table


def scale(
    config: ConfigPath,
    overrides: Overrides = None,
    sizes: Annotated[str, typer.Option(help="Sizes that are trained and fitted.")] = "500k,700k,1m,1.4m,2m",
    predict: Annotated[str, typer.Option(help="Sizes whose loss is forecast.")] = "4m",
    budget: Annotated[float, typer.Option(min=0.001, help="Tokens for each parameter, of every size.")] = 20.0,
    out: Annotated[Path, typer.Option(help="The folder of the ladder, to go on from.")] = Path("runs/ladder"),
    check: Annotated[bool, typer.Option("--check", help="Train the forecast sizes too, and compare.")] = False,
    as_json: Json = False,
) -> None:
    """Train models of several sizes on matched budgets, fit the law of their loss, forecast the next size.

    A size that is done is not run again: the same command goes on, and more sizes can be added.
    """
    from jvlm.recipe import load_recipe
    from jvlm.scale.ladder import UNIT, run_ladder
    from jvlm.scale.sizes import parse_sizes

    recipe = load_recipe(config_file(config), overrides or [])
    ahead = parse_sizes(predict)
    record = run_ladder(recipe, parse_sizes(sizes), ahead, budget, out, quiet if as_json else say, check)
    if as_json:
        print_record(record, as_json)
        return
    rows = [[r["size"], f"{r['parameters']:,}", f"{r['tokens']:,}", f"{r['loss']:.4f}", ""] for r in record["rungs"]]
    for forecast in record["forecasts"]:
        between = "" if forecast["low"] is None else f"{forecast['low']:.4f} to {forecast['high']:.4f}"
        measured = f"{forecast['measured']:.4f}, {forecast['error']:+.1%}" if "measured" in forecast else between
        rows.append([forecast["size"], f"{forecast['parameters']:,}", "", f"{forecast['loss']:.4f}", measured])
    table(["size", "parameters", "tokens", UNIT, "measured, or the interval"], rows)
    law = record["law"]
    print(f"law: {law['floor']:.3f} + exp({law['log_scale']:.3f}) / N^{law['exponent']:.3f}")
    print(f"ladder: {out / 'ladder.json'}")
