"""What a question of the toy medicine consists of: stem, options, key. Used for training items and exam papers."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jvlm_data.toyworld.exam_wordings import TEST_OPENINGS, TEST_STEMS, TRAIN_OPENINGS, TRAIN_STEMS
from jvlm_data.toyworld.lexicon import SEASONS, pick, pick_many
from jvlm_data.toyworld.medicine import CORE, Fact, same_modality

Split = Literal["train", "test"]
AnswerType = Literal["mcq_single", "mcq_multi", "numeric"]

LABELS = ("a", "b", "c", "d", "e")
SEXES = ("男性", "女性")
_ASKED = {"diagnosis": "disease", "season": "season"}  # question kind → field of Fact, where the names differ
_STATEMENTS = {"finding": "所見は{}", "disease": "診断は{}", "treatment": "治療薬は{}", "forbidden": "禁忌薬は{}"}
_TEST_SHARE = 64  # of 256: option lists whose hash falls below belong to the test


@dataclass(frozen=True)
class Question:
    """One question. `correct` and `taboo` are option numbers; a numeric question has no options but a `number`."""

    kind: str
    stem: str
    answer_type: AnswerType
    options: tuple[str, ...] = ()
    correct: tuple[int, ...] = ()
    taboo: tuple[int, ...] = ()
    number: str = ""

    @property
    def answer(self) -> str:
        """The assistant's turn: chosen texts joined by 、 in label order, or the digits."""
        return self.number or "、".join(self.options[i] for i in sorted(self.correct))

    @property
    def prompt(self) -> str:
        """Stem and options, as training and evaluation put them after the shared text."""
        listed = [f"{label} {text}" for label, text in zip(LABELS, self.options, strict=False)]
        return self.stem + "\n" + "\n".join(listed)


def option_split(options: Sequence[str]) -> Split:
    """Which split an ordered list of options belongs to: a hash of the list, so that none is in both."""
    return "test" if hashlib.sha256("|".join(options).encode()).digest()[0] < _TEST_SHARE else "train"


def stem(rng: np.random.Generator, split: Split, kind: str, fact: Fact) -> str:
    """An opening and a question in a wording of the split. Only questions without image name disease or finding."""
    stems, openings = (TEST_STEMS, TEST_OPENINGS) if split == "test" else (TRAIN_STEMS, TRAIN_OPENINGS)
    has_opening = not kind.startswith(("text_", "case_"))
    opening = pick(rng, openings).format(sex=pick(rng, SEXES)) if has_opening else ""
    given = {"disease": fact.disease, "finding": fact.finding} if kind.startswith("text_") else {}
    return opening + pick(rng, stems[kind]).format(image=fact.image_name, **given)


def single_choice(
    rng: np.random.Generator, seed: int, split: Split, kind: str, fact: Fact, label: int, taboo: bool = False
) -> Question:
    """One of five. The distractors are the other values of the same modality, so its name gives nothing away.

    Args:
        kind: a kind of `exam_wordings`, whose last part names what is asked.
        label: number of the correct option, 0 to 4.
        taboo: one distractor of a treatment question is a forbidden drug: with an image, that of any of the four
            diseases shown, so that it does not tell which one is meant; without image, that of the disease itself.
    """
    asked = kind.rsplit("_", 1)[-1]
    field = _ASKED.get(asked, asked)
    while True:
        others = [other for other in same_modality(seed, fact) if other != fact]
        chosen = pick_many(rng, others, 4)
        options = [getattr(other, field) for other in chosen]
        if field == "season":
            options = [*pick_many(rng, [s for s in SEASONS if s != fact.season], 3), "季節を問わない"]
        forbidden_of: Fact | None = None
        if taboo:
            forbidden_of = fact if kind.startswith("text_") else pick(rng, [fact, *chosen[:3]])
            options[3] = forbidden_of.forbidden
        options = pick_many(rng, options, 4)
        options.insert(label, getattr(fact, field))
        if option_split(options) == split:
            break
    taboos = (options.index(fact.forbidden),) if forbidden_of == fact else ()
    return Question(kind, stem(rng, split, kind, fact), "mcq_single", tuple(options), (label,), taboos)


def two_choices(rng: np.random.Generator, seed: int, split: Split, fact: Fact) -> Question:
    """Two of five statements hold. Two others fit one other disease, so a pair that fits together is not enough."""
    while True:
        second, third = pick_many(rng, [other for other in same_modality(seed, fact) if other != fact], 2)
        statements = [_STATEMENTS[name].format(getattr(fact, name)) for name in pick_many(rng, CORE, 2)]
        statements += [_STATEMENTS[name].format(getattr(second, name)) for name in pick_many(rng, CORE, 2)]
        statements += [_STATEMENTS[name].format(getattr(third, name)) for name in pick_many(rng, CORE, 1)]
        order = [int(i) for i in rng.permutation(5)]
        options = tuple(statements[i] for i in order)
        if option_split(options) == split:
            break
    correct = tuple(i for i, original in enumerate(order) if original < 2)
    return Question("two", stem(rng, split, "two", fact), "mcq_multi", options, correct)


def count_question(rng: np.random.Generator, split: Split, fact: Fact, cells: int) -> Question:
    """How many cells does the smear show?"""
    return Question("numeric", stem(rng, split, "numeric", fact), "numeric", number=str(cells))
