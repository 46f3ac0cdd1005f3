"""Examinees whose scores are known beforehand."""

import random
from collections.abc import Sequence

from jvlm.eval.items import ExamItem, exam_answer
from jvlm.infer.types import Generation
from jvlm.sample import Sample


class Random:
    """Likes each choice at random, by its seed and the question; of numbers it says nothing that can be read."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def check(self, sample: Sample, answers: Sequence[str]) -> None: ...

    def generate(
        self, samples: Sequence[Sample], *, max_new_tokens: int = 64, temperature: float = 0.0, seed: int = 0
    ) -> list[Generation]:
        return [Generation("わかりません", "stop", 1) for _ in samples]

    def choice_log_likelihoods(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[list[float]]:
        draws = [random.Random(f"{self.seed} {sample.id} {len(sample.images)}") for sample in samples]
        return [[-draw.random() for _ in texts] for draw, texts in zip(draws, choices, strict=True)]


class Oracle:
    """Knows every answer by the question's id and its options' texts.

    Args:
        needs_image: without a picture, or with one that is not the question's, it likes the wrong choices.
        ignorant: ids of questions that it answers wrong, whatever it is shown.
    """

    def __init__(self, items: Sequence[ExamItem], *, needs_image: bool = False, ignorant: Sequence[str] = ()) -> None:
        self.items = {item.id: item for item in items}
        self.needs_image, self.ignorant = needs_image, set(ignorant)

    def check(self, sample: Sample, answers: Sequence[str]) -> None: ...

    def generate(
        self, samples: Sequence[Sample], *, max_new_tokens: int = 64, temperature: float = 0.0, seed: int = 0
    ) -> list[Generation]:
        return [
            Generation(exam_answer(self.items[sample.id]) if self._knows(sample) else "", "stop", 1)
            for sample in samples
        ]

    def choice_log_likelihoods(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[list[float]]:
        scores = []
        for sample in samples:
            # the key is in the sample's `accept`, in the labels of the order in which it is asked
            right, knows = sample.meta["accept"][0], self._knows(sample)
            scores.append([0.0 if (label in right) == knows else -5.0 for label in sample.meta["labels"]])
        return scores

    def _knows(self, sample: Sample) -> bool:
        if sample.id in self.ignorant:
            return False
        own = [image.path for image in sample.images] == self.items[sample.id].pictures
        return own or not self.needs_image or not self.items[sample.id].pictures
