"""What `jvlm eval` makes of results: the first model beside each of the others, and the wrong answers of one."""

from pathlib import Path
from typing import Any

TOYWORLD = "toyworld"


def task_of(name: str, split: str | None) -> Any:
    """The benchmark `name` (`jvlm.eval.task.Task`), with another split to be asked where one is given."""
    from jvlm.eval.task import load_task

    task = load_task(name)
    return task if split is None else task.model_copy(update={"split": split})


def named(exams: dict[str, Any], name: str, others: dict[str, Any]) -> dict[str, Any]:
    """Exams of the set `name` by their names; one that another set holds too, by both."""
    return {exam if exam not in others else f"{name} {exam}": found for exam, found in exams.items()}


def pairs_of(
    results: dict[str, dict[str, Any]],
    said: dict[str, Any],
    names: list[str],
    data: Path,
    split: str | None,
    limit: int | None,
) -> dict[str, dict[str, Any]]:
    """{FIRST – OTHER: {TASK or EXAM: paired test}} of the first model and each of the others."""
    from jvlm.eval.paired import compare_exams, compare_task
    from jvlm.eval.task import prepare, task_names

    first, *others = results
    known = task_names()
    found: dict[str, dict[str, Any]] = {}
    for other in others:
        tests = found.setdefault(f"{first} – {other}", {})
        for name in names:
            if name.partition("@")[0] in known:
                task = task_of(name, split)
                folders = [said[label].folder / "tasks" / results[label][name]["records"] for label in (first, other)]
                test = compare_task(task, prepare(task, data, limit)[0], *folders)
                tests |= {} if test is None else {name: test}
            elif name not in (TOYWORLD, "jmmmu"):
                tests |= named(compare_exams(data / "exam" / name, said[first], said[other]), name, tests)
    return {pair: tests for pair, tests in found.items() if tests}


def wrong_answers(
    results: dict[str, Any], said: Any, names: list[str], data: Path, split: str | None, limit: int | None
) -> dict[str, Any]:
    """{TASK or EXAM: wrong answers} of one model, for the page to show."""
    from jvlm.eval.task import prepare, task_names
    from jvlm.eval.wrong_answers import wrong_in_exams, wrong_in_task, wrong_in_toyworld

    known = task_names()
    found: dict[str, Any] = {}
    for name in names:
        if name == TOYWORLD:
            found |= wrong_in_toyworld(said, {*results["general"], *results["exam"]})
        elif name.partition("@")[0] in known:
            task = task_of(name, split)
            folder = said.folder / "tasks" / results[name]["records"]
            found[name] = wrong_in_task(task, prepare(task, data, limit)[0], folder)
        elif name != "jmmmu":
            found |= named(wrong_in_exams(data / "exam" / name, said), name, found)
    return found
