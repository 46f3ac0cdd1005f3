"""The figures of text benchmarks as a table: one row a task, one column a model, each beside what needs no model."""

from collections.abc import Mapping

from jvlm.eval.ledger import Record

NONE = "–"


def text_table(results: Mapping[str, Mapping[str, Record]]) -> list[list[str]]:
    """A table, its head first, of {MODEL: {TASK: result}}; a task without a metric has no row.

    A model's cell holds the figure, its 95 % interval, and the share of answers that could not be read or asked for.
    """
    tasks = {task: result for model in results.values() for task, result in model.items() if result.get("metrics")}
    rows = [["task", "figure", "n", "chance", "constant", *results]]
    for task, result in tasks.items():
        metric, figure = next(iter(result["metrics"].items()))
        blind = [_share(figure["chance"]), _share(figure["best_constant"])]
        cells = [_cell(found.get(task)) for found in results.values()]
        rows.append([task, f"{metric}, {result['request']}", str(result["n"]), *blind, *cells])
    return rows


def _cell(result: Record | None) -> str:
    if result is None:
        return NONE
    figure = next(iter(result["metrics"].values()))
    interval = "" if figure["interval"] is None else " ({:.1%} – {:.1%})".format(*figure["interval"])
    unread = result["parse_failures"] + len(result["not_asked"]) / max(1, result["n"])
    return _share(figure["value"]) + interval + (f", {unread:.1%} unread" if unread else "")


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.1%}"
