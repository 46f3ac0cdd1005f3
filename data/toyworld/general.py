"""Sample sets of the general world: captions, conversations, question sets and a pool for preference pairs.

`make(set_name, seed, index, size)` is a pure function, so a set can be built by any number of processes in any order.
The text does not depend on the image's size.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from jvlm_data.toyworld.captions import CAPTION_PROMPTS, caption, named, pick
from jvlm_data.toyworld.draw import draw, encode
from jvlm_data.toyworld.questions import GOLDS, Question, ask, attribute, colour_answer, questions
from jvlm_data.toyworld.scene import SPLITS, Pair, Scene, sample_split_scene
from jvlm_data.toyworld.world import MAX_OBJECTS, QUESTION_KINDS, TRAIN_PAIRS

from jvlm.errors import UsageError
from jvlm.sample import ImageRef, Message, Sample

VQA_KINDS = tuple(kind for kind in QUESTION_KINDS if kind != "description")
SET_NAMES = (
    *(f"captions_{split}" for split in SPLITS),
    "singles_train",
    "attributes_train",
    "look_ups_train",
    "instruct_train",
    *(f"vqa_{split}" for split in SPLITS),
    "preference_pool",
)

CAPTION_SIGN_SHARE, INSTRUCT_SIGN_SHARE = 0.15, 0.4
TWO_IMAGE_SHARE, PAGE_SHARE, CAPTION_TURN_SHARE = 0.05, 0.03, 0.15
LOOK_UPS = 4  # questions about one image, the sign's apart
LOOK_UP_SHARES = {"attribute": 0.4, "comparison": 0.3, "position": 0.3}  # where a scene allows all three
SAME_COLOUR_SHARE, SAME_SHAPE_SHARE = 0.2, 0.15  # scenes whose objects are told apart by the rest alone
TURNS = (6, 9)  # questions in a conversation
THING_SHARES = (0.2, 0.4, 0.4)  # conversations about one, two and three objects
# Kinds that few scenes allow, and those that take two looks, are asked more often where they can be.
KIND_WEIGHTS = {
    "count": 0.3, "colour": 0.6, "shape": 0.8, "position": 1.0, "existence": 1.5, "reading": 2.0, "comparison": 4.0,
    "relation": 4.0, "description": 0.1,
}  # fmt: skip


def make(set_name: str, seed: int, index: int, size: int = 64) -> Sample:
    """Sample number `index` of a set, with JPEG bytes in its images; a pure function of its arguments.

    Args:
        set_name: one of SET_NAMES; anything else is a UsageError.
        size: side of the square images in pixels.
    """
    if set_name not in SET_NAMES:
        raise UsageError(f"unknown set {set_name!r}", fix=f"one of {', '.join(SET_NAMES)}")
    key = int.from_bytes(hashlib.sha256(set_name.encode()).digest()[:8])
    rng = np.random.default_rng([seed, key, index])
    family, _, split = set_name.partition("_")
    if set_name == "preference_pool":
        messages, scenes, meta = _preference(rng, index)
    elif family == "captions":
        messages, scenes, meta = _caption(rng, split, index)
    elif family == "vqa":
        messages, scenes, meta = _vqa(rng, split, index)
    elif set_name == "singles_train":
        messages, scenes, meta = _captioned(sample_split_scene(rng, "train", count=1), rng)
    elif set_name == "attributes_train":
        messages, scenes, meta = _attributes(rng, index)
    elif set_name == "look_ups_train":
        messages, scenes, meta = _look_up(rng, index)
    else:
        messages, scenes, meta = _instruct(rng)
    images = [
        ImageRef(data=encode(draw(scene, size, np.random.default_rng([seed, key, index, number]))))
        for number, scene in enumerate(scenes, 1)
    ]
    return Sample(f"{set_name}-{index:06d}", messages, images, meta={"set": set_name, **meta})


def captions(seed: int, split: str, count: int, size: int = 64) -> Iterator[Sample]:
    """One image, a prompt and its caption. meta: set, kind "caption", truth [[position, colour, shape], …], caption."""
    return (make(f"captions_{split}", seed, index, size) for index in range(count))


def vqa(seed: int, split: str, per_kind: int, size: int = 64) -> Iterator[Sample]:
    """One question per sample, kinds in turn, canonical answers in turn. meta: set, kind, gold, truth."""
    return (make(f"vqa_{split}", seed, index, size) for index in range(per_kind * len(VQA_KINDS)))


def preference_pool(seed: int, count: int, size: int = 64) -> Iterator[Sample]:
    """Training images with a caption prompt and no answer. meta: set, kind "caption", truth."""
    return (make("preference_pool", seed, index, size) for index in range(count))


Parts = tuple[list[Message], list[Scene], dict[str, object]]


def _truth(scene: Scene) -> list[list[str]]:
    return [list(triple) for triple in scene.truth]


def _user(*content: str | int) -> Message:
    return Message("user", list(content))


def _assistant(text: str) -> Message:
    return Message("assistant", [text])


def _caption_scene(rng: np.random.Generator, split: str, index: int) -> Scene:
    sign = bool(rng.random() < CAPTION_SIGN_SHARE)
    return sample_split_scene(rng, split, count=1 + index % MAX_OBJECTS, sign=sign)


def _caption(rng: np.random.Generator, split: str, index: int) -> Parts:
    return _captioned(_caption_scene(rng, split, index), rng)


def _captioned(scene: Scene, rng: np.random.Generator) -> Parts:
    text = caption(scene, rng)
    messages = [_user(0, pick(rng, CAPTION_PROMPTS)), _assistant(text)]
    return messages, [scene], {"kind": "caption", "truth": _truth(scene), "caption": text}


def _preference(rng: np.random.Generator, index: int) -> Parts:
    scene = _caption_scene(rng, "train", index)
    return [_user(0, pick(rng, CAPTION_PROMPTS))], [scene], {"kind": "caption", "truth": _truth(scene)}


def _vqa(rng: np.random.Generator, split: str, index: int) -> Parts:
    kind, turn = VQA_KINDS[index % len(VQA_KINDS)], index // len(VQA_KINDS)
    gold = GOLDS[kind][turn % len(GOLDS[kind])] if kind in GOLDS else None
    question = None
    while question is None:
        sign = kind == "reading" or bool(rng.random() < INSTRUCT_SIGN_SHARE)
        scene = sample_split_scene(rng, split, sign=sign)
        question = ask(kind, scene, rng, gold)
    messages = [_user(0, question.text), _assistant(question.answer)]
    return messages, [scene], {"kind": kind, "gold": question.gold, "truth": _truth(scene)}


def _attributes(rng: np.random.Generator, index: int) -> Parts:
    """LOOK_UPS times the colour of one of two or three objects by its shape, or its shape by its colour.

    Which places are empty says nothing of either, so that there is no way round finding the object. Of places alone a
    model learns to name one that is not empty, by ruling the empty ones out, and finds nothing (docs/log.md).
    """
    question = None
    while question is None:
        scene = sample_split_scene(rng, "train", count=2 + index % 2)
        question = attribute(scene, rng)
    asked = [question, *(attribute(scene, rng) for _ in range(LOOK_UPS - 1))]
    return _asked(scene, asked)


def _look_up(rng: np.random.Generator, index: int) -> Parts:
    """Finding one of two or three objects by what it looks like, asked LOOK_UPS times; two scenes of three have a sign.

    Objects are drawn anew each time: when none was asked for twice, a model learned to name a place not named yet, and
    no longer looked (docs/log.md).
    """
    scene = _scene_of(rng, count=2 + index // 3 % 2, sign=bool(index % 3))
    asked: list[Question | None] = []
    for kind in rng.choice(list(LOOK_UP_SHARES), size=LOOK_UPS, p=list(LOOK_UP_SHARES.values())):
        question = attribute(scene, rng) if kind == "attribute" else ask(kind, scene, rng)
        asked.append(question or ask("position", scene, rng))
    if scene.sign is not None:
        asked.insert(int(rng.integers(LOOK_UPS + 1)), ask("reading", scene, rng))
    return _asked(scene, asked)


def _asked(scene: Scene, asked: list[Question | None]) -> Parts:
    turns = [(question.text, question.answer) for question in asked if question is not None]
    return _conversation([0], turns), [scene], {"kind": "look_up", "truths": [_truth(scene)]}


def _scene_of(rng: np.random.Generator, count: int, sign: bool) -> Scene:
    """A training scene. In some all objects share their colour, in some their shape: where both differ in nearly all
    scenes, a model looks for one of the two alone, and takes a red star for a red circle."""
    chance, model = rng.random(), TRAIN_PAIRS[int(rng.integers(len(TRAIN_PAIRS)))]
    pairs: Sequence[Pair] = TRAIN_PAIRS
    if chance < SAME_COLOUR_SHARE:
        pairs = [pair for pair in TRAIN_PAIRS if pair[0] == model[0]]
    elif chance < SAME_COLOUR_SHARE + SAME_SHAPE_SHARE:
        pairs = [pair for pair in TRAIN_PAIRS if pair[1] == model[1]]
    return sample_split_scene(rng, "train", pairs=pairs, count=count, sign=sign)


def _instruct(rng: np.random.Generator) -> Parts:
    form = rng.random()
    if form < TWO_IMAGE_SHARE:
        return _two_images(rng)
    if form < TWO_IMAGE_SHARE + PAGE_SHARE:
        return _page(rng)
    scene = _instruct_scene(rng)
    turns: list[tuple[str, str]] = []
    if rng.random() < CAPTION_TURN_SHARE:
        turns.append((pick(rng, CAPTION_PROMPTS), caption(scene, rng)))
    candidates = {question.text: question for _ in range(3) for question in questions(scene, rng)}
    asked = _some(list(candidates.values()), int(rng.integers(TURNS[0], TURNS[1] + 1)), rng)
    turns += [(question.text, question.answer) for question in asked]
    meta: dict[str, object] = {"kind": "dialogue", "kinds": [q.kind for q in asked], "truths": [_truth(scene)]}
    return _conversation([0], turns), [scene], meta


def _instruct_scene(rng: np.random.Generator) -> Scene:
    count = int(rng.choice(len(THING_SHARES), p=THING_SHARES)) + 1
    return _scene_of(rng, count, sign=bool(rng.random() < INSTRUCT_SIGN_SHARE))


def _some(candidates: list[Question], number: int, rng: np.random.Generator) -> list[Question]:
    weights = np.array([KIND_WEIGHTS.get(question.kind, 1.0) for question in candidates])
    number = min(number, len(candidates))
    chosen = rng.choice(len(candidates), number, replace=False, p=weights / weights.sum())
    return [candidates[i] for i in chosen]


def _conversation(images: list[int], turns: list[tuple[str, str]]) -> list[Message]:
    messages: list[Message] = []
    for number, (text, answer) in enumerate(turns):
        messages += [_user(*(images if number == 0 else []), text), _assistant(answer)]
    return messages


def _two_images(rng: np.random.Generator) -> Parts:
    scenes = [_instruct_scene(rng), _instruct_scene(rng)]
    turns = []
    counts = [len(scene.things) for scene in scenes]
    if counts[0] != counts[1]:
        more = bool(rng.integers(2))
        word, chosen = ("多い", max) if more else ("少ない", min)
        which = counts.index(chosen(counts)) + 1
        text = pick(rng, ("1枚目と2枚目で、図形が{}のはどちらですか。", "図形が{}のは何枚目ですか。"))
        turns.append((text.format(word), f"{which}枚目です。"))
    for number, scene in enumerate(scenes, 1):
        thing = scene.things[int(rng.integers(len(scene.things)))]
        turns.append((f"{number}枚目の{thing.position}の図形は何色ですか。", colour_answer(thing.colour, rng)))
    which = int(rng.integers(2))
    only = sorted(scenes[which].pairs - scenes[1 - which].pairs)
    if only:
        pair = only[int(rng.integers(len(only)))]
        turns.append((f"{named(*pair, rng)}があるのは何枚目ですか。", f"{which + 1}枚目です。"))
    turns = [turns[i] for i in rng.permutation(len(turns))[:3]]
    return _conversation([0, 1], turns), scenes, {"kind": "two_images", "truths": [_truth(s) for s in scenes]}


_PAGE_OPENINGS = (
    ("はじめの絵です。", "次の絵です。"),
    ("まず一枚目を見ましょう。", "続いて二枚目です。"),
    ("朝にかいた絵。", "夕方にかいた絵。"),
)


def _page(rng: np.random.Generator) -> Parts:
    scenes = [_instruct_scene(rng), _instruct_scene(rng)]
    title = pick(rng, ("図形の観察ノート", "形あつめの日記", "絵の見くらべ", "きょうのスケッチ"))
    first, second = _PAGE_OPENINGS[int(rng.integers(len(_PAGE_OPENINGS)))]
    content: list[str | int] = [
        f"{title}\n{first}\n", 0, f"\n{caption(scenes[0], rng)}\n{second}\n", 1, f"\n{caption(scenes[1], rng)}\n"
    ]  # fmt: skip
    numbers = [len(scene.things) for scene in scenes]
    content.append(f"図形は、はじめが{numbers[0]}個、あとが{numbers[1]}個でした。")
    return [Message("document", content)], scenes, {"kind": "page", "truths": [_truth(s) for s in scenes]}
