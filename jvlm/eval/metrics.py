"""The figures of the text benchmarks. Each is a function of sums over the questions, so that any sample of them can be
scored: the interval comes from redrawing whole groups, chance and constants from playing answers that look at nothing.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jvlm.eval.answers import Read, right_answer, words
from jvlm.eval.statistics import DRAWS, accuracy
from jvlm.eval.task import Task
from jvlm.eval.task_items import TaskItem

RIGHT_OR_WRONG = ("accuracy", "exact_match")
"""Metrics that are a share of the questions: their interval is that of an accuracy."""
CANDIDATES = 50
"""Different right answers, the commonest first, that blind play draws from where the answer is open."""

Summands = tuple[float, ...]


class Metric(NamedTuple):
    """`of`: what a question adds to the sums, given its answer (None: unread); `value`: sums ``[..., k]`` → figure."""

    of: Callable[[Task, TaskItem, Read | None], Summands]
    value: Callable[[np.ndarray], np.ndarray]


def measure(
    name: str, task: Task, items: Sequence[TaskItem], answers: Sequence[Read | None], *, seed: int = 0
) -> dict[str, Any]:
    """The figure with its n, 95 % interval, chance, and the best constant answer; `value` is None where not defined."""
    metric, groups = METRICS[name], [getattr(item, task.group) for item in items]
    rows = question_rows(name, task, items, answers)
    value = float(metric.value(rows.sum(0)))
    if np.isnan(value):
        return {"value": None, "n": len(items), "interval": None, "chance": None, "best_constant": None}
    constant, best, chance = blind(name, task, items)
    if name in RIGHT_OR_WRONG:
        right = [bool(row[0]) for row in rows]
        figure = accuracy(right, chance=chance, best_constant=best, groups=groups, seed=seed)
    else:
        interval = _interval(metric, rows, groups, seed)
        figure = {"value": value, "n": len(items), "interval": interval, "chance": chance, "best_constant": best}
    return figure | {"constant": constant}


def figure(name: str, task: Task, items: Sequence[TaskItem], answers: Sequence[Read | None]) -> float:
    """The value alone; not a number where it is not defined."""
    return float(METRICS[name].value(question_rows(name, task, items, answers).sum(0)))


def is_right(name: str, task: Task, item: TaskItem, answer: Read | None) -> bool:
    """Whether an answer is right, by one of `RIGHT_OR_WRONG`."""
    return bool(METRICS[name].of(task, item, answer)[0])


def blind(name: str, task: Task, items: Sequence[TaskItem]) -> tuple[str, float, float]:
    """The constant answer that is best, its figure, and that of drawing evenly among `candidates` each time."""
    value = METRICS[name].value
    fullest = max(items, key=lambda item: len(task.choices(item)))
    sums = {
        words(task, fullest, answer): question_rows(name, task, items, _played(task, items, answer)).sum(0)
        for answer in candidates(task, items)
    }
    constants = {said: float(value(total)) for said, total in sums.items()}
    constant, best = max(constants.items(), key=lambda pair: pair[1])
    if name == "accuracy":
        return constant, best, float(np.mean([1 / len(task.choices(item)) for item in items]))
    return constant, best, float(value(np.sum(list(sums.values()), 0)))


def candidates(task: Task, items: Sequence[TaskItem]) -> list[Read]:
    """What a player who looks at nothing may answer: every choice, or the commonest right answers."""
    if task.choices(items[0]):
        return list(range(max(len(task.choices(item)) for item in items)))
    return [answer for answer, _ in Counter(right_answer(task, item) for item in items).most_common(CANDIDATES)]


def label_figures(task: Task, items: Sequence[TaskItem], answers: Sequence[Read | None]) -> dict[str, float]:
    """Balanced accuracy, macro F1 and Cohen's kappa of a task whose choices are labels.

    Plain accuracy says little where one label is common. An unreadable answer is a label of its own, never right.
    """
    labels = range(len(task.labels))
    table = np.zeros((len(labels), len(labels) + 1))  # right label, answer
    for item, answer in zip(items, answers, strict=True):
        table[task.right(item), answer if isinstance(answer, int) else -1] += 1
    rights, said, hits = table.sum(1), table.sum(0)[:-1], np.diag(table)
    there = rights > 0
    expected = float((rights * said).sum() / table.sum() ** 2)
    return {
        "balanced_accuracy": float((hits[there] / rights[there]).mean()),
        "macro_f1": float((2 * hits[there] / (rights + said)[there]).mean()),
        "kappa": (float(hits.sum() / table.sum()) - expected) / (1 - expected) if expected < 1 else 0.0,
    }


def folded(text: str) -> str:
    """NFKC, lower case, without spaces, quoting brackets and a full stop at the end."""
    return re.sub(r"[\s「」『』\"]", "", unicodedata.normalize("NFKC", text)).lower().rstrip("。.")


def char_f1(answer: str, accepted: Sequence[str]) -> float:
    """F1 of the characters, as a bag, against the accepted answer that fits best (JGLUE's F1 of JSQuAD)."""
    said = Counter(folded(answer))
    scores = [0.0]
    for text in accepted:
        wanted = Counter(folded(text))
        scores.append(2 * (said & wanted).total() / max(1, said.total() + wanted.total()))
    return max(scores)


def word_recall(answer: str, accepted: Sequence[str]) -> float:
    """The share of the words of a right answer that are said, as LLaVA-Med scores open questions of VQA-RAD.

    Of languages that put spaces between words; of several right answers that with the largest share counts.
    """
    said, shares = _bag(answer), [0.0]
    for text in accepted:
        wanted = _bag(text)
        shares.append((said & wanted).total() / wanted.total() if wanted else float(folded(answer) == folded(text)))
    return max(shares)


def _bag(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower()))


def similarity(answer: str, accepted: str) -> float:
    """The ratio that llm-jp-eval calls char_f1 (fuzzywuzzy's token_sort_ratio): words sorted, twice the longest common
    subsequence over both lengths, rounded to hundredths. No F1, and seldom 0."""
    first, second = (" ".join(sorted(re.sub(r"\W", " ", text.lower()).split())) for text in (answer, accepted))
    if answer == accepted:
        return 1.0  # also of signs alone, of which no word is left
    if not first or not second:
        return 0.0
    return round(100 * 2 * _common_subsequence(first, second) / (len(first) + len(second))) / 100


def _common_subsequence(first: str, second: str) -> int:
    """Length of the longest one, bit by bit (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for i, character in enumerate(first):
        places[character] = places.get(character, 0) | 1 << i
    whole = (1 << len(first)) - 1
    free = whole
    for character in second:
        taken = free & places.get(character, 0)
        free = ((free + taken) | (free - taken)) & whole
    return len(first) - free.bit_count()


def _accuracy(task: Task, item: TaskItem, answer: Read | None) -> Summands:
    return float(answer is not None and answer == task.right(item)), 1.0


def _exact(task: Task, item: TaskItem, answer: Read | None) -> Summands:
    accepted = {folded(text) for text in item.answers}
    said = folded(str(answer or ""))
    if accepted & {"yes", "no"}:
        said = {"はい": "yes", "いいえ": "no"}.get(said, said)
    return float(said in accepted), 1.0


def _char_f1(task: Task, item: TaskItem, answer: Read | None) -> Summands:
    return char_f1(str(answer or ""), item.answers), 1.0


def _word_recall(task: Task, item: TaskItem, answer: Read | None) -> Summands:
    return word_recall(str(answer or ""), item.answers), 1.0


def _similarity(task: Task, item: TaskItem, answer: Read | None) -> Summands:
    return similarity(str(answer or ""), item.answers[0]), 1.0


def _members_f1(task: Task, item: TaskItem, answer: Read | None) -> Summands:
    said = {folded(text) for text in answer} if isinstance(answer, frozenset) else set()
    wanted = {folded(text) for text in item.answers}
    return 2.0 * len(said & wanted), float(len(said) + len(wanted))


def _ign_f1(task: Task, item: TaskItem, answer: Read | None) -> Summands:
    """(right, right and known from training, said, wanted); not a number where training is not there."""
    if not item.kind.startswith("known:"):
        return (np.nan,) * 4
    places = [int(place) for place in item.kind.removeprefix("known:").split(",") if place]
    known = {item.answers[place] for place in places}
    said = answer if isinstance(answer, frozenset) else frozenset()
    right = said & set(item.answers)
    return float(len(right)), float(len(right & known)), float(len(said)), float(len(item.answers))


def _ign_f1_value(sums: np.ndarray) -> np.ndarray:
    right, known, said, wanted = np.moveaxis(sums, -1, 0)
    precision, recall = (right - known) / np.maximum(said - known, 1), right / np.maximum(wanted, 1)
    return 2 * precision * recall / np.where(precision + recall == 0, 1, precision + recall)


def _pair(task: Task, item: TaskItem, answer: Read | None) -> Summands:
    """(1, x, y, x², y², xy); an unreadable number lies as far from the right one as the scale of 0 to 5 lets it."""
    wanted = float(item.answers[0])
    said = float(answer) if isinstance(answer, int | float) else (5.0 if wanted < 2.5 else 0.0)
    return 1.0, said, wanted, said * said, wanted * wanted, said * wanted


def _correlation(sums: np.ndarray) -> np.ndarray:
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = np.clip(n * xx - x * x, 0, None) * np.clip(n * yy - y * y, 0, None)
    defined = spread > 1e-9 * np.maximum(n * xx, 1) * np.maximum(n * yy, 1)  # a constant has no correlation: 0
    return np.where(defined, (n * xy - x * y) / np.sqrt(np.where(defined, spread, 1.0)), 0.0)


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / np.maximum(sums[..., 1], 1e-12)


METRICS: dict[str, Metric] = {
    "accuracy": Metric(_accuracy, _ratio),
    "exact_match": Metric(_exact, _ratio),
    "char_f1": Metric(_char_f1, _ratio),
    "word_recall": Metric(_word_recall, _ratio),
    "similarity": Metric(_similarity, _ratio),
    "f1": Metric(_members_f1, _ratio),
    "ign_f1": Metric(_ign_f1, _ign_f1_value),
    "pearson": Metric(_pair, _correlation),
    "spearman": Metric(_pair, _correlation),
}


def question_rows(name: str, task: Task, items: Sequence[TaskItem], answers: Sequence[Read | None]) -> np.ndarray:
    """What each question adds to the sums ``[n, k]``."""
    rows = np.array([METRICS[name].of(task, item, answer) for item, answer in zip(items, answers, strict=True)])
    if name != "spearman":
        return rows
    x, y = _ranks(rows[:, 1]), _ranks(rows[:, 2])
    return np.stack([rows[:, 0], x, y, x * x, y * y, x * y], 1)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values sharing their mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _played(task: Task, items: Sequence[TaskItem], answer: Read) -> list[Read | None]:
    """One answer to every question; a place beyond an item's choices is no answer."""
    open_ended = not task.choices(items[0])
    return [answer if open_ended or int(answer) < len(task.choices(item)) else None for item in items]  # type: ignore[arg-type]


def _interval(metric: Metric, rows: np.ndarray, groups: Sequence[Hashable], seed: int) -> list[float]:
    order: dict[Hashable, int] = {}
    index = np.array([order.setdefault(group, len(order)) for group in groups])
    sums = np.zeros((len(order), rows.shape[1]))
    np.add.at(sums, index, rows)
    generator, groups_drawn = np.random.default_rng([seed, len(sums)]), len(sums)
    values = []
    for begin in range(0, DRAWS, 100):  # in slices, so that memory stays small for large sets
        counts = generator.multinomial(groups_drawn, np.full(groups_drawn, 1 / groups_drawn), min(100, DRAWS - begin))
        values.append(metric.value(counts @ sums))
    low, high = np.percentile(np.concatenate(values), [2.5, 97.5])
    return [float(low), float(high)]
