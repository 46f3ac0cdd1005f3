"""The corpus normaliser: undoes typing habits and leaves meaning alone.

Unlike NFKC it never touches units (㎎ ㎠), superscripts (10⁻³, Ca²⁺), fractions, circled digits (①), full-width
Japanese punctuation, the ideographic space or 顔文字: those carry clinical or expressive meaning, and NFKC turns
`10⁻³` into `10−3` and `(´･ω･`)` into rubble. Applied to the corpus only; the tokenizer itself is lossless.
"""

import re
import unicodedata

_FULL_WIDTH = re.compile("[０-９Ａ-Ｚａ-ｚ]")
_TO_ASCII = {code: code - 0xFEE0 for a, z in ("０９", "ＡＺ", "ａｚ") for code in range(ord(a), ord(z) + 1)}
_HALF_WIDTH = re.compile("[｡-ﾟ]+")
_KANA_LETTER = re.compile("[ｦ-ｯｱ-ﾝ]")
_DECOMPOSED = re.compile("[ぁ-ヿ][\u3099\u309a]")
_NEEDS_WORK = re.compile("[\r\u00a0\u3099\u309a０-９Ａ-Ｚａ-ｚ｡-ﾟ]")

# A face in brackets with whatever touches it: arms, shouts, sweat. `ｍ` bows: ｍ(_ _)ｍ
_ARMS = "[｡-ﾟ━─…ヽ＼／ノΣ彡]*"
_FACE = re.compile(f"(?<![｡-ﾟ━─…ヽ＼／ノΣ彡]){_ARMS}ｍ?[(（]([^()（）\n]{{1,16}})[)）]ｍ?{_ARMS}")
_FACE_PARTS = frozenset("^＾´`｀ﾟ゜°･ωДд∀∇▽△□ﾛ≧≦_＿￣*＊♡♥☆★√╹◕ᴗ‿˘ᵕ∩∪●○◎◇♪д゜;；T")
_WORD = re.compile("[0-9A-Za-z０-９Ａ-Ｚａ-ｚぁ-んァ-ヶ一-龯々ｦ-ｯｱ-ﾝ]{2}")


def normalise(text: str) -> str:
    """Full-width Latin letters and digits → ASCII, half-width kana → full-width, voiced marks joined to their
    kana, CRLF → LF, no-break space → space. Idempotent: `normalise(normalise(x)) == normalise(x)`.
    """
    if not _NEEDS_WORK.search(text):
        return text
    text = _join_marks(text.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " "))
    parts, end = [], 0
    for match in _FACE.finditer(text) if "(" in text or "（" in text else ():
        if is_face(match[1]):
            parts += [_widths(text, end, match.start()), match[0]]
            end = match.end()
    parts.append(_widths(text, end, len(text)))
    return _join_marks("".join(parts))


def is_face(inside: str) -> bool:
    """Whether what stands between two brackets draws a face: parts of one, and no word."""
    if _WORD.search(inside):
        return False
    parts = sum(character in _FACE_PARTS for character in inside)
    symmetric = len(inside) >= 3 and (inside[0] == inside[-1] or (inside[0] in "＞>" and inside[-1] in "＜<"))
    return parts >= 2 or (symmetric and (parts >= 1 or inside[0] in "＞>"))


def has_face(text: str) -> bool:
    """Whether a bracketed 顔文字 stands in `text`."""
    return any(is_face(match[1]) for match in _FACE.finditer(text))


def _widths(text: str, start: int, end: int) -> str:
    piece = text[start:end]
    if _FULL_WIDTH.search(piece):
        piece = piece.translate(_TO_ASCII)
    return _HALF_WIDTH.sub(_half_width_run, piece)


def _half_width_run(run: re.Match[str]) -> str:
    """A word becomes full-width; a lone letter only between word characters (3ｶ月), as it may belong to a face."""
    letters = len(_KANA_LETTER.findall(run[0]))
    before = run.start() > 0 and _in_word(run.string[run.start() - 1])
    after = run.end() < len(run.string) and _in_word(run.string[run.end()])
    is_word = letters >= 2 or (letters == 1 and before and after)
    is_punctuation = not letters and set(run[0]) <= set("｡｢｣､") and (before or after)
    return unicodedata.normalize("NFKC", run[0]) if is_word or is_punctuation else run[0]


def _in_word(character: str) -> bool:
    return character.isalnum() or character in "\u3099\u309a"


def _join_marks(text: str) -> str:
    return _DECOMPOSED.sub(lambda pair: unicodedata.normalize("NFC", pair[0]), text)
