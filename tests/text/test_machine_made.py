"""Lines nobody wrote as text, and their neighbours that somebody did."""

# ruff: noqa: E501  (a case is read best on one line)
import pytest

from jvlm.text import machine_made as rules
from jvlm.text.machine_made import is_machine_made

CASES = {
    rules.is_count: (
        ["日 月 火 水 木 金 土 1 2 3 4 5 6 7 8 9 10 11", "[1] [2] [3] [4] [5] [6] [7] [8]"],
        ["1、2、3、4の順に押す。", "血圧 120 121 122 123 124 125 126", "平成7年8月9日10時11分12秒", "1 3 5 7 9 11 13 15 17",
         "".join(f"({n})次に掲げる事項を記載した書面" for n in range(1, 10))],
    ),
    rules.is_hash: (
        ["8f14e45fceea167a5a36dedd4bea2543", "id: 550e8400-e29b-41d4-a716-446655440000", "0x1f,0x8b,0x08,0x00," * 4,
         "00000010: 4a56 4c4d 0001 0203 ffd8 ffe0 0010 4a46"],
        ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "コミット 8f14e45fceea167a5a36dedd4bea2543 で直った不具合を、今回の版でもう一度直した。",
         "/usr/local/share/applications/org/example/project/module/file_name.py", "0x1f は 31 である"],
    ),
    rules.is_packed_code: (
        ["!function(e,t){" + "var a=[],b={},c=function(d,e){return d?e:f};" * 4 + "}"],
        ["    return {key: value for key, value in sorted(items) if value is not None and key not in seen}" * 2, "式は f(x)=ax+b である。" * 12],
    ),
    rules.is_placeholder: (
        ["{{username}} さん", "&nbsp;&nbsp;&gt;&gt;", "%%TITLE%%", "[[ファイル:a.jpg|thumb]]"],
        ["テンプレートでは {{ name }} のように書くと、その場所に変数の値が入る仕組みになっている。", "A &amp; B は A & B と書ける。", ""],
    ),
    rules.is_loop: (
        ["安い" * 14, "(^^)" * 20, "★☆" * 12],
        ["ドン、ドン、ドン、と太鼓が鳴る。", "――――――――――――――――――――", "あはははははははははははははは", "+-+-+-+"],
    ),
    rules.is_other_script: (
        ["오늘 날씨가 매우 좋습니다.", "Добро пожаловать на наш сайт", "مرحبا بكم في موقعنا"],
        ["ロシア語で Спасибо と言う。", "α線、β線、γ線", "Ω", "Привет"[:5]],
    ),
    rules.is_word_list: (
        ["東京 賃貸 激安 新宿 渋谷 池袋 品川 一人暮らし 東京 賃貸"],
        ["項目 昨年度 今年度 増減", "甲 乙 丙 丁 戊 己 庚 辛 壬 癸", "今日は 雨が 降ったので、 家で 本を 読んで 過ごした 今日は 本当に 静かだ"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", CASES, ids=lambda rule: rule.__name__)
def test_a_rule_takes_its_form_and_leaves_its_neighbours(rule) -> None:
    made, written = CASES[rule]
    for line in made:
        assert rule(line), line
        assert is_machine_made(line)
    for line in written:
        assert not rule(line), line
