import ast
import inspect

import pytest
from jvlm_data.toyworld import judge
from jvlm_data.toyworld.judge import (
    absent_objects,
    answer_is_right,
    answer_value,
    caption_is_exact,
    parse_caption,
    rank,
)

from jvlm.errors import UsageError

TRUTH = [["左上", "赤", "丸"], ["中央", "青", "四角"]]
EXACT = {tuple(triple) for triple in TRUTH}


def test_judge_knows_nothing_of_the_generator() -> None:
    imported = [
        node.module
        for node in ast.walk(ast.parse(inspect.getsource(judge)))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("jvlm")
    ]
    assert sorted(imported) == ["jvlm.errors", "jvlm_data.toyworld.world"]


@pytest.mark.parametrize(
    "text",
    [
        "左上に赤い丸、中央に青い四角があります。",
        "中央に青い四角、左上に赤い丸があります。",  # another order
        "左上に赤い丸、左上に赤い丸、中央に青い四角、中央に青い四角",  # repeated
        "赤い丸が左上に、青い四角が中央にある。",
        "赤色の円が左上にあり、中央にはブルーの正方形が見えます。",
        " 左上 に レッド の丸 、 真ん中 に 青色の 四角形。",
        "画像の中に図形が2つ以上あります。左上の角に大きな縞模様の赤い丸,中心に水玉の青い四角です｡",
        "上段の左に赤い丸、中段中央に青い四角があります。",
        "白い看板と、左上に赤い丸、中央に青い四角があります。看板には「右下に黒い星」と書いてあります。",
        "左上に赤い丸があります。その丸は大きいです。中央に青い四角があります。",
        "左上に赤い丸、中央に青い四角があります。右に白い星はありません。",
        "左上と中央に図形があります。左上は赤い丸で、中央は青い四角、とても面白い絵ですね。",
    ],
)
def test_many_wordings_are_read(text: str) -> None:
    assert parse_caption(text) == EXACT
    assert caption_is_exact(text, TRUTH)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", set()),
        ("きれいな絵です。", set()),
        ("左に丸", {("左", "", "丸")}),
        ("赤い丸", {("", "赤", "丸")}),
        ("左上に赤い丸、左上に青い丸", {("左上", "赤", "丸"), ("左上", "青", "丸")}),
        ("左上に赤い青い丸", {("左上", "赤", "丸"), ("左上", "青", "丸")}),
        ("左に赤い丸と青い星", {("左", "赤", "丸"), ("左", "青", "星")}),
        ("左上に灰色の六角形", {("左上", "他", "他")}),
        ("上に赤い三角、左に黒い四角、右上に橙の十字、左下に紫の輪", {
            ("上", "赤", "三角"), ("左", "黒", "四角"), ("右上", "橙", "十字"), ("左下", "紫", "輪")}),
        ("右にﾊｰﾄ、赤い、赤い", {("右", "", "ハート")}),
        ("オレンジ色の菱形が右下にあります", {("右下", "橙", "ひし形")}),
    ],
)  # fmt: skip
def test_what_is_read(text: str, expected: set[tuple[str, str, str]]) -> None:
    assert parse_caption(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "左上に赤い丸があります。",  # one is missing
        "左上に赤い丸、中央に青い四角、右に白い星があります。",  # one too many
        "左に赤い丸、中央に青い四角があります。",
        "左上に赤い丸、中央に青い四角、右に星があります。",  # a vague one too many
        "左上に赤い丸、中央に四角があります。",
        "左上に赤い丸、上に赤い丸、中央に青い四角があります。",  # hedging over places
        "左上に赤い丸、中央に青い四角と赤い四角があります。",
        "左上に赤い丸があり、中央に黄緑の四角があります。",
        "",
    ],
)
def test_inexact_captions(text: str) -> None:
    assert not caption_is_exact(text, TRUTH)


def test_absent_objects() -> None:
    assert absent_objects("左上に赤い丸、中央に青い四角があります。", TRUTH) == []
    assert absent_objects("右に赤い丸があります。", TRUTH) == []  # misplaced, not absent
    assert absent_objects("左上に赤い四角、右に赤い四角、下に黒い星。", TRUTH) == [("赤", "四角"), ("黒", "星")]
    assert absent_objects("星があります。", TRUTH) == []


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("colour", "赤です。", "赤"),
        ("colour", "それは黄色い星です", "黄"),
        ("colour", "ｵﾚﾝｼﾞ色です", "橙"),
        ("colour", "赤か青です。", None),
        ("colour", "灰色です。", None),
        ("colour", "わかりません。", None),
        ("shape", "四角です。", "四角"),
        ("shape", "三角形です。", "三角"),
        ("shape", "ハート形の図形です。", "ハート"),
        ("shape", "丸と四角です。", None),
        ("count", "三つです。", "3"),
        ("count", "３個あります。", "3"),
        ("count", "ふたつです。", "2"),
        ("count", "一つか二つです。", None),
        ("count", "三角が一つあります。", "1"),
        ("count", "たくさんです。", None),
        ("position", "左上です。", "左上"),
        ("position", "上です。", "上"),
        ("position", "真ん中にあります。", "中央"),
        ("position", "左か上です。", None),
        ("existence", "はい、あります。", "はい"),
        ("existence", "いいえ、ありません。", "いいえ"),
        ("existence", "ありません。", "いいえ"),
        ("existence", "あります", "はい"),
        ("existence", "はい、ありません。", None),
        ("existence", "四角はいくつ？", None),
        ("comparison", "いいえ、小さいです。", "いいえ"),
        ("comparison", "はい", "はい"),
        ("comparison", "大きい", None),
        ("comparison", "小さいほうなので、いいえ、小さいです。", "いいえ"),
        ("comparison", "大きいから、はい。", "はい"),
        ("relation", "左側です。", "左"),
        ("relation", "左上と右上なので、左側です。", "左"),
        ("relation", "左上にあり、もう一つは右上にあるから、左です。", "左"),
        ("relation", "左上と右上なので、左か右です。", None),
        ("relation", "下にあります。", "下"),
        ("relation", "左上です。", None),
        ("relation", "左右です。", None),
        ("reading", "「ア3」です。", "ア3"),
        ("reading", "ｱ３と書いてあります。", "ア3"),
        ("reading", "「ア」か「3」です。", None),
        ("reading", "読めません。", None),
        ("description", "左上に赤い丸があります。", "左上/赤/丸"),
        ("description", "赤い丸があります。", None),
    ],
)
def test_answer_values(kind: str, text: str, value: str | None) -> None:
    assert answer_value(kind, text) == value
    if value is not None:
        assert answer_is_right(kind, text, value)
    assert not answer_is_right(kind, text, "別の値")


def test_longer_reading_is_not_right() -> None:
    assert not answer_is_right("reading", "「ア3ン」です。", "ア3")
    assert not answer_is_right("reading", "ア33です。", "ア3")


def test_unknown_kind() -> None:
    with pytest.raises(UsageError, match="unknown kind"):
        answer_value("smell", "ばら")


def test_rank() -> None:
    exact = "左上に赤い丸、中央に青い四角。"
    partial = "左上に赤い丸。"
    misplaced = "右に赤い丸。"
    one_absent = "左上に赤い丸、中央に青い四角、下に黒い星。"
    two_absent = "左上に白い輪、中央に紫の星。"
    assert rank([two_absent, misplaced, exact, partial], TRUTH) == (2, 0)
    assert rank([misplaced, partial], TRUTH) == (1, 0)
    assert rank([one_absent, misplaced], TRUTH) == (1, 0)
    assert rank([two_absent, one_absent], TRUTH) == (1, 0)
    assert rank([exact, "中央に青い四角、左上に赤い丸。"], TRUTH) is None
    assert rank([exact], TRUTH) is None
    assert rank([], TRUTH) is None
