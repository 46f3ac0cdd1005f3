"""What an answer costs nothing to reach: chance, and the best answer given without looking or reading."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

from jvlm.eval.exam import is_correct
from jvlm.eval.items import ExamItem
from jvlm.infer.types import Generation
from jvlm.sample import Sample

IsRight = Callable[[str, str], bool]  # (answer, gold)


def best_constant(golds: Sequence[str], is_right: IsRight) -> tuple[str, float]:
    """The gold answer that, given to every question, is right most often, and its accuracy; ("", 0) for no question."""
    scored = [(answer, _accuracy(answer, golds, is_right)) for answer in sorted(set(golds))]
    return max(scored, key=lambda pair: pair[1], default=("", 0.0))


def chance(golds: Sequence[str], is_right: IsRight) -> float | None:
    """Expected accuracy of drawing evenly among the different gold answers (different = not right for each other)."""
    different: list[str] = []
    for answer in sorted(set(golds)):
        if not any(is_right(answer, other) for other in different):
            different.append(answer)
    if not different:
        return None
    return sum(_accuracy(answer, golds, is_right) for answer in different) / len(different)


def exam_chance(items: Sequence[ExamItem]) -> float | None:
    """Mean over items of accepted answers / possible marks; what has no options cannot be guessed and counts 0."""
    shares = [len(item.accept) / math.comb(len(item.options), item.n_select) if item.options else 0.0 for item in items]
    return sum(shares) / len(shares) if shares else None


def best_constant_marks(items: Sequence[ExamItem]) -> tuple[dict[str, str], float]:
    """Per kind of question the marks ("a", "bd", a number) that are right most often, and the accuracy of playing them.

    A kind is an answer type and how many options are to be marked, which the question says: `kind_of`.
    """
    constants: dict[str, str] = {}
    right = 0
    for kind in sorted({kind_of(item.answer_type, item.n_select) for item in items}):
        of_kind = [item for item in items if kind_of(item.answer_type, item.n_select) == kind]
        scored = [(marks, sum(is_correct(i, split_marks(i, marks)) for i in of_kind)) for marks in _candidates(of_kind)]
        constants[kind], most = max(scored, key=lambda pair: pair[1])
        right += most
    return constants, right / len(items) if items else 0.0


def kind_of(answer_type: str, n_select: int) -> str:
    """The answer type; with the number to be marked where it is more than two."""
    return answer_type if n_select <= 2 else f"{answer_type}_{n_select}"


def split_marks(item: ExamItem, marks: str) -> list[str]:
    """Marks as an answer: one label per letter, or the whole where there are no options."""
    return list(marks) if item.options else [marks]


class ConstantModel:
    """A `Model` that gives one answer per kind of question: looking at nothing, it reaches the printed constants.

    A kind is `meta["kind"]`, for exams as `kind_of` names it. As a choice it prefers the options whose labels
    (`meta["labels"]`) the answer names, or, without labels, the one whose text is the answer.
    """

    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers = answers

    def check(self, sample: Sample, answers: Sequence[str]) -> None:
        """It reads nothing, so everything fits."""

    def generate(
        self,
        samples: Sequence[Sample],
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        seed: int | Sequence[int] = 0,
    ) -> list[Generation]:
        return [Generation(self._answer(sample), "stop", 1) for sample in samples]

    def choice_log_likelihoods(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[list[float]]:
        scores = []
        for sample, texts in zip(samples, choices, strict=True):
            answer, labels = self._answer(sample), sample.meta.get("labels")
            named = [label in answer for label in labels] if labels else [text == answer for text in texts]
            scores.append([0.0 if chosen else -1.0 for chosen in named])
        return scores

    def _answer(self, sample: Sample) -> str:
        return self.answers.get(kind_of(str(sample.meta.get("kind")), int(sample.meta.get("n_select", 1))), "")


def _accuracy(answer: str, golds: Sequence[str], is_right: IsRight) -> float:
    return sum(is_right(answer, gold) for gold in golds) / len(golds)


def _candidates(items: Sequence[ExamItem]) -> list[str]:
    if not items[0].options:
        return sorted({answer[0] for item in items for answer in item.accept})
    labels = max((item.labels for item in items), key=len)
    sizes = sorted({item.n_select for item in items})
    return ["".join(marks) for size in sizes for marks in combinations(labels, size)]
