"""How much a document reads like Japanese prose: a number from 0 to 1, to look at by source and to set a floor by.

Three shares are multiplied: kana as prose has them (a list of names or products has few), text in sentences that end
(menus and headings do not), and words of a list, which lower the score by how densely they stand. One such word removes
nothing: published lists used as filters delete gynaecology wholesale.
"""

import re

from jvlm.text.rules import KANA, LETTERS, count

KANA_SHARE = 0.3  # of the letters; statutes have a third, novels two thirds
LISTED_AT_ONCE = 5.0  # words of the list in 1,000 characters that halve the score
_ENDS = "。．.！？!?」』）)…♪"
_SHORT = 12  # characters: a heading or an interjection needs no end
# What pages that sell, lure or fill are dense with. None of them is a word of medicine, law or grammar.
LISTED = (
    "送料無料", "激安", "最安値", "格安", "お買い得", "ポイント還元", "クーポン",
    "今すぐ登録", "無料登録", "会員登録", "通販", "クリック", "ランキング", "口コミ",
    "アフィリエイト", "稼げる", "副業", "即日融資", "カジノ", "パチンコ", "競馬予想",
    "楽天", "出会い系", "アダルト", "エロ", "人妻", "風俗", "無修正",
    "おすすめ", "人気商品", "続きを読む", "関連記事", "シェアする", "コメントを投稿", "トラックバック",
    "ツイート",
)  # fmt: skip
_LISTED = re.compile("|".join(map(re.escape, sorted(LISTED, key=len, reverse=True))))


def quality(text: str) -> float:
    """The score of a cleaned document; 0 for one without letters."""
    letters = count(LETTERS, text)
    if not letters:
        return 0.0
    kana = min(1.0, count(KANA, text) / letters / KANA_SHARE)
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    ended = sum(len(line) for line in lines if line[-1] in _ENDS or len(line) <= _SHORT)
    listed = 1000 * len(_LISTED.findall(text)) / len(text)
    return kana * ended / sum(map(len, lines)) / (1 + listed / LISTED_AT_ONCE)
