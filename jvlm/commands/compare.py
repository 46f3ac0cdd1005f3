"""`jvlm compare`: what a model gained by a training, and what it forgot."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jvlm.commands.eval import load_to_ask
from jvlm.commands.output import Json, print_record, table
from jvlm.errors import JvlmError, UsageError


def compare(
    before: Annotated[Path, typer.Argument(help="The model directory that was gone on from.")],
    after: Annotated[Path, typer.Argument(help="The model directory that came of it.")],
    data: Annotated[Path, typer.Option(help="Folder of the built data sets of the text benchmarks.")],
    out: Annotated[Path, typer.Option(help="Folder of the results, continued.")],
    tasks: Annotated[str, typer.Option(help="General text benchmarks: jcommonsenseqa,jnli")] = "",
    exams: Annotated[list[Path] | None, typer.Option(help="Folder of the records of an exam; several times.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first questions of each text benchmark.")] = None,
    max_drop: Annotated[
        float | None, typer.Option(min=0, help="The most that a text benchmark may fall, 0.02 for two points.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask two models the same questions: the change of each figure with its 95 % interval, question paired to question.

    The report goes to OUT/compare.json. With --max-drop a larger fall of a text benchmark ends in an error.
    """
    from jvlm.eval.change import change_on_exam, change_on_task
    from jvlm.files import lock, write_json

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names and not exams:
        raise UsageError("nothing to compare the models on", fix="give --tasks, --exams or both")
    pair: Any = [load_to_ask(model, "plain") for model in (before, after)]
    if pair[0][1] == pair[1][1]:
        raise UsageError("both have the very same weights", where=after, fix="name the model before and the one after")
    with lock(out):
        report: dict[str, Any] = {"before": str(before), "after": str(after), "tasks": {}, "exams": {}}
        for name in names:
            report["tasks"][name] = change_on_task(name, data, out / "tasks", *pair, limit=limit)
        for folder in exams or []:
            report["exams"] |= change_on_exam(folder, out / "exams", *pair)
        write_json(out / "compare.json", report)
    if as_json:
        print_record(report, as_json)
    else:
        rows = [[name, *_cells(change)] for kind in ("tasks", "exams") for name, change in report[kind].items()]
        table(["set", "n", "before", "after", "change", "95 %"], rows)
    fallen = [name for name, c in report["tasks"].items() if max_drop is not None and c["change"] < -max_drop]
    if fallen:
        fix = "replay more of the general data, train fewer steps, or give the adapter a smaller alpha"
        raise JvlmError(f"fell by more than {max_drop:g}: {', '.join(fallen)}", where=out / "compare.json", fix=fix)


def _cells(change: dict[str, Any]) -> list[str]:
    low, high = change["interval"]
    figures = [f"{change[when]:.3f}" for when in ("before", "after")]
    return [str(change["n"]), *figures, f"{change['change']:+.3f}", f"{low:+.3f} to {high:+.3f}"]
