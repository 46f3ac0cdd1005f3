"""One-sentence captions of a scene, in many wordings; every object in reading order with position, colour and shape."""

from collections.abc import Callable, Sequence

import numpy as np
from jvlm_data.toyworld.scene import Scene, Thing
from jvlm_data.toyworld.world import COUNTERS

CAPTION_PROMPTS = (
    "この画像を短く説明してください。",
    "画像の内容を一文で述べてください。",
    "この画像には何が写っていますか。",
    "何が描かれていますか。",
    "キャプションを付けてください。",
    "どこに何があるか教えてください。",
    "この絵の説明をお願いします。",
    "画像を見て、簡単に説明して。",
)

COLOUR_FORMS = {  # the usual form and a rarer one
    "赤": ("赤い", "赤色の"), "青": ("青い", "青色の"), "緑": ("緑の", "緑色の"), "黄": ("黄色い", "黄色の"),
    "紫": ("紫の", "紫色の"), "橙": ("オレンジ色の", "橙色の"), "白": ("白い", "白色の"), "黒": ("黒い", "黒色の"),
}  # fmt: skip
USUAL_COLOUR_SHARE = 0.8
SIZE_FORMS = {"大": ("大きな", "大きい"), "小": ("小さな", "小さい")}
TEXTURE_FORMS = {"無地": "無地の", "縞": "縞模様の", "水玉": "水玉模様の"}
SIZE_SHARE, TEXTURE_SHARE = 0.1, 0.08  # how often a caption mentions them
SIGN_SHARE = 0.8  # how often it mentions a sign that is there

PLAIN, POLITE, NOMINAL = "plain", "polite", "nominal"
SIGN_ENDINGS = {
    POLITE: ("看板もあります。", "看板も一枚あります。"),
    PLAIN: ("看板もある。", "看板も一枚ある。"),
    NOMINAL: ("ほかに看板。", "看板も一枚。"),
}


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def colour_form(colour: str, rng: np.random.Generator) -> str:
    """The colour before a noun: 赤い, or more rarely 赤色の."""
    return COLOUR_FORMS[colour][0 if rng.random() < USUAL_COLOUR_SHARE else 1]


def named(colour: str, shape: str, rng: np.random.Generator) -> str:
    return colour_form(colour, rng) + shape


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """A short caption (about 10 to 50 characters). A sign is mentioned or not, its text never."""
    wording, style = _WORDINGS[int(rng.choice(len(_WORDINGS), p=_SHARES))]
    phrases = [(thing.position, _phrase(thing, rng)) for thing in scene.things]
    text = wording(phrases, rng)
    if scene.sign is not None and rng.random() < SIGN_SHARE:
        text += pick(rng, SIGN_ENDINGS[style])
    return text


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """A longer description (polite): the count, then each object with size and texture, then the sign."""
    count = pick(rng, COUNTERS[len(scene.things)])
    parts = [
        thing.position + "に" + pick(rng, SIZE_FORMS[thing.size]) + TEXTURE_FORMS[thing.texture]
        + named(thing.colour, thing.shape, rng)
        for thing in scene.things
    ]  # fmt: skip
    opening = pick(rng, (f"図形が{count}あります。", f"この画像には図形が{count}描かれています。"))
    body = "があり、".join(parts) + pick(rng, ("があります。", "が見えます。"))
    return opening + body + ("看板もあります。" if scene.sign is not None else "")


def _phrase(thing: Thing, rng: np.random.Generator) -> str:
    size = pick(rng, SIZE_FORMS[thing.size]) if rng.random() < SIZE_SHARE else ""
    texture = TEXTURE_FORMS[thing.texture] if rng.random() < TEXTURE_SHARE else ""
    return size + texture + named(thing.colour, thing.shape, rng)


Phrases = list[tuple[str, str]]  # (position, "赤い丸") of every object
Wording = Callable[[Phrases, np.random.Generator], str]


def _run(phrases: Phrases, link: str, after: str = "") -> str:
    return "、".join(position + link + phrase + after for position, phrase in phrases)


def _plain_list(phrases: Phrases, rng: np.random.Generator) -> str:
    return _run(phrases, "に") + pick(rng, ("があります。", "が見えます。", "が描かれています。"))


def _each_ga(phrases: Phrases, rng: np.random.Generator) -> str:
    return _run(phrases, "に", "が") + pick(rng, ("あります。", "見えます。"))


def _each_counted(phrases: Phrases, rng: np.random.Generator) -> str:
    return _run(phrases, "に", "が" + pick(rng, COUNTERS[1])) + "あります。"


def _count_first(phrases: Phrases, rng: np.random.Generator) -> str:
    count = pick(rng, COUNTERS[len(phrases)])
    if len(phrases) == 1:
        return _run(phrases, "に") + f"が{count}だけあります。"
    return f"図形が{count}あります。" + _run(phrases, "に") + "です。"


def _in_this_image(phrases: Phrases, rng: np.random.Generator) -> str:
    opening = pick(rng, ("この画像には、", "画像の中には、", "この絵には、"))
    return opening + _run(phrases, "に") + pick(rng, ("があります。", "が描かれています。"))


def _topic(phrases: Phrases, rng: np.random.Generator) -> str:
    link, ending = (("は", "です。"), ("には", "があります。"))[int(rng.integers(2))]
    return _run(phrases, link) + ending


def _chained(phrases: Phrases, rng: np.random.Generator) -> str:
    return "があり、".join(position + "に" + phrase for position, phrase in phrases) + "があります。"


def _position_last(phrases: Phrases, rng: np.random.Generator) -> str:
    return "、".join(f"{phrase}が{position}に" for position, phrase in phrases) + "あります。"


def _plain_style(phrases: Phrases, rng: np.random.Generator) -> str:
    return _run(phrases, "に") + pick(rng, ("がある。", "が描かれている。", "が見える。"))


def _in_this_image_plain(phrases: Phrases, rng: np.random.Generator) -> str:
    return pick(rng, ("この画像には、", "絵の中には、")) + _run(phrases, "に", "が") + "描かれている。"


def _count_first_plain(phrases: Phrases, rng: np.random.Generator) -> str:
    count = pick(rng, COUNTERS[len(phrases)])
    if len(phrases) == 1:
        return _run(phrases, "に") + f"が{count}ある。"
    return f"図形は{count}で、" + _run(phrases, "に") + "である。"


def _nominal(phrases: Phrases, rng: np.random.Generator) -> str:
    return _run(phrases, "に") + "。"


def _nominal_no(phrases: Phrases, rng: np.random.Generator) -> str:
    return "と、".join(position + "の" + phrase for position, phrase in phrases) + "。"


_TABLE: tuple[tuple[Wording, str, float], ...] = (
    (_plain_list, POLITE, 0.2),
    (_each_ga, POLITE, 0.1),
    (_each_counted, POLITE, 0.07),
    (_count_first, POLITE, 0.08),
    (_in_this_image, POLITE, 0.1),
    (_topic, POLITE, 0.06),
    (_chained, POLITE, 0.07),
    (_position_last, POLITE, 0.04),
    (_plain_style, PLAIN, 0.1),
    (_in_this_image_plain, PLAIN, 0.05),
    (_count_first_plain, PLAIN, 0.04),
    (_nominal, NOMINAL, 0.05),
    (_nominal_no, NOMINAL, 0.04),
)
_WORDINGS = [(wording, style) for wording, style, _ in _TABLE]
_SHARES = [share for _, _, share in _TABLE]
