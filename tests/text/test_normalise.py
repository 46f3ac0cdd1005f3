import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jvlm.text.normalise import has_face, normalise

UNTOUCHED = [
    "10⁻³ mol/L、Ca²⁺、cm²、½錠",
    "①②③ ㎎ ㎏ ㎠ ㎖ ℃ μg ％",
    "　字下げ。「かぎ」（括弧）：；！？",
    "(´･ω･`) （＾ｖ＾） ヽ(ﾟｰﾟ)ﾉ ＼(^o^)／ (｡･ω･｡) ｍ(_ _)ｍ ｷﾀ━(ﾟ∀ﾟ)━ (；ω；)",
    "診断：急性虫垂炎\n血圧 120/80 mmHg",
]


@pytest.mark.parametrize("text", UNTOUCHED)
def test_meaning_is_left_alone(text: str) -> None:
    assert normalise(text) == text


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("ＣＴ検査で１２０／８０", "CT検査で120／80"),
        ("ﾌｪﾆﾄｲﾝを投与｡", "フェニトインを投与。"),
        ("ｶﾞﾝﾏGTP", "ガンマGTP"),
        ("3ｶ月後", "3カ月後"),
        ("か\u3099ん は\u309aん", "がん ぱん"),
        ("一行\r\n二行\r三行", "一行\n二行\n三行"),
        ("5\u00a0mg", "5 mg"),
        ("（ＣＴ）と（ＭＲＩ検査）", "（CT）と（MRI検査）"),
    ],
)
def test_typing_habits_are_undone(typed: str, expected: str) -> None:
    assert normalise(typed) == expected


def test_faces_and_clinical_brackets_are_told_apart() -> None:
    assert has_face("はい(^_^)")
    assert has_face("(´・ω・`)")
    assert not has_face("(+)（−）（p < 0.05）（HbA1c）(3) （A、B、C）（右・左）")


NASTY = "ｱｶﾞﾟｰ･｡ﾉＡｍ５(（)）^´ωか\u3099\r\n\u00a0ー━＼o1漢"


@settings(max_examples=500, deadline=None)
@given(st.text(st.one_of(st.sampled_from(NASTY), st.characters(codec="utf-8"))))
def test_idempotent(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
