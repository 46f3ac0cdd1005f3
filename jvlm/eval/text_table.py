"""The figures of text benchmarks as a table: one row a task, one column a model, each beside what needs no model."""

from collections.abc import Mapping

from jvlm.eval.ledger import Record

NONE = "–"


def text_table(results: Mapping[str, Mapping[str, Record]]) -> list[list[str]]:
    """A table, its head first, of {MODEL: {TASK: result}}; a task without a metric has no row.

    A model's cell holds the figure, its 95 % interval, and the share of answers that could not be read or asked for.
    A task with pictures has a second row: the same without them.
    """
    tasks = {task: result for model in results.values() for task, result in model.items() if result.get("metrics")}
    rows = [["task", "figure", "n", "chance", "constant", *results]]
    for task, result in tasks.items():
        metric, figure = next(iter(result["metrics"].items()))
        about = [f"{metric}, {result['request']}", str(result["n"])]
        about += [_share(figure["chance"]), _share(figure["best_constant"])]
        own = [found.get(task) for found in results.values()]
        rows.append([task, *about, *map(_cell, own)])
        if "removed" in result:
            rows.append([f"{task}, no picture", *about, *(_cell(found and found["removed"]) for found in own)])
    return rows


def judged_table(results: Mapping[str, Mapping[str, Record]]) -> list[list[str]]:
    """A table, its head first, of the tasks whose answers are judged: figure, interval, verdicts that were not read."""
    tasks = list(dict.fromkeys(task for model in results.values() for task, r in model.items() if "judged" in r))
    rows = [["task", "judge", "answers", *results]]
    for task in tasks:
        found = {model: result[task]["judged"] for model, result in results.items() if task in result}
        first = next(iter(found.values()))
        judge = first["judge"]["id"] if first["judge"] else NONE
        rows.append([task, judge, str(first["n_answers"]), *(_judged(found.get(model)) for model in results)])
    return rows


def _judged(judged: Record | None) -> str:
    if judged is None:
        return NONE
    if judged["judge"] is None:
        return str(judged["status"])
    score = judged["score"]
    if score["value"] is None:
        return f"{NONE}, {judged['failures']} unread"
    scale = 100 if judged["protocol"] == "vicuna" else 1
    low, high = (scale * bound for bound in score["interval"])
    unread = f", {judged['failures']} unread" if judged["failures"] else ""
    return f"{scale * score['value']:.2f} ({low:.2f} – {high:.2f})" + unread


def _cell(result: Record | None) -> str:
    if result is None:
        return NONE
    figure = next(iter(result["metrics"].values()))
    interval = "" if figure["interval"] is None else " ({:.1%} – {:.1%})".format(*figure["interval"])
    unread = result["parse_failures"] + len(result["not_asked"]) / max(1, figure["n"])
    return _share(figure["value"]) + interval + (f", {unread:.1%} unread" if unread else "")


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.1%}"
