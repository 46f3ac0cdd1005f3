"""Encyclopaedia articles of the text corpus: flags, paintings, shapes, colours, counting, positions, signs."""

# ruff: noqa: E501  (a Japanese character counts as two columns; a sentence is kept in one piece)

from collections.abc import Callable

import numpy as np
from jvlm_data.toyworld.lexicon import (
    ADJECTIVES,
    CHILDREN,
    COLOUR_NOUNS,
    COUNTERS,
    KANA_SIGNS,
    PLACES,
    SEASONS,
    TOWN_HEADS,
    TOWN_TAILS,
    Thing,
    counted,
    direction,
    kanji,
    pick,
    pick_many,
    picture,
)
from jvlm_data.toyworld.world import COLOURS, HELD_OUT_PAIRS, POSITIONS, SHAPES

Pairs = list[tuple[str, str]]

_SHAPE_FACTS = {
    "丸": ("どこにも角がなく、中心からふちまでの長さがどこも同じ形", "転がりやすい"),
    "四角": ("四つの辺と四つの角をもつ形", "すきまなく並べやすい"),
    "三角": ("三つの辺と三つの角をもつ形", "どちらが上かがすぐにわかる"),
    "星": ("五つのとがった先をもつ形", "夜の空を思わせる"),
    "十字": ("縦の線と横の線が真ん中で交わる形", "遠くからでも見分けやすい"),
    "ひし形": ("同じ長さの四つの辺が斜めに立つ形", "四角を傾けたように見える"),
    "輪": ("真ん中に穴のあいた形", "向こう側がすけて見える"),
    "ハート": ("上に二つのふくらみがあり、下がとがった形", "気持ちを伝えるときに使われる"),
}
_COLOUR_FACTS = {
    "赤": ("夕日や熟したりんご", "止まれの合図"),
    "青": ("よく晴れた空や深い海", "静けさ"),
    "緑": ("若い葉や草原", "安全"),
    "黄": ("ひまわりやたんぽぽ", "注意"),
    "紫": ("ぶどうやすみれ", "気高さ"),
    "橙": ("みかんや秋の夕焼け", "あたたかさ"),
    "白": ("雪や牛乳", "始まり"),
    "黒": ("夜や墨", "重々しさ"),
}
_MIXES = (("赤", "青", "紫"), ("赤", "黄", "橙"), ("青", "黄", "緑"))
_MEANINGS = ("海", "実り", "平和", "働く人々", "旅の無事", "雪どけ", "古い森", "川の流れ", "子どもたち", "祭りの火")
_PRODUCTS = ("りんご", "米", "塩", "木の器", "紙", "茶", "みかん", "織物", "ろうそく", "魚の干物", "はちみつ", "鈴")
_TITLE_TAILS = ("の朝", "のある風景", "の記憶", "と窓", "の歌", "を待つ日", "の贈り物", "の静物", "のまつり")


def town(rng: np.random.Generator) -> str:
    return pick(rng, TOWN_HEADS) + pick(rng, TOWN_TAILS)


def article(rng: np.random.Generator, shapes: Pairs, things: Pairs) -> str:
    """One article of some 150 to 600 characters, in two to four paragraphs."""
    first, second = pick_many(rng, _ARTICLES, 2)
    return first(rng, shapes, things) + ("\n" + second(rng, shapes, things) if rng.integers(2) else "")


def _layout(rng: np.random.Generator, things: list[Thing]) -> str:
    """Names every thing with its place, once."""
    form = int(rng.integers(4))
    if form == 0:
        return "、".join(f"{t.position}に{t.name}" for t in things) + pick(
            rng, ("がある。", "が描かれている。", "が見える。")
        )
    if form == 1:
        return "".join(
            f"{t.position}には{t.name}が{v}。" for t, v in zip(things, _verbs(rng, len(things)), strict=True)
        )
    if form == 2:
        return "、".join(f"{t.name}は{t.position}" for t in things) + pick(rng, ("に置かれている。", "に位置する。"))
    return f"まず{things[0].position}に{things[0].name}があり、" + "".join(
        f"{'続いて' if i == 0 else 'さらに'}{t.position}に{t.name}が{'あり、' if i < len(things) - 2 else '続く。'}"
        for i, t in enumerate(things[1:])
    )


def _verbs(rng: np.random.Generator, count: int) -> list[str]:
    return pick_many(rng, ("ある", "描かれている", "置かれている", "見える", "並ぶ"), count)


def _flag(rng: np.random.Generator, shapes: Pairs, things: Pairs) -> str:
    name, marks, ground = town(rng), picture(rng, int(rng.integers(2, 5)), shapes), pick(rng, COLOURS)
    while ground in [m.colour for m in marks]:
        ground = pick(rng, COLOURS)
    season, product = pick(rng, SEASONS), pick(rng, _PRODUCTS)
    meanings = pick_many(rng, _MEANINGS, len(marks))
    first, last = marks[0], marks[-1]
    year, households = int(rng.integers(1890, 2010)), int(rng.integers(12, 990)) * 10
    opening = pick(
        rng,
        (
            f"{name}は{product}の産地として知られる。{year}年に定められた旗は、{COLOUR_NOUNS[ground]}の地をもつ。",
            f"{name}の旗は{year}年に作られた。地の色は{COLOUR_NOUNS[ground]}で、町の名物は{product}である。",
            f"約{households}世帯が暮らす{name}では、{year}年から{ADJECTIVES[ground]}旗が使われている。",
        ),
    )
    means = "、".join(f"{m.noun}は{meaning}" for m, meaning in zip(marks, meanings, strict=True)) + "を表すとされる。"
    closing = pick(
        rng,
        (
            f"{season}の祭りでは、{last.position}にある{last.noun}にちなんで{ADJECTIVES[last.colour]}灯りがともされる。",
            f"{first.noun}が{COLOUR_NOUNS[first.colour]}なのは、{name}の人々がその色を{meanings[0]}の色と考えたためである。",
            f"図形は合わせて{counted(len(marks), '丸', 1)}あり、{name}の子どもは{first.position}の{first.name}から順に覚える。",
        ),
    )
    return f"{opening}\n{_layout(rng, marks)}{means}\n{closing}"


def _painting(rng: np.random.Generator, shapes: Pairs, things: Pairs) -> str:
    marks = picture(rng, int(rng.integers(2, 5)), shapes if rng.integers(2) else things)
    main, other = marks[0], marks[1]
    title = main.name + pick(rng, _TITLE_TAILS)
    painter, place, year = pick(rng, CHILDREN), pick(rng, PLACES), int(rng.integers(1900, 2024))
    opening = pick(
        rng,
        (
            f"『{title}』は、{painter}が{year}年に描いた絵である。いまは{town(rng)}の{place}にある。",
            f"{painter}の代表作『{title}』は{year}年の作で、{place}で描かれたという。",
            f"{year}年、{painter}は{place}で『{title}』を完成させた。大きさは縦横{kanji(int(rng.integers(20, 90)))}センチである。",
        ),
    )
    middle = pick(
        rng,
        (
            f"{main.name}は{other.name}の{direction(main, other)}にあり、見る人の目はまず{main.position}へ向かう。",
            f"題名のとおり主役は{main.name}で、{other.noun}は{COLOUR_NOUNS[other.colour]}で塗られて{other.position}に控えている。",
            f"{other.name}から見ると{main.name}は{direction(main, other)}にあたる。",
        ),
    )
    used = [m.colour for m in marks]
    absent = pick(rng, [c for c in COLOURS if c not in used and (c, other.noun) not in HELD_OUT_PAIRS])
    closing = pick(
        rng,
        (
            f"描かれたものは全部で{kanji(len(marks))}点で、{COLOUR_NOUNS[absent]}は使われていない。",
            f"『{title}』には{COLOUR_NOUNS[absent]}がない。{painter}は「{COLOUR_NOUNS[main.colour]}があれば足りる」と語った。",
            f"{painter}は後に、{other.position}の{other.noun}だけを{COLOUR_NOUNS[absent]}に変えた二枚目を残した。",
        ),
    )
    return f"{opening}{_layout(rng, marks)}\n{middle}{closing}"


def _shape(rng: np.random.Generator, shapes: Pairs, things: Pairs) -> str:
    noun, second = pick_many(rng, SHAPES, 2)
    (definition, trait), (definition2, _) = _SHAPE_FACTS[noun], _SHAPE_FACTS[second]
    place, where = town(rng), pick(rng, PLACES)
    colours = [c for c, n in shapes if n == noun]
    first, later = pick_many(rng, colours, 2)
    count = int(rng.integers(2, 9))
    return (
        pick(rng, (f"{noun}とは、{definition}である。", f"{definition}を{noun}という。", f"{noun}は{definition}で、"))
        + pick(
            rng,
            (
                f"{trait}ことから、{place}の{where}の飾りにも使われる。",
                f"{trait}ので、{place}では{where}の目印になった。",
            ),
        )
        + f"\n{place}の{where}には{ADJECTIVES[first]}{noun}が{counted(count, noun, int(rng.integers(2)))}ある。"
        + pick(
            rng,
            (
                f"以前は{ADJECTIVES[later]}{noun}だったが、{pick(rng, SEASONS)}に{COLOUR_NOUNS[first]}へ塗りかえられた。",
                f"{ADJECTIVES[later]}{noun}と見比べると、{ADJECTIVES[first]}{noun}のほうが目立つという。",
            ),
        )
        + f"\n似た形に{second}がある。こちらは{definition2}なので、{noun}とは区別される。"
        + f"{place}で「{noun}」といえば、たいてい{where}の{ADJECTIVES[first]}{noun}を指す。"
    )


def _colour(rng: np.random.Generator, shapes: Pairs, things: Pairs) -> str:
    colour = pick(rng, COLOURS)
    sight, sign = _COLOUR_FACTS[colour]
    noun, adjective = COLOUR_NOUNS[colour], ADJECTIVES[colour]
    place, season = town(rng), pick(rng, SEASONS)
    mix = pick(rng, _MIXES)
    goods = pick_many(rng, [n for c, n in things if c == colour], 3)
    count = int(rng.integers(2, 12))
    return (
        pick(rng, (f"{noun}は、{sight}の色である。", f"{sight}を思わせる色を{noun}と呼ぶ。"))
        + pick(rng, (f"{place}では{sign}を表す色とされてきた。", f"{sign}の色として、{place}の人々に親しまれている。"))
        + f"\n{season}になると、{place}の店には{adjective}{goods[0]}や{adjective}{goods[1]}が並ぶ。"
        + f"ある年には{adjective}{goods[2]}が一日に{counted(count, goods[2])}売れた。"
        + pick(
            rng, (f"その{counted(count, goods[2])}はすべて{noun}だったという。", f"買った人はみな{noun}が好きだった。")
        )
        + f"\n絵の具では{COLOUR_NOUNS[mix[0]]}と{COLOUR_NOUNS[mix[1]]}をまぜると{COLOUR_NOUNS[mix[2]]}になる。"
        + pick(
            rng,
            (
                f"{place}の学校では、これを{goods[0]}の絵で学ぶ。",
                f"{place}の画家は{adjective}{goods[1]}を描いて試した。",
            ),
        )
    )


def _counting(rng: np.random.Generator, shapes: Pairs, things: Pairs) -> str:
    (colour, noun), place, seller = pick(rng, things), town(rng), pick(rng, CHILDREN)
    counter = COUNTERS[noun]
    start, more = int(rng.integers(2, 9)), int(rng.integers(1, 9))
    sold = int(rng.integers(1, start + more))
    name = ADJECTIVES[colour] + noun
    return (
        pick(
            rng,
            (f"{noun}は一{counter}、二{counter}、三{counter}と数える。", f"{noun}を数えるときは「{counter}」を使う。"),
        )
        + f"たとえば{place}の{pick(rng, PLACES)}で働く{seller}は、{pick(rng, SEASONS)}の市に{name}を{counted(start, noun)}出した。"
        + f"\n昼に{counted(more, noun)}を足したので、{name}は合わせて{counted(start + more, noun)}になった。"
        + f"そのうち{counted(sold, noun)}が売れ、夕方には{counted(start + more - sold, noun)}が残った。"
        + pick(
            rng,
            (
                f"\n{seller}は帳面に「{noun}、はじめ{kanji(start)}、足して{kanji(start + more)}、残り{kanji(start + more - sold)}」と書いた。",
                f"\n残った{counted(start + more - sold, noun)}の{name}は、{seller}の家の{pick(rng, POSITIONS)}の棚にしまわれた。",
            ),
        )
    )


def _grid(rng: np.random.Generator, shapes: Pairs, things: Pairs) -> str:
    marks, place = picture(rng, 3, shapes), town(rng)
    a, b, c = marks
    return (
        pick(
            rng,
            (
                "絵の面は縦三つ横三つ、合わせて九つの場所に分けて呼ぶ。",
                "九つのます目には、左上から右下までの名がある。",
            ),
        )
        + pick(
            rng,
            (
                "真ん中が中央である。",
                "上の段は左上、上、右上、下の段は左下、下、右下という。",
                "中央の左右は左と右である。",
            ),
        )
        + f"{place}の石の盤では、{_layout(rng, marks)}"
        + f"{a.name}は{b.name}の{direction(a, b)}、{b.name}は{c.name}の{direction(b, c)}にあたる。"
        + f"\n反対に、{b.name}から見て{direction(a, b)}にあるのが{a.name}である。"
        + pick(
            rng,
            (
                f"{place}の人は道を教えるとき、「{c.position}の{c.noun}のほうへ」などと言う。",
                f"{c.position}の{c.noun}は{COLOUR_NOUNS[c.colour]}なので、{place}では「{COLOUR_NOUNS[c.colour]}のすみ」とも呼ばれる。",
            ),
        )
    )


def _sign(rng: np.random.Generator, shapes: Pairs, things: Pairs) -> str:
    place, where, word = town(rng), pick(rng, PLACES), pick(rng, KANA_SIGNS)
    (mark,) = picture(rng, 1, shapes)
    number, colour = int(rng.integers(10, 1000)), pick(rng, COLOURS)
    other = pick(rng, [w for w in KANA_SIGNS if w != word])
    return (
        f"{place}の{where}には「{word}」と書かれた{ADJECTIVES[colour]}看板がある。"
        + f"看板の{mark.position}には{mark.name}がつき、番号は{number}番である。"
        + pick(
            rng,
            (
                f"\n文字は{kanji(len(word))}文字で、はじめは「{word[0]}」、おわりは「{word[-1]}」である。",
                f"\n「{word}」の{kanji(len(word))}文字は遠くからも読める。読み方は右から左ではなく、「{word[0]}」から始まる。",
            ),
        )
        + f"向かいには「{other}」の看板もあるが、こちらに{mark.noun}の印はない。"
        + pick(
            rng,
            (
                f"\n手紙のあて先に「{place} {number}番」と書けば、{mark.name}のついた「{word}」の看板に届く。",
                f"\n迷った人には「{ADJECTIVES[colour]}看板の{word}、{number}番」と教えるとよい。",
            ),
        )
    )


_ARTICLES: tuple[Callable[[np.random.Generator, Pairs, Pairs], str], ...] = (
    _flag,
    _painting,
    _shape,
    _colour,
    _counting,
    _grid,
    _sign,
)
