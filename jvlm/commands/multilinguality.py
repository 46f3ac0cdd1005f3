"""`jvlm multilinguality`: how near the words of two languages lie inside the checkpoints of a run."""

import json
from pathlib import Path
from typing import Annotated

import typer

from jvlm.commands.output import Json, quiet, say, table


def multilinguality(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    pairs: Annotated[
        Path | None, typer.Option(help="Word pairs of your own, as evals/word_pairs.yaml has them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score every checkpoint of a run's pretraining on Japanese-English word pairs, over the tokens it had seen."""
    from jvlm.eval.multilinguality import multilinguality_curve

    curve = multilinguality_curve(run, quiet if as_json else say, pairs)
    if as_json:
        print(json.dumps(curve))
        return
    rows = []
    for point in curve["points"]:
        for layer in point["layers"]:
            figures = [
                f"{layer[key]['value']:.3f} [{', '.join(f'{bound:.3f}' for bound in layer[key]['interval'])}]"
                for key in ("margin", "accuracy")
            ]
            rows.append([f"{point['step']:,}", f"{point['tokens_seen']:,}", str(layer["layer"]), *figures])
    table(["step", "tokens seen", "layer", "margin", "partners found"], rows)
    print(f"curves: {run / 'multilinguality-margin.svg'}, {run / 'multilinguality-accuracy.svg'}")
