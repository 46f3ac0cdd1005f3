"""Questions about a scene, with a natural answer and the canonical one.

The wording of a question tells nothing of its answer, so that a model without the image stays at the best constant
answer of the kind: objects are asked for by position, never by a shape that would narrow the colours; yes and no are
asked of equally distributed pairs; a relation's question does not give its axis away.

An answer says again what it is about before what it says of it: looking up then starts from the word just said, which
a small language model learns in fewer steps (docs/log.md). That something is not there cannot be looked up: what is
there is told first, and then what was asked about.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jvlm_data.toyworld.captions import colour_form, describe, named, pick
from jvlm_data.toyworld.scene import Pair, Scene, Thing, canonical
from jvlm_data.toyworld.world import (
    COLOURS,
    COUNTERS,
    HELD_OUT_PAIRS,
    POSITIONS,
    QUESTION_KINDS,
    SHAPES,
    TRAIN_PAIRS,
)

YES, NO = "はい", "いいえ"
GOLDS: dict[str, tuple[str, ...]] = {  # the closed answer sets; readings and descriptions are open
    "colour": COLOURS,
    "shape": SHAPES,
    "count": ("1", "2", "3"),
    "position": POSITIONS,
    "existence": (YES, NO),
    "comparison": (YES, NO),
    "relation": ("左", "右", "上", "下"),
}


@dataclass(frozen=True)
class Question:
    """`answer` is a short polite sentence, `gold` the canonical value that the judge compares with."""

    kind: str
    text: str
    answer: str
    gold: str


def ask(kind: str, scene: Scene, rng: np.random.Generator, gold: str | None = None) -> Question | None:
    """One question of `kind`, with that canonical answer when `gold` is given; None when the scene allows none."""
    return _ASKERS[kind](scene, rng, gold)


def questions(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """One question of every kind that the scene allows, in the order of QUESTION_KINDS."""
    asked = (ask(kind, scene, rng) for kind in QUESTION_KINDS)
    return [question for question in asked if question is not None]


def colour_answer(colour: str, rng: np.random.Generator) -> str:
    word = {"黄": "黄色", "橙": pick(rng, ("オレンジ色", "橙色"))}.get(colour) or pick(rng, (colour, colour + "色"))
    return word + "です。"


def _thing(scene: Scene, rng: np.random.Generator, attribute: str, gold: str | None) -> Thing | None:
    things = [thing for thing in scene.things if gold is None or getattr(thing, attribute) == gold]
    return things[int(rng.integers(len(things)))] if things else None


def _colour(scene: Scene, rng: np.random.Generator, gold: str | None) -> Question | None:
    thing = _thing(scene, rng, "colour", gold)
    if thing is None:
        return None
    text = pick(rng, ("{}の図形は何色ですか。", "{}にある図形の色を教えてください。", "{}にあるものは何色ですか。"))
    answer = f"{thing.position}の図形は{colour_answer(thing.colour, rng)}"
    return Question("colour", text.format(thing.position), answer, thing.colour)


def _shape(scene: Scene, rng: np.random.Generator, gold: str | None) -> Question | None:
    thing = _thing(scene, rng, "shape", gold)
    if thing is None:
        return None
    text = pick(rng, ("{}の図形は何ですか。", "{}にある図形の形を教えてください。", "{}にあるのはどんな形ですか。"))
    answer = f"{thing.position}の図形は{thing.shape}です。"
    return Question("shape", text.format(thing.position), answer, thing.shape)


def attribute(scene: Scene, rng: np.random.Generator) -> Question | None:
    """The colour of the one thing of its shape, or the shape of the one of its colour; None where that is no question.

    For training only: a shape goes with the colours of the training pairs, so the wording narrows the answer.
    """
    colours, shapes = [thing.colour for thing in scene.things], [thing.shape for thing in scene.things]
    couples = [(kind, thing) for thing in scene.things for kind, given, asked in (
        ("colour", shapes.count(thing.shape), colours), ("shape", colours.count(thing.colour), shapes)
    ) if given == 1 and len(set(asked)) > 1]  # fmt: skip
    if not couples:
        return None
    kind, thing = couples[int(rng.integers(len(couples)))]
    if kind == "colour":
        text = pick(rng, ("{}は何色ですか。", "{}の色を教えてください。", "{}はどんな色ですか。")).format(thing.shape)
        return Question(kind, text, f"{thing.shape}は{colour_answer(thing.colour, rng)}", thing.colour)
    text = pick(rng, ("{}図形は何ですか。", "{}図形の形を教えてください。", "{}ものはどんな形ですか。"))
    name = colour_form(thing.colour, rng)
    return Question(kind, text.format(name), f"{name}図形は{thing.shape}です。", thing.shape)


def _count(scene: Scene, rng: np.random.Generator, gold: str | None) -> Question | None:
    number = len(scene.things)
    if gold not in (None, str(number)):
        return None
    text = pick(rng, ("図形は全部でいくつありますか。", "図形はいくつありますか。", "図形の数を答えてください。"))
    answer = pick(rng, COUNTERS[number]) + pick(rng, ("です。", "あります。"))
    return Question("count", text, answer, str(number))


def _position(scene: Scene, rng: np.random.Generator, gold: str | None) -> Question | None:
    thing = _thing(scene, rng, "position", gold)
    if thing is None:
        return None
    text = pick(rng, ("{}はどこにありますか。", "{}の位置を教えてください。", "{}は画像のどこですか。"))
    name = named(*thing.pair, rng)
    answer = f"{name}は{thing.position}" + pick(rng, ("です。", "にあります。"))
    return Question("position", text.format(name), answer, thing.position)


def _existence(scene: Scene, rng: np.random.Generator, gold: str | None) -> Question | None:
    gold = gold or pick(rng, (YES, NO))
    pair = scene.things[int(rng.integers(len(scene.things)))].pair
    if gold == NO:
        near = near_misses(pair, scene)
        pair = near[int(rng.integers(len(near)))]
    text = pick(rng, ("{}はありますか。", "{}は写っていますか。", "画像の中に{}はありますか。"))
    name = named(*pair, rng)
    shown = "、".join(f"{thing.position}に{named(*thing.pair, rng)}" for thing in scene.things)
    answer = f"{shown}があり、{name}は{'あります' if gold == YES else 'ありません'}。"
    return Question("existence", text.format(name), answer, gold)


def near_misses(pair: Pair, scene: Scene) -> list[Pair]:
    """Pairs that are not in the scene and share the colour or the shape of `pair`.

    A held-out pair gets held-out ones (whatever they share, should none share anything) and a training pair training
    ones: being held out must not tell what is there.
    """
    pool = HELD_OUT_PAIRS if pair in HELD_OUT_PAIRS else TRAIN_PAIRS
    absent = [other for other in pool if other not in scene.pairs]
    return [other for other in absent if (other[0] == pair[0]) != (other[1] == pair[1])] or absent


def _comparison(scene: Scene, rng: np.random.Generator, gold: str | None) -> Question | None:
    larger = pick(rng, (YES, NO)) == YES  # the word asked for
    gold = gold or pick(rng, (YES, NO))
    first_size = "大" if larger == (gold == YES) else "小"
    couples = [(a, b) for a, b in permutations(scene.things, 2) if a.size == first_size and b.size != first_size]
    if not couples:
        return None
    first, second = couples[int(rng.integers(len(couples)))]
    word, other = ("大きい", "小さい") if larger else ("小さい", "大きい")
    text = pick(rng, ("{}は{}より{}ですか。", "{}のほうが{}より{}ですか。"))
    name = named(*first.pair, rng)
    text = text.format(name, named(*second.pair, rng), word)
    reason = f"{name}は{word if gold == YES else other}ほうなので、"
    answer = reason + pick(
        rng, (f"はい、{word}です。", "はい。") if gold == YES else (f"いいえ、{other}です。", "いいえ。")
    )
    return Question("comparison", text, answer, gold)


def _relation(scene: Scene, rng: np.random.Generator, gold: str | None) -> Question | None:
    sides = (gold,) if gold is not None else GOLDS["relation"]
    # A sign leaves two rows, so twice as many couples share a row as share a column: half of those are not asked.
    if gold is None and scene.sign is not None and rng.integers(2):
        sides = ("上", "下")
    couples = [(a, b) for a, b in permutations(scene.things, 2) if side_of(a, b) in sides]
    if not couples:
        return None
    first, second = couples[int(rng.integers(len(couples)))]
    side = str(side_of(first, second))
    text = pick(rng, ("{}は{}のどちら側にありますか。", "{}は{}から見てどちらにありますか。"))
    names = named(*first.pair, rng), named(*second.pair, rng)
    text = text.format(*names)
    reason = f"{names[0]}は{first.position}、{names[1]}は{second.position}なので、"
    answer = reason + side + pick(rng, ("です。", "側です。", "にあります。"))
    return Question("relation", text, answer, side)


def side_of(first: Thing, second: Thing) -> str | None:
    """Where `first` lies seen from `second`: 左, 右, 上 or 下 when they share a row or a column, else None."""
    if first.row == second.row and first.column != second.column:
        return "左" if first.column < second.column else "右"
    if first.column == second.column and first.row != second.row:
        return "上" if first.row < second.row else "下"
    return None


def _reading(scene: Scene, rng: np.random.Generator, gold: str | None) -> Question | None:
    if scene.sign is None or gold not in (None, scene.sign):
        return None
    text = pick(rng, ("看板には何と書いてありますか。", "看板の文字を読んでください。", "看板の文字は何ですか。"))
    answer = pick(rng, ("「{}」です。", "「{}」と書いてあります。")).format(scene.sign)
    return Question("reading", text, answer, scene.sign)


def _description(scene: Scene, rng: np.random.Generator, gold: str | None) -> Question | None:
    truth = canonical(scene.truth)
    if gold not in (None, truth):
        return None
    text = pick(rng, ("この画像を詳しく説明してください。", "画像の様子をくわしく述べてください。"))
    return Question("description", text, describe(scene, rng), truth)


Asker = Callable[[Scene, np.random.Generator, str | None], Question | None]
_ASKERS: dict[str, Asker] = {
    "colour": _colour,
    "shape": _shape,
    "count": _count,
    "position": _position,
    "existence": _existence,
    "comparison": _comparison,
    "relation": _relation,
    "reading": _reading,
    "description": _description,
}
