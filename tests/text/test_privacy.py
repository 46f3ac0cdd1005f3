"""Personal data becomes placeholders; measurements, dates, codes and statutes stay as they are."""

import pytest

from jvlm.text.privacy import ADDRESS, MAIL, POSTAL_CODE, TELEPHONE, mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("連絡先は taro.yamada+x@mail.kyoto-u.ac.jp です", f"連絡先は {MAIL} です"),
        ("電話03-1234-5678まで", f"電話{TELEPHONE}まで"),
        ("TEL: 0463(12)3456", f"TEL: {TELEPHONE}"),
        ("携帯09012345678に", f"携帯{TELEPHONE}に"),
        ("+81-90-1234-5678へ", f"{TELEPHONE}へ"),
        ("℡ 075−123−4567", f"℡ {TELEPHONE}"),
        ("〒606-8501 京都市左京区吉田本町36-1", f"〒{POSTAL_CODE} 京都市左京区吉田本町{ADDRESS}"),
        ("東京都千代田区丸の内1丁目2番3号に住む", f"東京都千代田区丸の内{ADDRESS}に住む"),
        ("住所：新潟県長岡市表町二丁目2番21号", f"住所：新潟県長岡市表町{ADDRESS}"),
        ("松江市末次町86番地", f"松江市末次町{ADDRESS}"),
    ],
)
def test_personal_data_is_masked(text: str, masked: str) -> None:
    assert mask(text)[0] == masked
    assert mask(masked) == (masked, {})  # once is enough


@pytest.mark.parametrize(
    "text",
    [
        "血圧 120/80 mmHg、脈拍 080-090 整",
        "2024-01-05 から 2024-02-10 まで",
        "受付は0120-444-444（無料）",
        "設定例は user@example.com とする",
        "Python では @property を使う",
        "ICD-10: C34.1、K35-K38",
        "YJコード 1124017F1020、JAN 4987123456789",
        "第一条 市町村は、前項の規定により",
        "0.05-0.10-0.15 mg/kg を投与",
        "座標 035-1234",
        "令和4年4月1日から東京都内で3-5人",
        "A市では人口10-12万人",
        "版は 10.0.12-3456",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert mask(text) == (text, {})


def test_counts_tell_what_was_masked() -> None:
    _, found = mask("a@b.co.jp、c@d.jp、03-1234-5678")
    assert found == {MAIL: 2, TELEPHONE: 1}
