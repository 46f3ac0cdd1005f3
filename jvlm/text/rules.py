"""What is not fit to learn from: small line and document rules, each a function that says yes or no.

Lines are judged alone, so every line rule is written to be harmless to terse clinical lines such as
「診断：急性虫垂炎」, 「血圧 120/80 mmHg」, 「CRP (+)」 or 「10⁻³」: none asks for kana, and none looks for taboo words
(word lists of published filters delete gynaecology and urology wholesale). Language is judged on whole documents.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from jvlm.text.normalise import has_face

LineRule = Callable[[str], bool]
DocumentRule = Callable[[str], bool]

KANA = re.compile("[ぁ-ゖァ-ヺー]+")
LETTERS = re.compile("[^\\W\\d_]+")
_HAN = re.compile("[々一-鿿㐀-䶿]+")
_HANGUL = re.compile("[가-힣ㄱ-ㆎ]+")

# UTF-8 read as cp932 is full of these kanji, which real text has once in a novel (縺れ, 繙く). UTF-8 read as Latin-1
# or cp1252 is lead bytes and continuation bytes in alternation.
_UTF8_AS_CP932 = re.compile("[縺繧繝縲蜈螟髢蜿譛隕莉逧蟄險荳]")
_UTF8_AS_LATIN1 = re.compile("[Â-ôÃã][\u0080-¿ŒœŠšŸŽžƒˆ˜–—‘’‚“”„†‡•…‰‹›€™]")
_BROKEN = re.compile("[\ufffd\u0080-\u0084\u0086-\u009f\ue000-\uf8ff\x00-\x08\x0e-\x1f]")
_SHIFT_JIS_AS_LATIN1 = re.compile("[‚ƒ][\u00a0-ÿŒœŠšŸŽž–—‘’“”„†‡•…‰‹›€™Ÿ¡-¿A-z]")
_HALF_WIDTH = re.compile("[｡-ﾟ]")
_SUSPECT = re.compile(
    "[縺繧繝縲蜈螟髢蜿譛隕莉逧蟄險荳Â-ôÃã\ufffd\u0080-\u0084\u0086-\u009f\ue000-\uf8ff\x00-\x08\x0e-\x1f‚ƒ｡-ﾟ]"
)  # what any of the above needs: most lines have none


@lru_cache(maxsize=4)  # several rules ask the same of one document
def count(runs: re.Pattern[str], text: str) -> int:
    """Characters of `text` in the runs a pattern matches: several times faster than matching one by one."""
    return sum(map(len, runs.findall(text)))


def is_mojibake(line: str) -> bool:
    """Decoded with the wrong encoding: UTF-8 as cp932, Latin-1 or cp1252, Shift_JIS as Latin-1, EUC-JP as cp932."""
    if not _SUSPECT.search(line):
        return False
    length = len(line)
    if len(_BROKEN.findall(line)) * 10 >= length:
        return True
    cp932 = len(_UTF8_AS_CP932.findall(line))
    if cp932 >= 3 and cp932 * 8 >= length:
        return True
    for pattern in (_UTF8_AS_LATIN1, _SHIFT_JIS_AS_LATIN1):
        pairs = len(pattern.findall(line))
        if pairs >= 3 and pairs * 5 >= length:
            return True
    half = len(_HALF_WIDTH.findall(line))  # the normaliser widens words, so what is left of a real text is little
    return half >= 8 and half * 2 >= length and not KANA.search(line)


_QUIET = re.compile(  # marks that carry meaning in clinical notes, tables and plain prose
    "[\\s、。，．,.・:：;；!！?？「」『』()（）［］\\[\\]【】〈〉《》“”\"'’‘+＋\\-−－±%％/／|｜→←↑↓⇒~〜～=＝<>＜＞≦≧≤≥×÷°℃′″ー…―—–‐_＿§※○●◎△▲▽×☓□■◇◆☆★①-⑳㎎-㏿⁰-₉½⅓⅔¼¾─-╿✓✔❌✕\ufe0f]"
)
_LOUD = re.compile("[^\\w\\s]")


def is_symbol_garbage(line: str) -> bool:
    """Mostly symbols and neither a 顔文字, a ruler (――――), a table row nor a clinical sign like (+) or (−)."""
    symbols = _LOUD.findall(line)
    if len(symbols) < 5:
        return False
    symbols = [symbol for symbol in symbols if symbol not in "、。，．,.・「」『』()（）!！?？:：ー…―〜"]
    visible = "".join(line.split())
    if len(symbols) < 5 or len(symbols) * 4 < len(visible) or has_face(line):
        return False
    if len(set(visible)) <= 3:  # a ruler between sections says nothing wrong
        return False
    loud = sum(not _QUIET.match(symbol) for symbol in symbols)
    words = sum(character.isalnum() for character in visible)
    return loud * 4 >= len(visible) or words * 4 < len(visible)


def is_stutter(line: str) -> bool:
    """One phrase said over and over: 40 characters or more whose beginning holds few different 3-grams."""
    line = line[:400]
    grams = len(line) - 2
    if grams < 38 or len({line[i : i + 3] for i in range(0, grams, 3)}) * 4 >= grams:  # every third is enough for most
        return False
    if len(set(line)) * 3 > len(line):
        return False
    return len({line[i : i + 3] for i in range(grams)}) * 4 < grams and bool(LETTERS.search(line))


def is_wordless(text: str) -> bool:
    """A document of marks and numbers: letters of any script are under a fifth of what is visible."""
    visible = len("".join(text.split()))
    return visible > 0 and count(LETTERS, text) * 5 < visible


def is_foreign(text: str) -> bool:
    """A document in another language: hardly any kana among its letters.

    Kanji alone is Japanese when short (診断：急性虫垂炎); Chinese shows by its function words, by characters that
    Japanese does not write, or by length.
    """
    letters = count(LETTERS, text)
    kana = count(KANA, text)
    if not letters or kana * 20 >= letters:
        return False
    han, hangul = count(_HAN, text), count(_HANGUL, text)
    if hangul * 3 >= letters:
        return True
    if han * 3 >= letters:
        return _is_chinese(text, han) or (han > 200 and kana * 100 < han)
    return letters >= 30


_CHINESE_WORDS = re.compile("[的是了们們这這那吗嗎呢吧您你她它很都也还還没沒让讓给給说說请請从從对對么麼]")


def _is_chinese(text: str, han: int) -> bool:
    foreign = sum(_is_unknown_to_jis(character) for character in set("".join(_HAN.findall(text))))
    return len(_CHINESE_WORDS.findall(text)) * 25 >= han or foreign * 12 >= len(set(text))


def _is_unknown_to_jis(character: str) -> bool:
    try:
        character.encode("euc_jp")
    except UnicodeEncodeError:
        return True
    return False


def is_repeat(line: str, previous: str | None, times_seen: Mapping[str, int]) -> bool:
    """A line said again right after itself, or a longer one for the third time in a document.

    Short lines (「異常なし」, 「はい。」) may come back, and so may a prescription written twice.
    """
    return (line == previous and len(line) >= 6) or (len(line) >= 12 and times_seen.get(line, 0) >= 2)


_WORD = re.compile(r"[^\W\d_]{2,}")


def is_machine_code(text: str) -> bool:
    """A file written by a program for programs: packed into very long lines, or nearly without words.

    Limits of The Stack's filters (Kocetkov et al. 2022): a mean line above 100 characters or a longest one above 1,000,
    here only together with a mean above 300, since a licence or a table of strings may be one long line of a good file.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return False
    mean = sum(map(len, lines)) / len(lines)
    return mean > 300 or sum(map(len, _WORD.findall(text))) * 4 < len("".join(text.split()))


def is_not_parallel(text: str) -> bool:
    """Not a text in Japanese and in another script beside it: a side is missing, or one is far longer than the other.

    A line is Japanese when it holds kana, or Han characters among half of its letters. Of 4,201 pairs of translated
    encyclopedia sentences 99 in 100 have 1.4 to 9.2 English letters for a Japanese one.
    """
    sides = [0, 0]
    for line in text.split("\n"):
        letters = count(LETTERS, line)
        japanese = bool(KANA.search(line)) or count(_HAN, line) * 2 > letters
        sides[japanese] += letters
    other, own = sides
    return own == 0 or other == 0 or not 1 <= other / own <= 10
