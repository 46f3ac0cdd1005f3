"""Pages of general text with pictures in it: an article, then picture after picture, each followed by what it shows.

What stands behind a picture can only be known by looking at it, and what a page says at its end by looking at several.
"""

from collections.abc import Callable

import numpy as np
from jvlm_data.toyworld import encyclopaedia
from jvlm_data.toyworld.captions import caption, describe
from jvlm_data.toyworld.draw import draw, encode
from jvlm_data.toyworld.lexicon import COLOUR_NOUNS, COUNTERS, allowed_pairs, kanji, pick
from jvlm_data.toyworld.scene import Scene, sample_split_scene
from jvlm_data.toyworld.world import SHAPES

from jvlm.sample import ImageRef, Message, Sample

SET_NAME = "pages_train"
PICTURES = (2, 4)  # fewest and most of a page
ARTICLE_SHARE, DESCRIPTION_SHARE, SIGN_SHARE = 0.7, 0.3, 0.3
_STREAM = 105  # keeps these random numbers apart from those of the other generators of the same seed
_TITLES = ("図形の画帳", "壁にかかった絵", "町の絵めぐり", "絵の見くらべ", "展覧会の記録", "形と色のノート")
_LEADS = ("{n}枚目の絵を見よう。", "絵の{n}。", "{n}枚目。", "次に示すのは{n}枚目の絵である。")


def page(seed: int, index: int, size: int) -> Sample:
    """Page `index` (role `document`), a pure function of its arguments; the text does not depend on the size.

    No text and no picture has a pair of colour and shape that is held out of training.
    """
    rng = np.random.default_rng([seed, _STREAM, index, 0])
    number = int(rng.integers(PICTURES[0], PICTURES[1] + 1))
    scenes = [sample_split_scene(rng, "train", sign=bool(rng.random() < SIGN_SHARE)) for _ in range(number)]
    content: list[str | int] = [pick(rng, _TITLES) + "\n"]
    if rng.random() < ARTICLE_SHARE:
        pairs = allowed_pairs(SHAPES), allowed_pairs(tuple(COUNTERS))
        content.append(encyclopaedia.article(rng, *pairs).split("\n")[0] + "\n")
    lead = pick(rng, _LEADS)
    for place, scene in enumerate(scenes):
        tell = describe if rng.random() < DESCRIPTION_SHARE else caption
        content += [lead.format(n=kanji(place + 1)) + "\n", place, f"\n{tell(scene, rng)}\n"]
    content.append(pick(rng, _CLOSINGS)(scenes))
    images = [
        ImageRef(data=encode(draw(scene, size, np.random.default_rng([seed, _STREAM, index, place]))))
        for place, scene in enumerate(scenes, 1)
    ]
    truths = [[list(triple) for triple in scene.truth] for scene in scenes]
    meta = {"set": SET_NAME, "kind": "page", "truths": truths}
    return Sample(f"{SET_NAME}-{index:06d}", [Message("document", content)], images, None, meta)


def _counts(scenes: list[Scene]) -> str:
    """How many figures each picture has, and all together."""
    numbers = [len(scene.things) for scene in scenes]
    each = "、".join(f"{kanji(place)}枚目に{kanji(number)}個" for place, number in enumerate(numbers, 1))
    return f"図形は{each}、合わせて{kanji(sum(numbers))}個である。"


def _most(scenes: list[Scene]) -> str:
    """Which pictures have the most figures."""
    numbers = [len(scene.things) for scene in scenes]
    most = [kanji(place) + "枚目" for place, number in enumerate(numbers, 1) if number == max(numbers)]
    return f"図形がいちばん多いのは{'と'.join(most)}で、{kanji(max(numbers))}個ある。"


def _first_and_last(scenes: list[Scene]) -> str:
    """The first figure of the first picture, the last one of the last."""
    first, last = scenes[0].things[0], scenes[-1].things[-1]
    return (
        f"はじめの絵の{first.position}の図形は{COLOUR_NOUNS[first.colour]}、"
        f"おわりの絵の{last.position}の図形は{COLOUR_NOUNS[last.colour]}である。"
    )


_CLOSINGS: tuple[Callable[[list[Scene]], str], ...] = (_counts, _most, _first_and_last)
