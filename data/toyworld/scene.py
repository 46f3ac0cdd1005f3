"""What an image shows: one to three things on the 3 × 3 grid, a background, perhaps a sign.

Which split a scene belongs to is a hash of its truth, so no truth of one split can turn up in another, whatever
the seed and however many are drawn.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from jvlm_data.toyworld.world import (
    BACKGROUNDS,
    HELD_OUT_PAIRS,
    MAX_OBJECTS,
    POSITIONS,
    SIGN_CHARACTERS,
    SIGN_LENGTHS,
    SIZES,
    TEXTURES,
    TRAIN_PAIRS,
)

from jvlm.errors import UsageError

Split = Literal["train", "val", "test", "compositional"]
SPLITS: tuple[Split, ...] = ("train", "val", "test", "compositional")
T = TypeVar("T")
Pair = tuple[str, str]  # (colour, shape)
Triple = tuple[str, str, str]  # (position, colour, shape)

_HELD_OUT = frozenset(HELD_OUT_PAIRS)
TEST_PERCENT, VAL_PERCENT = 15, 10
TEXTURE_SHARES = (0.6, 0.2, 0.2)  # in the order of TEXTURES
SIGN_LENGTH_SHARES = (0.35, 0.3, 0.2, 0.15)  # in the order of SIGN_LENGTHS


@dataclass(frozen=True)
class Thing:
    """One figure; every field is a word of world.py."""

    position: str
    colour: str
    shape: str
    size: str
    texture: str

    @property
    def pair(self) -> Pair:
        return (self.colour, self.shape)

    @property
    def row(self) -> int:
        return POSITIONS.index(self.position) // 3

    @property
    def column(self) -> int:
        return POSITIONS.index(self.position) % 3


@dataclass(frozen=True)
class Scene:
    """Things in reading order of their positions; `background` in [0, BACKGROUNDS).

    A sign fills `sign_row` (0 to 2), where no thing stands.
    """

    things: tuple[Thing, ...]
    background: int
    sign: str | None = None
    sign_row: int | None = None

    @property
    def truth(self) -> tuple[Triple, ...]:
        """(position, colour, shape) of every thing, in reading order."""
        return tuple((t.position, t.colour, t.shape) for t in self.things)

    @property
    def pairs(self) -> frozenset[Pair]:
        return frozenset(t.pair for t in self.things)


def canonical(truth: Sequence[Sequence[str]]) -> str:
    """One string per set of (position, colour, shape), whatever the order: `左上/赤/丸|右/青/星`."""
    return "|".join("/".join(triple) for triple in sorted(truth, key=lambda t: (POSITIONS.index(t[0]), t[1], t[2])))


def split_of(truth: Sequence[Sequence[str]]) -> Split:
    """The split a truth belongs to: compositional when it holds a held-out pair, else by hash (75 : 10 : 15)."""
    if any((colour, shape) in _HELD_OUT for _, colour, shape in truth):
        return "compositional"
    bucket = int.from_bytes(hashlib.sha256(canonical(truth).encode()).digest()[:8]) % 100
    if bucket < TEST_PERCENT:
        return "test"
    return "val" if bucket < TEST_PERCENT + VAL_PERCENT else "train"


def sample_scene(
    rng: np.random.Generator,
    *,
    pairs: Sequence[Pair] = TRAIN_PAIRS,
    must: Sequence[Pair] = (),
    count: int | None = None,
    sign: bool = False,
) -> Scene:
    """One scene with things drawn from `pairs`.

    Args:
        must: when given, one of the things is drawn from here (at a position like any other's).
        count: number of things; 1, 2 or 3 with equal chance when None.
        sign: whether a sign stands in one of the rows.
    """
    sign_row = int(rng.integers(3)) if sign else None
    return _finished(rng, _sample_truth(rng, pairs, must, _number(rng, count), sign_row), sign_row)


def sample_split_scene(
    rng: np.random.Generator,
    split: str,
    *,
    pairs: Sequence[Pair] = TRAIN_PAIRS,
    count: int | None = None,
    sign: bool = False,
) -> Scene:
    """A scene of `split`. A compositional one holds one held-out pair, its other things have pairs from `pairs`.

    Raises UsageError for an unknown split.
    """
    if split not in SPLITS:
        raise UsageError(f"unknown split {split!r}", fix=f"one of {', '.join(SPLITS)}")
    must = HELD_OUT_PAIRS if split == "compositional" else ()
    number = _number(rng, count)  # before the rejection, so that it stays uniform
    sign_row = int(rng.integers(3)) if sign else None
    while split_of(truth := _sample_truth(rng, pairs, must, number, sign_row)) != split:
        pass
    return _finished(rng, truth, sign_row)


def _number(rng: np.random.Generator, count: int | None) -> int:
    return count if count is not None else int(rng.integers(1, MAX_OBJECTS + 1))


def _sample_truth(
    rng: np.random.Generator, pairs: Sequence[Pair], must: Sequence[Pair], number: int, sign_row: int | None
) -> list[Triple]:
    cells = [cell for cell in range(9) if cell // 3 != sign_row]
    chosen = sorted(_distinct(rng, cells, number, []))
    drawn = _distinct(rng, pairs, number, [must[int(rng.integers(len(must)))]] if must else [])
    if must:
        place = int(rng.integers(number))
        drawn[0], drawn[place] = drawn[place], drawn[0]
    return [(POSITIONS[cell], *pair) for cell, pair in zip(chosen, drawn, strict=True)]


def _distinct(rng: np.random.Generator, options: Sequence[T], number: int, chosen: list[T]) -> list[T]:
    """`chosen` and more, up to `number` distinct options; for so few, faster than `rng.choice` without replacement."""
    while len(chosen) < number:
        option = options[int(rng.integers(len(options)))]
        if option not in chosen:
            chosen.append(option)
    return chosen


def _finished(rng: np.random.Generator, truth: list[Triple], sign_row: int | None) -> Scene:
    """The scene of a truth, with drawn sizes, textures, background and sign."""
    things = tuple(
        Thing(*triple, SIZES[int(rng.integers(len(SIZES)))], _drawn(rng, TEXTURES, TEXTURE_SHARES)) for triple in truth
    )
    text = None
    if sign_row is not None:
        length = _drawn(rng, SIGN_LENGTHS, SIGN_LENGTH_SHARES)
        text = "".join(SIGN_CHARACTERS[i] for i in rng.integers(len(SIGN_CHARACTERS), size=length))
    return Scene(things, int(rng.integers(BACKGROUNDS)), text, sign_row)


def _drawn(rng: np.random.Generator, options: Sequence[T], shares: Sequence[float]) -> T:
    """One option by its share; many times faster than `rng.choice` with probabilities."""
    chance = rng.random()
    for option, share in zip(options, shares, strict=True):
        chance -= share
        if chance < 0:
            return option
    return options[-1]
