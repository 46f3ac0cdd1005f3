"""Words of the text corpus, and a picture described in words alone: things with a colour, a name and a place."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from jvlm_data.toyworld.world import COLOURS, HELD_OUT_PAIRS, POSITIONS, SHAPES

T = TypeVar("T")


def words(text: str) -> tuple[str, ...]:
    """The words of a text, as a tuple."""
    return tuple(text.split())


ADJECTIVES = {
    "赤": "赤い",
    "青": "青い",
    "緑": "緑の",
    "黄": "黄色い",
    "紫": "紫の",
    "橙": "橙色の",
    "白": "白い",
    "黒": "黒い",
}
COLOUR_NOUNS = {colour: "黄色" if colour == "黄" else "橙色" if colour == "橙" else colour for colour in COLOURS}

COUNTERS = {
    **dict.fromkeys(SHAPES, "個"),
    **dict.fromkeys(("箱", "石", "かご", "ボタン", "ビー玉", "積み木", "風船", "りんご", "鈴"), "個"),
    **dict.fromkeys(("傘", "旗", "鉛筆", "花", "ろうそく", "木", "びん"), "本"),
    **dict.fromkeys(("紙", "皿", "切手", "布", "葉", "絵はがき"), "枚"),
    **dict.fromkeys(("猫", "魚", "犬", "虫"), "匹"),
    **dict.fromkeys(("鳥", "にわとり"), "羽"),
    **dict.fromkeys(("本", "手帳"), "冊"),
    **dict.fromkeys(("車", "自転車"), "台"),
}
KANJI_NUMBERS = ("〇", "一", "二", "三", "四", "五", "六", "七", "八", "九", "十")

NAMES = words(
    "ユイ ハル ケン アキ ミナ ソラ リク サキ タロウ ハナ ナオ ヒロ カナ トモ ユウタ モモ レン アオイ シュン チエ "
    "おじいさん おばあさん 先生 画家 町長 郵便屋さん"
)
CHILDREN = NAMES[:20]
PLACES = words(
    "公園 図書館 駅前の広場 港 美術館 学校の教室 森の小屋 川べり 市場 灯台 丘の上 商店街 古い倉庫 工房 博物館 台所 "
    "庭 屋上 海岸 寺の境内 温室 時計台 橋のたもと 空き地"
)
SEASONS = ("春", "夏", "秋", "冬")
TIMES = ("朝", "昼", "夕方", "夜", "昼下がり", "明け方", "日曜日", "午後")
WEATHERS = ("よく晴れた", "雨の", "風の強い", "くもった", "雪の", "あたたかい", "静かな", "むし暑い", "霧の深い")
MOODS = ("うれしい", "なつかしい", "不思議な", "少しさびしい", "ほっとした", "わくわくした", "おだやかな", "誇らしい")
BOARDS = ("大きな絵", "一枚の絵", "掲示板", "木の板", "白い壁", "古い棚", "黒板", "机の上の盤", "窓の飾り", "色紙")
TOWN_HEADS = words("青 赤 白 黒 松 竹 石 水 花 月 星 鈴 桜 風 雲 波 島 森 谷 原")
TOWN_TAILS = words("川町 山町 浜村 野村 沢町 崎市 坂町 島村 池市 瀬町")
# spelt with the characters that signs in the images have
KANA_SIGNS = words("アサ カサ ヨル アカ ハト カト サル トキ アキ カキ サカ ホル ハカ ホメル カメル トサカ サトル アメ")


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of `options`, uniformly."""
    return options[int(rng.integers(len(options)))]


def pick_many(rng: np.random.Generator, options: Sequence[T], count: int) -> list[T]:
    """`count` different members of `options`, in random order."""
    return [options[int(i)] for i in rng.permutation(len(options))[:count]]


def kanji(number: int) -> str:
    """0..99 in kanji: 3 → 三, 12 → 十二, 40 → 四十."""
    assert 0 <= number < 100
    tens, ones = divmod(number, 10)
    if tens == 0:
        return KANJI_NUMBERS[ones]
    return ("" if tens == 1 else KANJI_NUMBERS[tens]) + "十" + (KANJI_NUMBERS[ones] if ones else "")


def counted(number: int, noun: str, style: int = 0) -> str:
    """A number with its counter: 三本; `style` 1 gives the native counter (三つ) where the noun allows it."""
    counter = COUNTERS.get(noun, "個")
    if style == 1 and counter == "個" and 1 <= number <= 9:
        return KANJI_NUMBERS[number] + "つ"
    return kanji(number) + counter


@dataclass(frozen=True)
class Thing:
    """One thing in a picture told in words. `position` is one of the nine of the world."""

    colour: str
    noun: str
    position: str

    @property
    def name(self) -> str:
        return ADJECTIVES[self.colour] + self.noun

    @property
    def cell(self) -> tuple[int, int]:
        """(row, column), both 0..2."""
        return divmod(POSITIONS.index(self.position), 3)

    def at(self, position: str) -> "Thing":
        return replace(self, position=position)


def allowed_pairs(nouns: Sequence[str]) -> list[tuple[str, str]]:
    """Every (colour, noun) but those held out of all training."""
    return [(colour, noun) for colour in COLOURS for noun in nouns if (colour, noun) not in HELD_OUT_PAIRS]


def picture(rng: np.random.Generator, count: int, pairs: Sequence[tuple[str, str]]) -> list[Thing]:
    """`count` things on different positions with different nouns and colours, so that each can be referred to."""
    things: list[Thing] = []
    positions = pick_many(rng, POSITIONS, count)
    while len(things) < count:
        colour, noun = pick(rng, pairs)
        if all(colour != other.colour and noun != other.noun for other in things):
            things.append(Thing(colour, noun, positions[len(things)]))
    return things


def direction(first: Thing, second: Thing) -> str:
    """Where `first` lies seen from `second`: 右, 左上, …"""
    row, column = first.cell[0] - second.cell[0], first.cell[1] - second.cell[1]
    across = "左" if column < 0 else "右" if column > 0 else ""
    return across + ("上" if row < 0 else "下" if row > 0 else "")
