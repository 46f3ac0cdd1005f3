"""Models that look at nothing, or know everything: what the figures of a benchmark must say of them is known."""

from collections.abc import Callable, Sequence

import numpy as np

from jvlm.eval.answers import Read, right_answer, words
from jvlm.eval.metrics import candidates
from jvlm.eval.task import Task
from jvlm.eval.task_items import TaskItem
from jvlm.infer.types import Generation, Likelihood
from jvlm.sample import Sample

Choose = Callable[[TaskItem], Read]


class Player:
    """A `TextModel` that gives, to each question by its id, the answer that `choose` names."""

    def __init__(self, task: Task, items: Sequence[TaskItem], choose: Choose) -> None:
        self.task, self.items, self.choose = task, {item.id: item for item in items}, choose
        self.settings = {"template": "plain", "begin": False, "precision": "float32"}
        self.prompts: list[str] = []
        self.stops: list[tuple[str, ...]] = []

    def refusals(self, samples, choices):
        return [None] * len(samples)

    def generate(self, samples: Sequence[Sample], *, max_new_tokens=64, stop=()):
        self.prompts += [sample.messages[-1].text for sample in samples]
        self.stops.append(tuple(stop))
        return [Generation(self._say(sample), "stop", 1) for sample in samples]

    def choice_likelihoods(self, samples, choices):
        self.prompts += [sample.messages[-1].text for sample in samples]
        found = []
        for sample, texts in zip(samples, choices, strict=True):
            said = self.choose(self.items[sample.id])
            found.append([Likelihood(0.0 if i == said else -9.0, len(text)) for i, text in enumerate(texts)])
        return found

    def _say(self, sample: Sample) -> str:
        item = self.items[sample.id]
        return words(self.task, item, self.choose(item)) if item.answers or item.choices else "はい"


def oracle(task: Task) -> Choose:
    return lambda item: right_answer(task, item)


def constant(answer: Read) -> Choose:
    """The same for every question."""
    return lambda item: answer


def random(task: Task, items: Sequence[TaskItem], seed: int) -> Choose:
    """Evenly among an item's choices, or among what blind play may answer."""
    generator = np.random.default_rng(seed)
    among = candidates(task, items)

    def choose(item: TaskItem) -> Read:
        count = len(task.choices(item)) or len(among)
        return among[int(generator.integers(count))]

    return choose
