"""A text benchmark as data: `evals/tasks/NAME.yaml`, how its questions are put, and its few-shot examples."""

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from jvlm.assets import asset
from jvlm.config import Config, load_config
from jvlm.errors import DataError, UsageError
from jvlm.eval.task_items import TaskItem, load_picture_questions, load_task_items
from jvlm.sample import Message, Sample

LETTERS = "ABCDEFGH"
Request = Literal["choices", "generate"]
Norm = Literal["sum", "character", "token"]
Answer = Literal["text", "letter", "number"]


class Prompt(Config):
    """One wording. Its templates name fields of the items in braces, and {choices}; the answer is never among them."""

    description: str = Field("", description="Stands once, before the examples")
    item: str = Field(description="A question, up to where its answer begins")
    choice: str = Field("", description="One choice in {choices}: {letter}, {number} (from 0) and {text}")
    between: str = Field("", description="Stands between two choices")
    delimiter: str = Field("", description="Stands before an answer: of an example, and of a choice that is scored")
    separator: str = Field("\n\n", description="Stands behind an example")
    answer: Answer = Field("text", description="What is said to choose: the choice's text, its letter or its number")
    draft: str | None = Field(None, description="A question asked first; what is said to it is the field {draft}")
    drafted: str | None = Field(None, description="The field of the examples that stands for their draft")


class Shots(Config):
    """Examples before a question: drawn once, the same for every question."""

    count: int = Field(0, ge=0, description="How many")
    split: str = Field("train", description="Where from; what is asked is never an example")
    seed: int = Field(0, description="Seed of the draw")
    by_label: bool = Field(False, description="Draw from the labels in turn")


class Task(Config):
    """One benchmark."""

    name: str = Field(description="Key of the task; the file's name")
    title: str = Field(description="What it is called in tables")
    set: str = Field(description="The data set that holds it: `jvlm data build SET --source FOLDER --out DATA/SET`")
    file: str = Field("{split}.jsonl", description="Its file of questions, or folder of shards, one per split")
    split: str = Field("test", description="What is asked")
    licence: str = Field(description="Of the data")
    request: Request = Field(description="Log-likelihood of the choices, or greedy generation")
    norm: Norm = Field("sum", description="What the choices' log-likelihoods are divided by in the first metric")
    labels: dict[str, str] = Field(
        {}, description="Label in the data: what is said for it, where labels are the choices"
    )
    prompts: dict[str, Prompt] = Field(description="Wordings by version; a changed wording is another version")
    prompt: str = Field(description="The wording that is used by default")
    shots: Shots = Field(Shots(), description="Few-shot examples")
    parser: Literal["text", "choice", "number", "members", "triples"] = Field(
        "text", description="How a generated answer is read"
    )
    metrics: tuple[str, ...] = Field(("accuracy",), description="What is computed; the first is the task's figure")
    stop: tuple[str, ...] = Field((), description="A generated answer ends before the first of these")
    draft_stop: tuple[str, ...] = Field((), description="A draft ends before the first of these")
    max_new_tokens: int = Field(64, ge=1, description="Cap of a generation, the same for every question")
    group: Literal["group_id", "id"] = Field("group_id", description="Items that are redrawn together for intervals")
    turns: tuple[str, ...] = Field((), description="Fields asked one after the other in a conversation, if not one")
    judge: str | None = Field(None, description="How a judge rates the answers, as `judge_prompts.yaml` names it")
    sources: tuple[str, ...] = Field((), description="Where the wordings come from")

    @model_validator(mode="after")
    def _whole(self) -> "Task":
        if self.prompt not in self.prompts:
            raise ValueError(f"prompt {self.prompt!r} is none of {', '.join(self.prompts)}")
        if (
            self.request == "generate"
            and self.parser == "choice"
            and any(
                prompt.answer == "text" and not self.labels and not prompt.choice for prompt in self.prompts.values()
            )
        ):
            raise ValueError("a prompt that asks for a choice must show the choices")
        return self

    @property
    def wording(self) -> Prompt:
        return self.prompts[self.prompt]

    @property
    def version(self) -> str:
        """``NAME@PROMPT``: what is comparable with what."""
        return f"{self.name}@{self.prompt}"

    def choices(self, item: TaskItem) -> list[str]:
        """The texts of an item's choices; empty where the answer is open."""
        return item.choices or list(self.labels.values())

    def right(self, item: TaskItem) -> int | None:
        """The place of the right choice; None where the answer is open. Raises DataError for an unknown label."""
        if item.choices or not self.labels:
            return item.right
        if item.answers[0] not in self.labels:
            raise DataError(f"label {item.answers[0]!r} is none of {', '.join(self.labels)}", where=item.id)
        return list(self.labels).index(item.answers[0])

    def said(self, item: TaskItem) -> list[str]:
        """What is said to choose each of the choices."""
        choices = self.choices(item)
        spelled = {"text": choices, "letter": list(LETTERS[: len(choices)]), "number": [*map(str, range(len(choices)))]}
        return spelled[self.wording.answer]

    def right_words(self, item: TaskItem) -> str:
        """The right answer as an example gives it."""
        right = self.right(item)
        if right is not None:
            return self.said(item)[right]
        return "\n".join(item.answers) if self.parser in ("members", "triples") else item.answers[0]


def task_names() -> list[str]:
    """Every benchmark this installation knows."""
    return sorted(path.stem for path in asset("evals", "tasks").glob("*.yaml"))


def load_task(name: str) -> Task:
    """The task ``NAME``, or ``NAME@PROMPT`` in another wording. Raises UsageError for an unknown one."""
    name, _, prompt = name.partition("@")
    if name not in task_names():
        raise UsageError(f"no task '{name}'", fix=f"known: {', '.join(task_names())}")
    return load_config(Task, asset("evals", "tasks", f"{name}.yaml"), values={"prompt": prompt} if prompt else None)


class Suites(Config):
    """`evals/suites.yaml`."""

    suites: dict[str, tuple[str, ...]] = Field(description="Names of tasks by the suite's name")


def load_suite(name: str) -> list[str]:
    """The tasks of a suite. Raises UsageError for an unknown one."""
    suites = load_config(Suites, asset("evals", "suites.yaml")).suites
    if name not in suites:
        raise UsageError(f"no suite '{name}'", fix=f"known: {', '.join(suites)}")
    return list(suites[name])


def load_questions(task: Task, data: Path, split: str) -> list[TaskItem]:
    """The items of one split below the folder `data`. Raises DataError when they are not there."""
    path = data / task.set / task.file.format(split=split)
    if path.is_dir():
        return load_picture_questions(path)
    if not path.is_file():
        build = f"jvlm data build {task.set} --source FOLDER --out {data / task.set}"
        raise DataError(
            f"no questions of {task.name}", where=path, fix=f"make them from the published files: `{build}`"
        )
    return load_task_items(path)


def prepare(task: Task, data: Path, limit: int | None = None) -> tuple[list[TaskItem], list[TaskItem]]:
    """The questions that are asked (the first `limit` of them), and the few-shot examples, fixed by the task's seed.

    An example is never asked, and nothing that reads like a question that is asked is an example. Raises DataError
    when the questions are not there or too few are left for the examples.
    """
    items, shots = load_questions(task, data, task.split), task.shots
    if not shots.count:
        return items[:limit], []
    pool = items if shots.split == task.split else load_questions(task, data, shots.split)
    if shots.split != task.split:
        asked = {_text(item) for item in items}
        pool = [item for item in pool if _text(item) not in asked]
    if len(pool) < shots.count:
        raise DataError(f"{len(pool)} questions for {shots.count} examples", where=data / task.set)
    order = np.random.default_rng(shots.seed).permutation(len(pool))
    drawn = [pool[i] for i in order]
    examples = _by_label(drawn, shots.count) if shots.by_label else drawn[: shots.count]
    used = {_text(example) for example in examples}
    return [item for item in items if _text(item) not in used][:limit], examples


def render(task: Task, item: TaskItem, shots: Sequence[TaskItem], extra: Mapping[str, str] | None = None) -> str:
    """The text of a question: description, examples, the question, up to where the answer begins.

    Args:
        extra: further fields, such as a draft. Raises UsageError for a field that the item has not.
    """
    prompt = task.wording
    lines = [prompt.description]
    for shot in shots:
        drafted = {"draft": shot.fields[prompt.drafted]} if prompt.drafted else {}
        lines += [_fill(prompt.item, task, shot, drafted), prompt.delimiter, task.right_words(shot), prompt.separator]
    return "".join([*lines, _fill(prompt.item, task, item, extra or {})])


def question(task: Task, item: TaskItem, shots: Sequence[TaskItem], extra: Mapping[str, str] | None = None) -> Sample:
    """What is sent: one user turn, the item's pictures first, without the delimiter, which belongs to the answer."""
    text = render(task, item, shots, extra)
    return Sample(item.id, [Message("user", [*range(len(item.images)), text])], item.images, None, {})


def draft_question(task: Task, item: TaskItem, shots: Sequence[TaskItem]) -> Sample:
    """The question that is asked before a question with a draft."""
    prompt = task.wording
    assert prompt.draft is not None
    assert prompt.drafted is not None
    examples = [
        _fill(prompt.draft, task, shot, {}) + prompt.delimiter + shot.fields[prompt.drafted] + prompt.separator
        for shot in shots
    ]
    text = prompt.description + "".join(examples) + _fill(prompt.draft, task, item, {})
    return Sample(item.id, [Message("user", [text])], [], None, {})


def _fill(template: str, task: Task, item: TaskItem, extra: Mapping[str, str]) -> str:
    choices = task.choices(item)
    lines = [
        task.wording.choice.format(letter=LETTERS[i] if i < len(LETTERS) else "", number=i, text=text)
        for i, text in enumerate(choices)
    ]
    fields = {**item.fields, "choices": task.wording.between.join(lines), **extra}
    named = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    if named - fields.keys():
        unknown = ", ".join(sorted(named - fields.keys()))
        raise UsageError(f"the prompt {task.version} names {unknown}", fix=f"fields: {', '.join(sorted(fields))}")
    return template.format(**fields)


def _by_label(items: Sequence[TaskItem], count: int) -> list[TaskItem]:
    """The first of each label in turn, labels in order of their first item."""
    labels: dict[str, list[TaskItem]] = {}
    for item in items:
        labels.setdefault(item.answers[0] if item.answers else str(item.right), []).append(item)
    found: list[TaskItem] = []
    while len(found) < count:
        for of_label in labels.values():
            if of_label and len(found) < count:
                found.append(of_label.pop(0))
    return found


def _text(item: TaskItem) -> str:
    return "\n".join([*item.fields.values(), *item.choices])
