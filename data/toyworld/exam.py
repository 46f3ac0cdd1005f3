"""Exam papers of the toy medicine, in the form of the Japanese national exam for physicians.

Six blocks A to F in the proportions of the real paper; B and E are 必修: their first half counts 1 point a
question, their second half 3; all others count 1. Options are a to e; some questions ask for two, some for a
number, some share one case; taboo options (禁忌肢) are marked.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jvlm_data.toyworld.exam_questions import LABELS, SEXES, Question, count_question, single_choice, two_choices
from jvlm_data.toyworld.exam_wordings import IMAGE_KINDS, TEST_CASES, TEXT_KINDS
from jvlm_data.toyworld.film import CELL_COUNTS
from jvlm_data.toyworld.lexicon import pick
from jvlm_data.toyworld.medicine import TEXTBOOK_ONLY, Fact, draw_cells, facts, medical_image

BLOCKS = {"A": 75, "B": 50, "C": 75, "D": 75, "E": 50, "F": 75}  # questions of the real paper
REQUIRED = ("B", "E")
IMAGE_SHARE, NUMERIC_SHARE, TWO_SHARE = 0.75, 0.05, 0.05  # of a paper; the rest is text only
TABOO_SHARE = 0.4  # of treatment questions

Entry = tuple[dict[str, Any], dict[str, bytes]]  # item, {relative image name: PNG bytes}
Planned = tuple[Fact, str, int]  # what is shown, the kind of question, number of the correct option
_TEST_STREAM, _TWOHOP_STREAM = 401, 402


@dataclass(frozen=True)
class _Unit:
    """What stays together on the paper: one question, or the questions of one case with their shared text."""

    fact: Fact
    questions: tuple[Question, ...]
    picture: bytes | None
    shared_text: str = ""


def exam_test(seed: int, count: int, size: int = 64) -> list[Entry]:
    """A paper of `count` questions with held-out images, wordings and option lists.

    Three quarters are single-choice image questions, in equal parts for finding, diagnosis, treatment and
    forbidden drug; findings and labels of the correct option are as even as `count` allows (exactly even for
    multiples of 480).
    """
    rng, image_rng = _generators(seed, _TEST_STREAM)
    num_image, num_numeric, num_two = round(count * IMAGE_SHARE), int(count * NUMERIC_SHARE), int(count * TWO_SHARE)
    table = facts(seed)
    cases, plan = _link(_plan(seed, num_image))
    units = [_case(rng, image_rng, seed, size, case) for case in cases]
    units += [_image_unit(rng, image_rng, seed, size, kind, fact, label) for fact, kind, label in plan]
    smears = [fact for fact in table if fact.modality == "smear"]
    first, last = CELL_COUNTS
    for i in range(num_numeric):
        cells = first + (i + i // len(smears)) % (last - first + 1)
        fact = smears[i % len(smears)]
        question = count_question(rng, "test", fact, cells)
        units.append(_Unit(fact, (question,), draw_cells(image_rng, fact, size, cells)))
    for i in range(num_two):
        fact = table[i % len(table)]
        question = two_choices(rng, seed, "test", fact)
        units.append(_Unit(fact, (question,), medical_image(image_rng, fact, size)[0]))
    for i in range(count - num_image - num_numeric - num_two):
        fact, kind = table[i % len(table)], TEXT_KINDS[i % len(TEXT_KINDS)]
        question = single_choice(rng, seed, "test", kind, fact, i % 5, taboo=kind == "text_treatment")
        units.append(_Unit(fact, (question,), None))
    return list(_paper("toyworld-test", "test", seed, rng, units))


def exam_twohop_unseen(seed: int, count: int, size: int = 64) -> list[Entry]:
    """`count` image questions about facts that stand in the textbook alone: image → disease → cause or organ."""
    rng, image_rng = _generators(seed, _TWOHOP_STREAM)
    table, units = facts(seed), []
    for i in range(count):
        fact, kind = table[(i // 2) % len(table)], TEXTBOOK_ONLY[i % 2]
        units.append(_image_unit(rng, image_rng, seed, size, kind, fact, i % 5))
    return list(_paper("toyworld-twohop", "twohop", seed, rng, units))


def _generators(seed: int, stream: int) -> tuple[np.random.Generator, np.random.Generator]:
    """One for the text and one for the pixels, so that the text does not depend on the image's size."""
    return np.random.default_rng([seed, stream, 0]), np.random.default_rng([seed, stream, 1])


def _plan(seed: int, count: int) -> list[Planned]:
    """(fact, kind, label of the answer) for `count` questions; each prefix is nearly even, five rounds exactly."""
    table = facts(seed)
    plan = []
    for i in range(count):
        j = i % (len(table) * len(IMAGE_KINDS))
        plan.append((table[(j + j // 36) % len(table)], IMAGE_KINDS[j % len(IMAGE_KINDS)], i % 5))
    return plan


def _link(plan: list[Planned]) -> tuple[list[list[Planned]], list[Planned]]:
    """Takes some planned questions on the same finding together as cases of two or three; the rest stay single."""
    cases: list[list[Planned]] = []
    rest = list(plan)
    for number in range(len(plan) // 30):
        kinds = IMAGE_KINDS[:2] if number % 2 else IMAGE_KINDS[1:]
        fact = plan[7 * number][0]
        found = [next((e for e in rest if e[0] == fact and e[1] == kind), None) for kind in kinds]
        case = [entry for entry in found if entry is not None]
        if len(case) == len(kinds):
            cases.append(case)
            for entry in case:
                rest.remove(entry)
    return cases, rest


def _image_unit(
    rng: np.random.Generator, image_rng: np.random.Generator, seed: int, size: int, kind: str, fact: Fact, label: int
) -> _Unit:
    taboo = kind == "treatment" and bool(rng.random() < TABOO_SHARE)
    question = single_choice(rng, seed, "test", kind, fact, label, taboo)
    return _Unit(fact, (question,), medical_image(image_rng, fact, size)[0])


def _case(
    rng: np.random.Generator, image_rng: np.random.Generator, seed: int, size: int, entries: list[Planned]
) -> _Unit:
    fact = entries[0][0]
    questions = [single_choice(rng, seed, "test", f"case_{kind}", fact, label) for _, kind, label in entries]
    shared = pick(rng, TEST_CASES).format(sex=pick(rng, SEXES), image=fact.image_name)
    return _Unit(fact, tuple(questions), medical_image(image_rng, fact, size)[0], shared)


def _paper(exam: str, split: str, seed: int, rng: np.random.Generator, units: list[_Unit]) -> Iterator[Entry]:
    """Lays the units out in blocks and numbers them; in 必修 blocks text-only questions come first."""
    total = sum(len(unit.questions) for unit in units)
    room = _block_sizes(total)
    blocks: dict[str, list[_Unit]] = {name: [] for name in BLOCKS}
    singles = [unit for unit in units if len(unit.questions) == 1]
    singles = [singles[int(i)] for i in rng.permutation(len(singles))]
    clinical = [name for name in BLOCKS if name not in REQUIRED]
    for number, case in enumerate(unit for unit in units if len(unit.questions) > 1):
        name = clinical[number % len(clinical)]
        blocks[name].append(case)
        room[name] -= len(case.questions)
    for name in BLOCKS:
        mine, singles = singles[: room[name]], singles[room[name] :]
        if name in REQUIRED:
            mine.sort(key=lambda unit: unit.picture is not None)
        blocks[name] = mine + blocks[name]
    pictures = 0
    for name, members in blocks.items():
        number, size = 0, sum(len(unit.questions) for unit in members)
        for unit in members:
            images: dict[str, bytes] = {}
            if unit.picture is not None:
                images = {f"images/{split}-{pictures:04d}.png": unit.picture}
                pictures += 1
            group = f"{exam}-{name}{number + 1:03d}"
            for question in unit.questions:
                number += 1
                points = 3 if name in REQUIRED and number > size // 2 else 1
                item = _item(exam, split, seed, name, number, group, unit, question, points, images)
                yield item, images


def _block_sizes(total: int) -> dict[str, int]:
    """`total` questions shared among the blocks in the real proportions, by largest remainder."""
    whole = sum(BLOCKS.values())
    sizes = {name: total * part // whole for name, part in BLOCKS.items()}
    by_remainder = sorted(BLOCKS, key=lambda name: -(total * BLOCKS[name] % whole))
    for name in by_remainder[: total - sum(sizes.values())]:
        sizes[name] += 1
    return sizes


def _item(
    exam: str,
    split: str,
    seed: int,
    section: str,
    number: int,
    group: str,
    unit: _Unit,
    question: Question,
    points: int,
    images: dict[str, bytes],
) -> dict[str, Any]:
    accept = [question.number] if question.number else [LABELS[i] for i in sorted(question.correct)]
    fact = unit.fact
    tags = {"kind": question.kind, "modality": fact.modality, "finding": fact.finding, "split": split}
    item: dict[str, Any] = {
        "id": f"{exam}-{section}{number:03d}",
        "exam": exam,
        "section": section,
        "number": number,
        "group_id": group,
        "stem": question.stem,
        "shared_text": unit.shared_text,
        "options": [{"label": LABELS[i], "text": text, "image": None} for i, text in enumerate(question.options)],
        "images": list(images),
        "answer_type": question.answer_type,
        "n_select": 2 if question.answer_type == "mcq_multi" else 1,
        "accept": [accept],
        "excluded": "none",
        "points": points,
        "required": section in REQUIRED,
        "kinki": [LABELS[i] for i in question.taboo],
        "tags": [f"{name}={value}" for name, value in tags.items()],
        "source": f"jvlm toyworld, seed {seed}",
    }
    digest = hashlib.sha256(json.dumps(item, ensure_ascii=False, sort_keys=True).encode())
    for data in images.values():
        digest.update(data)
    return item | {"sha256": digest.hexdigest()}
