"""The characters a sign can bear, as 7 × 7 bitmaps: the digits and ten katakana.

Katakana, because an answer around them is written in hiragana and kanji: what was read stands out of any sentence.
"""

import numpy as np
from jvlm_data.toyworld.world import SIGN_CHARACTERS

GLYPH_DOTS = 7

_ROWS = {
    "0": ".#####. ##...## #.....# #.....# #.....# ##...## .#####.",
    "1": "...#... ..##... .#.#... ...#... ...#... ...#... .#####.",
    "2": ".#####. #.....# ......# ....##. ..##... ##..... #######",
    "3": "####### .....#. ....#.. ...###. ......# #.....# .#####.",
    "4": "....##. ...#.#. ..#..#. .#...#. ####### .....#. .....#.",
    "5": "####### #...... ######. ......# ......# #.....# .#####.",
    "6": "..####. .#..... #...... ######. #.....# #.....# .#####.",
    "7": "######. .....#. .....#. ....#.. ....#.. ...#... ...#...",
    "8": "..###.. .#...#. .#...#. ..###.. .#...#. .#...#. ..###..",
    "9": ".#####. #.....# #.....# .###### ......# .....#. .####..",
    "ア": "####### ......# ..#..#. ..#.#.. ..#.... .#..... #......",
    "カ": "..#.... ####### ..#...# ..#...# ..#...# .#....# #...##.",
    "キ": "..#.... .###### ..#.... ####### ...#... ...#... ...#...",
    "サ": ".#...#. ####### .#...#. .#...#. .....#. ....#.. ..##...",
    "ト": ".#..... .#..... .##.... .#.##.. .#...#. .#..... .#.....",
    "ハ": "....... ..#.#.. ..#.#.. .#...#. .#...#. #.....# #.....#",
    "ホ": "...#... ####### ...#... .#.#.#. #..#..# #..#..# ..##...",
    "メ": ".....#. .....#. .#..#.. ..##... ...##.. .##..#. #......",
    "ヨ": "####### ......# ......# ####### ......# ......# #######",
    "ル": "..#.#.. ..#.#.. ..#.#.. ..#.#.. ..#.#.# .#..##. #...#..",
}


def _bitmap(rows: str) -> np.ndarray:
    dots = np.array([mark == "#" for mark in rows.replace(" ", "")])
    return dots.reshape(GLYPH_DOTS, GLYPH_DOTS)


GLYPHS: dict[str, np.ndarray] = {character: _bitmap(_ROWS[character]) for character in SIGN_CHARACTERS}


def text_bitmap(text: str) -> np.ndarray:
    """Boolean dots `[8, 8 × len(text)]`: one glyph per 8 × 8 field, blank last row and column."""
    fields = [np.pad(GLYPHS[character], ((0, 1), (0, 1))) for character in text]
    return np.concatenate(fields, axis=1)
