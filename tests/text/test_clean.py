import pytest

from jvlm.text.boilerplate import is_boilerplate
from jvlm.text.clean import clean
from jvlm.text.rules import is_foreign, is_mojibake, is_symbol_garbage

BODY = "赤い丸が左上にあり、青い星が右下にある。二つは同じ大きさだ。"
CLINICAL = [
    "診断：急性虫垂炎",
    "既往歴：高血圧症、糖尿病",
    "血圧 120/80 mmHg",
    "体温 36.8℃\u3000SpO2 98％（室内気）",
    "WBC 12,300/μL、CRP 8.4 mg/dL",
    "CRP (+)、RF (−)、抗核抗体 (±)",
    "尿蛋白 (2+)\u3000尿潜血 (−)",
    "10⁻³ mol/L",
    "①子宮頸癌\u3000②卵巣嚢腫\u3000③腟炎",
    "Rp) フェニトイン 100mg 3T 分3 毎食後",
    "Hb 13.2 ↑\u3000Plt 8.1万 ↓",
    "腱反射：右 (++) 左 (+)",
    "JCS Ⅱ-10、GCS E3V4M5",
    "腹部：平坦・軟、圧痛（＋）、反跳痛（−）",
    "患者は病院の予約サイトにログインできず、電話で受診を申し込んだ。",
    "産後の食事メニューと運動について指導した。",
    "検索した限りでは同様の報告はない。",
    "|項目|値|基準|",
    "|---|---|---|",
    "つらいです(´･ω･`)",
    "異常なし",
    "拡大",
    "中",
    "コメント：特記事項なし",
    "C反応性蛋白（CRP）",
    "(C) 抗菌薬を投与する",
    "心電図：Ⅱ、Ⅲ、aVFでST上昇",
    "―――――――――――",
    "※※ 注意 ※※",
]

BOILERPLATE = [
    "ホーム ＞ 医療 ＞ 記事",
    "Copyright © 2021 Toy Inc. All Rights Reserved.",
    "当サイトではCookieを使用しています。",
    "ログイン | 新規登録 | お問い合わせ",
    "メニュー",
    "続きを読む",
    "この記事をシェアする",
    "前の記事へ\u3000次の記事へ",
    "プライバシーポリシー",
    "会員登録はこちらから",
    "無断転載を禁じます。",
    "JavaScriptを有効にしてください",
    "コメント（12）",
    "スポンサーリンク",
    "詳しくはこちら",
    "カテゴリー：日記",
    "続きは会員登録してお読みください",
    "公式アカウントをフォローしてね",
]


@pytest.mark.parametrize("line", CLINICAL)
def test_clinical_and_plain_lines_stay(line: str) -> None:
    result = clean(f"{BODY}\n{line}\n{BODY[::-1]}")
    assert not result.removals
    assert result.text is not None
    assert line in result.text.split("\n")


def test_a_document_of_clinical_lines_alone_stays() -> None:
    text = "\n".join(CLINICAL[:6])
    assert clean(text).text == text


@pytest.mark.parametrize("line", BOILERPLATE)
def test_boilerplate_goes_and_the_text_stays(line: str) -> None:
    assert is_boilerplate(line)
    result = clean(f"{BODY}\n{line}")
    assert result.text == BODY
    assert [(r.reason, r.line) for r in result.removals] == [("boilerplate", 2)]


@pytest.mark.parametrize("wrong", ["cp932", "latin-1", "cp1252"])
def test_mojibake(wrong: str) -> None:
    broken = BODY.encode().decode(wrong, errors="replace")
    assert is_mojibake(broken)
    assert clean(broken).text is None
    assert clean(f"{BODY}\n{broken}").text == BODY
    assert is_mojibake(BODY.encode("cp932").decode("latin-1"))


@pytest.mark.parametrize(
    "text", ["足が縺れて転んだ。", "Café naïve Ångström", "ﾌｪﾆﾄｲﾝ錠を投与", "𠮷田さんの髙い声", "「ｱｯ!」"]
)
def test_rare_characters_are_not_mojibake(text: str) -> None:
    assert not is_mojibake(text)


def test_repeated_lines() -> None:
    assert clean(f"{BODY}\n{BODY}\n{BODY}\n終わり。").text == f"{BODY}\n終わり。"
    short = "はい。\nいいえ。\nはい。\n異常なし\n熱はない。\n異常なし\n以上で終わります。"
    assert clean(short).text == short
    assert clean("\n".join([BODY] * 8)).text is None
    third = clean("\n".join([BODY, "一回目。", BODY, "二回目。", BODY, "三回目。"]))
    assert [(r.reason, r.line) for r in third.removals] == [("repeated_line", 5)]


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ("The quick brown fox jumps over the lazy dog near the river bank.", True),
        ("我们今天去公园看花，他说这些花很漂亮，大家都很喜欢。", True),
        ("急性闌尾炎是最常見的外科急症之一，患者的症狀包括腹痛、發燒與噁心。", True),
        ("오늘은 날씨가 좋아서 공원에 갔습니다. 꽃이 아주 예뻤어요.", True),
        ("MRI では T2 強調像で high signal を認め、DWI でも diffusion restriction を示した。", False),
        ("診断：急性虫垂炎\n既往歴：高血圧症、糖尿病", False),
        ("HbA1c 7.2%", False),
        (BODY, False),
    ],
)
def test_other_languages(text: str, foreign: bool) -> None:
    assert is_foreign(text) is foreign


def test_symbol_garbage() -> None:
    for line in ("■□◆◇#$%&@!*^~|¥{}", "$#@!%^&*()_+{}|", "★☆◆@@##$$%%&&"):
        assert is_symbol_garbage(line)
    assert clean("#$%&'()~|`{+*}<>?_\n3819 2281 0042").text is None


def test_reasons_and_shape_of_the_result() -> None:
    assert [r.reason for r in clean("短い。").removals] == ["too_short"]
    assert clean("").text is None
    assert clean(f"　{BODY}  \n\n\n\n{BODY[::-1]}\n\n").text == f"　{BODY}\n\n{BODY[::-1]}"
    assert clean("ＣＴを撮った。結果を待っているところだ。").text == "CTを撮った。結果を待っているところだ。"
    text = clean("\n".join([BODY, *BOILERPLATE, *CLINICAL])).text
    assert text is not None
    assert clean(text).text == text
