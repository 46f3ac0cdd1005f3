"""The case table is what the parser means; None is an answer that cannot be read."""

import pytest

from jvlm.eval.items import Option
from jvlm.eval.parsing import parse_choices, parse_number

DISEASES = [
    Option("a", "赤斑病"),
    Option("b", "青斑病"),
    Option("c", "白斑病"),
    Option("d", "星核症"),
    Option("e", "輪状熱"),
]
COUNTS = [Option(label, text) for label, text in zip("abcde", ["1個", "2個", "3個", "4個", "13個"], strict=True)]
NESTED = [Option(label, text) for label, text in zip("abc", ["赤い丸", "赤い丸と青い星", "A型"], strict=True)]

SINGLE = [
    ("a", ["a"]),
    ("Ｂ", ["b"]),
    ("答えはＢです", ["b"]),
    ("答えはＢです。", ["b"]),
    ("正解は「c」です。", ["c"]),
    ("(d)", ["d"]),
    ("**e**", ["e"]),
    ("b.", ["b"]),
    ("c）白斑病", ["c"]),
    ("d 星核症", ["d"]),
    ("選択肢eが正しい", ["e"]),
    ("ア", ["a"]),
    ("「イ」", ["b"]),
    ("ｳ", ["c"]),
    ("㋓", ["d"]),
    ("答え：オ", ["e"]),
    ("①", ["a"]),
    ("⑵", ["b"]),
    ("ⓒ", ["c"]),
    ("Ⓓ", ["d"]),
    ("❺", ["e"]),
    ("３", ["c"]),
    ("3番", ["c"]),
    ("4です", ["d"]),
    ("星核症", ["d"]),
    ("星核症です。", ["d"]),
    ("この画像の診断は輪状熱と考えられます。", ["e"]),
    ("Answer: C", ["c"]),
    ("aではなくbです", ["b"]),
    ("赤斑病ではなく、青斑病です。", ["b"]),
    ("cは誤り。正解はd", ["d"]),
    ("答えはa。理由：所見bは見られない", ["a"]),
    ("所見bより答えはaである", ["a"]),
    ("<think>aかbか迷う</think>c", ["c"]),
    ("<think>aかbか", None),
    ("解答：a\n解説：bは青い。", ["a"]),
    ("ビタミンCが足りない", None),
    ("アレルギーです", None),
    ("a か b", None),
    ("a or b", None),
    ("a 青斑病", None),
    ("赤斑病か青斑病", None),
    ("わかりません", None),
    ("", None),
    ("f", None),
    ("6", None),
    ("3つあります", None),
    ("a red circle", None),
]
MULTI = [
    ("①と③", ["a", "c"]),
    ("①③", ["a", "c"]),
    ("a,c", ["a", "c"]),
    ("c、a", ["a", "c"]),
    ("ａ・ｃ", ["a", "c"]),
    ("ac", ["a", "c"]),
    ("アウ", ["a", "c"]),
    ("ア、ウ", ["a", "c"]),
    ("a and c", ["a", "c"]),
    ("1と3", ["a", "c"]),
    ("赤斑病、白斑病", ["a", "c"]),
    ("答えは白斑病と赤斑病です", ["a", "c"]),
    ("a 赤斑病、c 白斑病", ["a", "c"]),
    ("「ア」と「ウ」", ["a", "c"]),
    ("a", ["a"]),
    ("a, b, c", None),
    ("全部です", None),
]
TEXTS = [
    (COUNTS, "3個", ["c"]),
    (COUNTS, "13個です", ["e"]),
    (COUNTS, "全部で13個あります", ["e"]),
    (COUNTS, "４個", ["d"]),
    (COUNTS, "c", ["c"]),
    (NESTED, "赤い丸と青い星", ["b"]),
    (NESTED, "赤い丸と青い星があります", ["b"]),
    (NESTED, "A型", ["c"]),
    (NESTED, "赤い丸", ["a"]),
]
NUMBERS = [
    ("12", "12"),
    ("１２個です", "12"),
    ("12個", "12"),
    ("約12個", "12"),
    ("答えは7です。", "7"),
    ("3.50 mg/dL", "3.5"),
    ("3,500個", "3500"),
    ("1,234,567", "1234567"),
    ("-3", "-3"),
    ("−3度", "-3"),
    ("マイナス3", "-3"),
    ("十二", "12"),
    ("十二個です。", "12"),
    ("二十", "20"),
    ("百五個", "105"),
    ("三千二百", "3200"),
    ("一万二千", "12000"),
    ("一二〇", "120"),
    ("三点五", "3.5"),
    ("細胞は七個あります", "7"),
    ("12 - 3 = 9", "9"),
    ("5×10³", "5000"),
    ("1.2×10^3", "1200"),
    ("12/mm3", "12"),
    ("7個、つまり7", "7"),
    ("正解：8\n別の数は9", "8"),
    ("0", "0"),
    (".5", "0.5"),
    ("10", "10"),
    ("3〜5個", None),
    ("3-5", None),
    ("全部で12個、うち赤が3個", None),
    ("一般に三角です", None),
    ("たくさん", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "expected"), SINGLE)
def test_single_choice(text: str, expected: list[str] | None) -> None:
    assert parse_choices(text, DISEASES, 1) == expected


@pytest.mark.parametrize(("text", "expected"), MULTI)
def test_multiple_choice(text: str, expected: list[str] | None) -> None:
    assert parse_choices(text, DISEASES, 2) == expected


@pytest.mark.parametrize(("options", "text", "expected"), TEXTS)
def test_choice_texts_win_over_labels(options: list[Option], text: str, expected: list[str]) -> None:
    assert parse_choices(text, options, 1) == expected


@pytest.mark.parametrize(("text", "expected"), NUMBERS)
def test_numbers(text: str, expected: str | None) -> None:
    assert parse_number(text) == expected


def test_every_label_form_of_every_option() -> None:
    for i, option in enumerate(DISEASES):
        forms = ["abcde"[i], "ABCDE"[i], "ａｂｃｄｅ"[i], "アイウエオ"[i], "①②③④⑤"[i], "12345"[i], option.text]
        for form in forms:
            for sentence in (form, f"{form}です", f"答えは{form}です。", f"「{form}」", f"正解：{form}"):
                assert parse_choices(sentence, DISEASES, 1) == [option.label], sentence
