"""What the converters of published text benchmarks share: from their rows to the questions that `jvlm.eval` asks."""

import csv
import io
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from jvlm_data.rows import Fault, nothing_usable, read_rows, text, texts, value

from jvlm.errors import DataError
from jvlm.eval.judge_check import FILE as JUDGMENTS
from jvlm.eval.judge_check import Judgment, write_judgments
from jvlm.eval.task_items import TaskItem, write_task_items
from jvlm.files import append_json_line, new_folder

Place = tuple[str, dict[str, Any]]
"""Where a published row stands (file:line or file:record), and the row."""


class TaskSet:
    """The questions of a published set on their way to ``out/NAME.jsonl``; what cannot be used becomes a fault.

    `judgments`: published verdicts on answers to them; `pictures`: name below `out` → published file.
    """

    def __init__(self, source: Path, layout: str) -> None:
        self.source, self.layout = source, layout
        self.faults: list[Fault] = []
        self.judgments: list[Judgment] = []
        self.pictures: dict[str, Path] = {}
        self._files: dict[str, dict[str, TaskItem]] = {}

    def add(self, name: str, rows: Iterable[Place], make: Callable[[str, dict[str, Any]], TaskItem]) -> None:
        """The items that `make(place, row)` makes of `rows`, for the file `name`; its DataErrors are recorded."""
        items = self._files.setdefault(name, {})
        for place, row in rows:
            try:
                item = make(place, row)
                if item.id in items:
                    raise DataError(f"id {item.id!r} stands twice")
                _check_text(item)
                items[item.id] = item
            except DataError as error:
                self.faults.append({"where": place, "error": error.what})

    def write(self, out: Path) -> dict[str, int]:
        """Commit `out`, all or nothing, with errors.jsonl; counts by file and of `errors`.

        Raises DataError when nothing was usable.
        """
        files = {name: list(items.values()) for name, items in self._files.items() if items}
        if not files:
            raise nothing_usable(self.source, self.faults, self.layout)
        with new_folder(out) as folder:
            for name, items in files.items():
                write_task_items(folder / f"{name}.jsonl", items)
            if self.judgments:
                write_judgments(folder / JUDGMENTS, self.judgments)
            for name, path in self.pictures.items():
                (folder / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(path, folder / name)
            (folder / "errors.jsonl").touch()
            for fault in self.faults:
                append_json_line(folder / "errors.jsonl", fault)
        judged = {"judgments": len(self.judgments)} if self.judgments else {}
        return {name: len(items) for name, items in files.items()} | judged | {"errors": len(self.faults)}


def read_table(
    path: Path, source: Path, faults: list[Fault], *, delimiter: str = ",", header: list[str] | None = None
) -> Iterator[Place]:
    """(place, row) of a table with a head line, or with the columns `header`; places count records from 1.

    A row with another number of columns goes to `faults`, and so does a file that is not UTF-8. Without quotes
    where columns are separated by tabs.
    """
    name = str(path.relative_to(source))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        faults.append({"where": name, "error": f"cannot be read: {error}"})
        return
    lines = io.StringIO(text, newline="")
    quoting: Literal[0, 3] = 3 if delimiter == "\t" else 0  # csv.QUOTE_NONE, csv.QUOTE_MINIMAL
    rows = csv.reader(lines, delimiter=delimiter, quoting=quoting)
    columns = header
    for number, row in enumerate(rows, 1 if header else 0):
        if columns is None:
            columns = row
        elif len(row) != len(columns):
            faults.append({"where": f"{name}:{number}", "error": f"{len(row)} columns instead of {len(columns)}"})
        else:
            yield f"{name}:{number}", dict(zip(columns, row, strict=True))


def column(row: Mapping[str, Any], name: str) -> str:
    """A column's text, without the spaces around it. Raises DataError when it is missing or empty."""
    found = str(row.get(name) or "").strip()
    if not found:
        raise DataError(f"column {name!r} is missing or empty")
    return found


def labelled(
    identity: str, label: str, labels: Iterable[str], fields: dict[str, str], *, group: str = "", kind: str = ""
) -> TaskItem:
    """An item answered by one of `labels`. Raises DataError for another one."""
    if label not in labels:
        raise DataError(f"label {label!r} is none of {', '.join(labels)}")
    return TaskItem(identity, group or identity, kind, fields, [], None, [label])


def _check_text(item: TaskItem) -> None:
    for part in (*item.fields.values(), *item.choices, *item.answers):
        if not part.strip():
            raise DataError("a text of the question is empty")
        try:
            part.encode()
        except UnicodeEncodeError:
            raise DataError("the text is not valid Unicode: it holds half a surrogate pair") from None


def read_questions(source: Path, name: str, faults: list[Fault]) -> Iterator[Place]:
    """(place, row) of the one file `name` below `source`. Raises DataError when there is none, or are several."""
    paths = sorted(source.rglob(name))
    if len(paths) != 1:
        raise DataError(f"{len(paths)} files {name} found", where=source, fix="name the folder that holds one")
    yield from read_rows(paths[0], source, faults)


def answers_by_question(paths: Iterable[Path], source: Path, faults: list[Fault]) -> dict[str, list[str]]:
    """Turns by question id of FastChat's files of answers: question_id, choices, the turns of the first choice."""
    found: dict[str, list[str]] = {}
    for path in paths:
        for place, row in read_rows(path, source, faults):
            try:
                choices = value(row, "choices", list)
                if not choices or not isinstance(choices[0], dict):
                    raise DataError("the row holds no answer")
                found[str(value(row, "question_id", int))] = texts(choices[0], "turns")
            except DataError as error:
                faults.append({"where": place, "error": error.what})
    return found


def reference_answers(source: Path, names: Iterable[str], faults: list[Fault]) -> dict[str, list[str]]:
    """Those of the first file of `names` that is below ``reference_answer/``; none where there is no such folder."""
    for name in names:
        if paths := sorted(source.rglob(f"reference_answer/{name}")):
            return answers_by_question(paths[:1], source, faults)
    return {}


def open_question(
    place: str,
    row: dict[str, Any],
    references: Mapping[str, list[str]] | None = None,
    opponents: Mapping[str, list[str]] | None = None,
) -> TaskItem:
    """A question of FastChat's layout: question_id, category and turns; the first turn is `question`.

    Args:
        references: reference answers by id, one a turn; opponents: what the answer is held against, as `opponent`.
    """
    turns = texts(row, "turns")
    if not turns:
        raise DataError("the question has no turn")
    identity, names = str(value(row, "question_id", int)), ("question", "second_question")
    fields = dict(zip(names, turns, strict=False))
    if opponent := (opponents or {}).get(identity):
        fields["opponent"] = opponent[0]
    answers = (references or {}).get(identity, [])[: len(turns)]
    return TaskItem(identity, identity, text(row, "category"), fields, [], None, answers)
