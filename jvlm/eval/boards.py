"""What stands at the head of a run's report: its figures, where they are found, and what they should reach."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jvlm.eval.markup import at

Headline = dict[str, float | None]
Figure = Callable[[dict[str, Any]], float | None]
"""From the records of a run's stages to a figure, None where its stage did not run."""
_CLOSE = 1e-9  # 0.9 - 0.87 must count as 0.03


@dataclass(frozen=True)
class Target:
    """What a headline figure should reach; `bound` gives the limit, None when what it depends on is missing."""

    text: str
    sign: str
    bound: Callable[[Headline], float | None]

    def met(self, value: float | None, headline: Headline) -> bool | None:
        bound = self.bound(headline)
        if value is None or bound is None:
            return None
        if self.sign == "<":
            return value < bound
        return value >= bound - _CLOSE if self.sign == "≥" else value <= bound + _CLOSE


@dataclass(frozen=True)
class Board:
    """The headline of one kind of data, figures in order, and the targets of some of them."""

    figures: Mapping[str, Figure]
    targets: Mapping[str, Target]
    examples: str
    """Task of the records that are shown with their pictures."""

    def headline(self, stages: dict[str, Any]) -> Headline:
        """Every figure of the board, then the run's seconds and peak memory."""
        seconds = [s for stage in stages.values() if (s := as_number(at(stage, "seconds"))) is not None]
        peaks = [p for stage in stages.values() if (p := as_number(at(stage, "peak_gib"))) is not None]
        values = {name: figure(stages) for name, figure in self.figures.items()}
        return values | {"seconds": sum(seconds) if seconds else None, "peak_gib": max(peaks, default=None)}


def as_number(value: Any) -> float | None:
    """A number as a float; anything else, truth values included, is None."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _metric(stage: str, *keys: str) -> Figure:
    return lambda stages: as_number(at(stages, stage, "metrics", *keys))


def _lost(before: Figure, after: Figure) -> Figure:
    def difference(stages: dict[str, Any]) -> float | None:
        first, second = before(stages), after(stages)
        return None if first is None or second is None else first - second

    return difference


def _fixed(sign: str, bound: float) -> Target:
    return Target(f"{sign} {bound:g}", sign, lambda _: bound)


def _times(sign: str, factor: float, of: str, text: str) -> Target:
    def bound(headline: Headline) -> float | None:
        other = headline[of]
        return None if other is None else other * factor

    return Target(f"{sign} {text}", sign, bound)


def _model(name: str, *keys: str) -> Figure:
    return _metric("eval", "models", name, *keys)


TOYWORLD = Board(
    figures={
        "caption_exact_test": _model("medical", "captions_test", "exact", "value"),
        "caption_exact_compositional": _model("medical", "captions_compositional", "exact", "value"),
        "caption_exact_drop_prefer": _lost(
            _model("instruct", "captions_test", "exact", "value"), _model("prefer", "captions_test", "exact", "value")
        ),
        "vqa_test": _model("medical", "vqa_test", "value"),
        "vqa_removed_over_constant": _model("medical", "vqa_test", "removed", "over_constant"),
        "vqa_forgetting": _lost(_model("prefer", "vqa_test", "value"), _model("medical", "vqa_test", "value")),
        "retrieval_r1_of_100": _metric("clip", "retrieval", "r1"),
        "bpc_model": _metric("pretrain", "bpc_model"),
        "bpc_ngram": _metric("pretrain", "bpc_ngram"),
        "exam_image_before": _metric("eval", "exam", "before", "exam_image", "image", "value"),
        "exam_image_after": _metric("eval", "exam", "after", "exam_image", "image", "value"),
        "exam_image_removed": _metric("eval", "exam", "after", "exam_image", "removed", "value"),
        "exam_twohop_unseen": _metric("eval", "exam", "after", "exam_twohop", "image", "value"),
        "hallucination_before": _model("instruct", "captions_test", "hallucination", "value"),
        "hallucination_after": _model("prefer", "captions_test", "hallucination", "value"),
        "dirt_recall": _metric("corpus", "dirt_recall"),
        "clean_loss": _metric("corpus", "clean_loss"),
    },
    targets={
        "caption_exact_test": _fixed("≥", 0.70),
        "caption_exact_compositional": _fixed("≥", 0.25),
        "caption_exact_drop_prefer": _fixed("≤", 0.02),
        "vqa_test": _fixed("≥", 0.85),
        "vqa_removed_over_constant": _fixed("≤", 0.08),
        "vqa_forgetting": _fixed("≤", 0.03),
        "retrieval_r1_of_100": _fixed("≥", 0.50),
        "bpc_model": _times("<", 1, "bpc_ngram", "bpc_ngram"),
        "exam_image_before": _fixed("≤", 0.35),
        "exam_image_after": _fixed("≥", 0.70),
        "exam_image_removed": _fixed("≤", 0.45),
        "hallucination_after": _times("≤", 2 / 3, "hallucination_before", "2/3 hallucination_before"),
        "dirt_recall": _fixed("≥", 0.95),
        "clean_loss": _fixed("≤", 0.01),
    },
    examples="vqa_test",
)

_NAMING = ("pictures", "naming_test", "naming")
_RETRIEVAL = ("clip", "retrieval_within_source")

REAL = Board(
    figures={
        "bpc_model": _metric("pretrain", "bpc_model"),
        "bpc_ngram": _metric("pretrain", "bpc_ngram"),
        "general_bpc_before": _model("instruct", "bpc", "general"),
        "general_bpc_after": _model("medical", "bpc", "general"),
        "exam_bpc_before": _model("instruct", "bpc", "exam"),
        "exam_bpc_after": _model("medical", "bpc", "exam"),
        "retrieval_within_source_over_chance": _metric(*_RETRIEVAL, "over_chance"),
        "grocery_accuracy": _model("medical", *_NAMING, "image", "value"),
        "grocery_accuracy_other_image": _model("medical", *_NAMING, "other_image", "value"),
        "grocery_accuracy_removed": _model("medical", *_NAMING, "removed", "value"),
        "grocery_best_constant": _model("medical", *_NAMING, "image", "best_constant"),
    },
    targets={
        "bpc_model": _times("≤", 1.10, "bpc_ngram", "1.10 bpc_ngram"),
        "exam_bpc_after": _times("<", 1, "exam_bpc_before", "exam_bpc_before"),
        "retrieval_within_source_over_chance": _fixed("≥", 1.5),
        "grocery_accuracy": _times("≥", 5, "grocery_best_constant", "5 grocery_best_constant"),
        "grocery_accuracy_other_image": _times("≤", 1.5, "grocery_best_constant", "1.5 grocery_best_constant"),
    },
    examples="shown",
)
BOARDS = {"toyworld": TOYWORLD, "real": REAL}


def board_of(stages: dict[str, Any]) -> Board:
    """The board of the data a run was made with; the toy world's where its data stage does not say."""
    return BOARDS.get(str(at(stages, "data", "metrics", "set")), TOYWORLD)
