"""Reads captions and answers back, whoever wrote them, and says what is right.

Written apart from the generator: it knows the world's words and Japanese, not the generator's sentence patterns, and
a wording that it cannot read counts as wrong, never as right.
"""

import re
import unicodedata
from collections.abc import Sequence

from jvlm_data.toyworld.world import COLOURS, POSITIONS, QUESTION_KINDS, SHAPES

from jvlm.errors import UsageError

Triple = tuple[str, str, str]  # (position, colour, shape); "" for an attribute the text leaves out
OTHER = "他"  # a colour or shape that the world does not have

_SYNONYMS = {
    "レッド": "赤", "ブルー": "青", "グリーン": "緑", "イエロー": "黄", "パープル": "紫", "オレンジ": "橙",
    "だいだい": "橙", "ホワイト": "白", "ブラック": "黒", "みどり": "緑", "むらさき": "紫",
    "円形": "丸", "円": "丸", "正方形": "四角", "菱形": "ひし形", "菱": "ひし形", "ダイヤ": "ひし形", "リング": "輪",
    "ドーナツ": "輪", "スター": "星", "プラス": "十字", "真ん中": "中央", "まん中": "中央", "真中": "中央",
    "まんなか": "中央", "中心": "中央", "上左": "左上", "上右": "右上", "下左": "左下", "下右": "右下",
}  # fmt: skip
_OTHER_COLOURS = (
    "黄緑", "青緑", "赤紫", "青紫", "青白", "赤黒", "水色", "灰色", "茶色", "金色", "銀色", "紺", "桃色",
    "ピンク", "グレー",
)  # fmt: skip
_OTHER_SHAPES = ("長方形", "楕円", "だ円", "五角", "六角", "八角", "台形", "平行四辺形", "円柱", "矢印", "三日月")
# They contain a position or colour word but mean something else.
_IGNORED = ("以上", "以下", "下さい", "左右", "上下", "上手", "下手", "面白", "水玉", "日の丸")
_NOT_FIGURES = ("看板", "プレート", "標識", "文字", "背景")  # what is said of these is not said of a figure

_ROW = r"(?P<row>[上中下])(?:の?段|の列|側)の?(?P<column>左|中央|真ん中|右)"
_WORDS: dict[str, tuple[str, str]] = {
    **{word: ("colour", word) for word in COLOURS},
    **{word: ("shape", word) for word in SHAPES},
    **{word: ("position", word) for word in POSITIONS},
    **dict.fromkeys(_OTHER_COLOURS, ("colour", OTHER)),
    **dict.fromkeys(_OTHER_SHAPES, ("shape", OTHER)),
    **{word: ("", word) for word in _IGNORED},
    **{word: ("noun", word) for word in _NOT_FIGURES},
}
_WORDS |= {synonym: _WORDS[word] for synonym, word in _SYNONYMS.items()}
_TOKEN = re.compile(_ROW + "|" + "|".join(sorted(map(re.escape, _WORDS), key=lambda word: (-len(word), word))))
_NEGATED = re.compile(r"ありません|はない|がない|もない|見えない|見えません|見当たら|写ってい(ない|ません)")
_YES = re.compile(r"(?:^|[。、])(?:はい|ええ|そうです)")
_NO = re.compile(r"(?:^|[。、])(?:いいえ|いえ|違います|ちがいます)")
_REASON = re.compile(r"^.*(?:ので|から)、", re.DOTALL)  # 「左下と左上なので、」: what follows is the answer
_DIGITS = {"一": 1, "二": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9, "十": 10}
_SPOKEN = {"ひとつ": 1, "ふたつ": 2, "みっつ": 3, "よっつ": 4, "いつつ": 5}
_NUMBER = re.compile(r"[0-9]+|[一二三四五六七八九十](?![番字角])|" + "|".join(_SPOKEN))
_SIGN_RUN = re.compile(r"[0-9A-Za-zァ-ヺー]+")


def parse_caption(text: str) -> frozenset[Triple]:
    """Every (position, colour, shape) that `text` names, "" for what it leaves out.

    A mention that leaves something out and fits a full one is taken as the same object. A figure named with two
    colours, or twice at different places, yields every reading, so that a contradiction never equals a truth.
    """
    found: set[Triple] = set()
    for sentence in re.split(r"[。.!?\n]", re.sub(r"[「『][^」』]*[」』]", "", _folded(text))):
        if not _NEGATED.search(sentence):
            found |= _sentence_triples(_tokens(sentence))
    full = [triple for triple in found if all(triple)]
    return frozenset(t for t in found if all(t) or not any(_fits(t, other) for other in full))


def caption_is_exact(text: str, truth: Sequence[Sequence[str]]) -> bool:
    """Whether the set of (position, colour, shape) read from `text` equals the truth."""
    return parse_caption(text) == _truth_set(truth)


def absent_objects(text: str, truth: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """The distinct (colour, shape) pairs that `text` names and the image does not show, sorted."""
    present = {(colour, shape) for _, colour, shape in truth}
    named = {(colour, shape) for _, colour, shape in parse_caption(text) if colour and shape}
    return sorted(named - present)


def rank(texts: Sequence[str], truth: Sequence[Sequence[str]]) -> tuple[int, int] | None:
    """Indices of the best and the worst caption of one image, or None when none is strictly better.

    Exact ones first, then the fewest absent objects, then the most correct triples; the first of equals.
    """
    expected = _truth_set(truth)
    keys = []
    for text in texts:
        named = parse_caption(text)
        keys.append((named != expected, len(absent_objects(text, truth)), -len(named & expected)))
    if not keys or min(keys) == max(keys):
        return None
    return keys.index(min(keys)), keys.index(max(keys))


def answer_value(kind: str, text: str) -> str | None:
    """The canonical value that an answer states, None when it states none or several.

    Args:
        kind: one of world.QUESTION_KINDS; anything else is a UsageError.
    """
    if kind not in QUESTION_KINDS:
        raise UsageError(f"unknown kind of question {kind!r}", fix=f"one of {', '.join(QUESTION_KINDS)}")
    folded = _REASON.sub("", _folded(text))
    if kind == "count":
        numbers = {_SPOKEN.get(n) or _DIGITS.get(n) or int(n) for n in _NUMBER.findall(folded)}
        return str(numbers.pop()) if len(numbers) == 1 else None
    if kind in ("existence", "comparison"):
        return _yes_or_no(folded, by_verb=kind == "existence")
    if kind == "reading":
        quoted = set(re.findall(r"[「『]([^」』]+)[」』]", folded))
        runs = quoted or set(_SIGN_RUN.findall(folded))
        return runs.pop() if len(runs) == 1 else None
    if kind == "description":
        triples = parse_caption(text)
        return _canonical(triples) if triples and all(map(all, triples)) else None
    wanted = "position" if kind == "relation" else kind
    values = {value for role, value in _tokens(folded) if role == wanted}
    if len(values) != 1 or OTHER in values:
        return None
    value = values.pop()
    return value if kind != "relation" or value in ("左", "右", "上", "下") else None


def answer_is_right(kind: str, text: str, gold: str) -> bool:
    """Whether an answer states exactly the canonical value `gold`."""
    return answer_value(kind, text) == unicodedata.normalize("NFKC", gold)


def _folded(text: str) -> str:
    """Half and full width alike, no spaces; the comma as 、."""
    return re.sub(r"[^\S\n]+", "", unicodedata.normalize("NFKC", text)).replace(",", "、")


def _tokens(text: str) -> list[tuple[str, str]]:
    """The known words in order as (role, world's word); the longest word wins, so 左上 is never 左 and 上."""
    tokens = []
    for match in _TOKEN.finditer(text):
        if match["row"]:
            row, column = match["row"].replace("中", ""), match["column"].replace("真ん中", "").replace("中央", "")
            tokens.append(("position", column + row or "中央"))
        else:
            tokens.append(_WORDS[match[0]])
    return tokens


def _sentence_triples(tokens: list[tuple[str, str]]) -> set[Triple]:
    """「左上に赤い丸」 and 「赤い丸が左上に」 alike: what a sentence names first says on which side positions stand."""
    order = [role for role, _ in tokens if role in ("position", "shape")]
    position_last = order[:1] == ["shape"] and "position" in order
    triples: set[Triple] = set()
    position, colours = "", list[str]()
    waiting: list[tuple[str, str]] = []  # figures whose position is still to come
    for role, value in tokens:
        if role == "colour":
            colours.append(value)
        elif role == "noun":
            colours = []
        elif role == "shape":
            figures = [(colour, value) for colour in colours or [""]]
            colours = []
            if position_last:
                waiting += figures
            else:
                triples |= {(position, *figure) for figure in figures}
        elif role == "position":
            position = value
            if waiting:
                triples |= {(value, *figure) for figure in waiting}
                waiting, position = [], ""
    return triples | {(position, *figure) for figure in waiting}


def _fits(partial: Triple, other: Triple) -> bool:
    return all(not a or a == b for a, b in zip(partial, other, strict=True))


def _yes_or_no(text: str, by_verb: bool) -> str | None:
    no, yes = bool(_NO.search(text)), bool(_YES.search(text))
    if by_verb:
        denied = bool(_NEGATED.search(text))
        no = no or denied
        yes = yes or (not denied and re.search(r"あります|見えます|写っています", text) is not None)
    return None if yes == no else ("はい" if yes else "いいえ")


def _truth_set(truth: Sequence[Sequence[str]]) -> frozenset[Triple]:
    return frozenset((position, colour, shape) for position, colour, shape in truth)


def _canonical(triples: frozenset[Triple]) -> str:
    ordered = sorted(triples, key=lambda t: (POSITIONS.index(t[0]), t[1], t[2]))
    return "|".join("/".join(triple) for triple in ordered)
