"""The figures of text benchmarks as a table: one row a task, one column a model, each beside what needs no model."""

from collections.abc import Mapping, Sequence

from jvlm.eval.ledger import Record

NONE = "–"


def text_table(results: Mapping[str, Mapping[str, Record]]) -> list[list[str]]:
    """A table, its head first, of {MODEL: {TASK: result}}; a task without a metric has no row."""
    models = list(results)
    tasks = {task: result for model in results.values() for task, result in model.items() if result.get("metrics")}
    head = ["task", "asked by", "metric", "n", "chance", "best constant"]
    for model in models:
        head += [model, "95 %", "unread"]
    rows = [head]
    for task, result in tasks.items():
        metric, figure = next(iter(result["metrics"].items()))
        row = [task, result["request"], metric, str(result["n"]), _share(figure["chance"]), _share(figure["best_constant"])]
        for model in models:
            row += _cells(results[model].get(task))
        rows.append(row)
    return rows


def _cells(result: Record | None) -> Sequence[str]:
    if result is None:
        return [NONE] * 3
    figure = next(iter(result["metrics"].values()))
    interval = figure["interval"]
    unread = result["parse_failures"] + len(result["not_asked"]) / max(1, result["n"])
    return [_share(figure["value"]), NONE if interval is None else "{:.1%} – {:.1%}".format(*interval), _share(unread)]


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.1%}"
