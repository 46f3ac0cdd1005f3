"""What can be seen of a caption without the picture: its length, its language, and whether it goes round in circles.

Figures stand in columns of their own; no row is left out for them. Shares are rounded to three digits.
"""

import re
from functools import cache
from typing import Any

_KANA = re.compile("[ぁ-ゖァ-ヺーｦ-ﾝ]")
_KANJI = re.compile("[一-鿿㐀-䶿々]")
_LATIN = re.compile("[A-Za-zÀ-ɏＡ-Ｚａ-ｚ]")
_LOOP = re.compile(r"(.{1,40}?)\1{2,}", re.DOTALL)
_SHORTEST_LOOP = 8  # characters: 「わーーい」 and 「……」 are no loops
_SENTENCE = re.compile(r"[^。！？!?\n]+[。！？!?\n]*")

COLUMNS = ("n_characters", "japanese", "simplified_chinese", "latin", "repetition")


def quality(text: str) -> dict[str, Any]:
    """The columns of a text: characters; of its letters the shares that are Japanese, simplified Chinese alone, and
    Latin; the share of it that repeats itself.
    """
    kana, kanji, latin = (len(pattern.findall(text)) for pattern in (_KANA, _KANJI, _LATIN))
    simplified = sum(character in simplified_only() for character in text)
    letters = sum(character.isalpha() for character in text)

    def share(count: int) -> float:
        return round(min(count / letters, 1.0), 3) if letters else 0.0

    return {
        "n_characters": len(text),
        "japanese": share(kana + kanji - simplified),
        "simplified_chinese": share(simplified),
        "latin": share(latin),
        "repetition": round(repetition(text), 3),
    }


def repetition(text: str) -> float:
    """The longest run of something said three times or more without a break, or the sentences that were said before:
    the greater share of the text.
    """
    if not text:
        return 0.0
    run = max((len(found[0]) for found in _LOOP.finditer(text)), default=0)
    seen: set[str] = set()
    again = 0
    for sentence in _SENTENCE.findall(text):
        again += len(sentence) if sentence in seen else 0
        seen.add(sentence)
    return max(run if run >= _SHORTEST_LOOP else 0, again if again >= _SHORTEST_LOOP else 0) / len(text)


@cache
def simplified_only() -> frozenset[str]:
    """Characters of simplified Chinese (GB 2312) that neither Japanese (JIS X 0213) nor traditional Chinese (Big5) has.

    2,056 of them: 图, 红, 这 and the like. What Japanese writes the same (国, 会, 体) tells nothing and is left out.
    """
    found = set()
    for row in range(0xB0, 0xF8):
        for cell in range(0xA1, 0xFF):
            character = bytes((row, cell)).decode("gb2312", "ignore")
            if character and not any(character.encode(codec, "ignore") for codec in ("euc_jis_2004", "big5")):
                found.add(character)
    return frozenset(found)
