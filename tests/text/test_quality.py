"""The score of a document: what it tells apart, and that it takes no word of medicine amiss."""

import json

import pytest

from jvlm.files import read_json_lines
from jvlm.text.corpus import CorpusConfig, CorpusInput, build_corpus
from jvlm.text.quality import LISTED, quality

PROSE = "朝から雨が降っていたので、川のそばの道は歩きにくかった。それでも三人は橋まで行き、また戻ってきた。\n"
CHART = "月経困難症と子宮筋腫で婦人科を受診した。性交痛はなく、陰部に潰瘍は認めない。乳房に腫瘤を触れる。\n"
MENU = (
    "ホーム 商品一覧 会社概要 お問い合わせ 採用情報 アクセス\n新着情報 過去の記事一覧 全国の店舗情報 人材募集中\n" * 4
)
NAMES = "田中太郎、佐藤次郎、鈴木三郎、高橋四郎、伊藤五郎、渡辺六郎、山本七郎、中村八郎、小林九郎。\n"
SHOP = "送料無料で激安の人気商品をランキングから選べます。口コミで評判の最安値、クーポンで今すぐ登録できます。\n"


def test_prose_and_charts_score_high_menus_names_and_shops_low():
    assert quality(PROSE) > 0.95
    assert quality(CHART) > 0.95
    assert quality(MENU) < 0.3
    assert quality(NAMES) < 0.2
    assert quality(SHOP) < 0.2
    assert quality("12.5 × 3 ――") == 0


def test_each_part_lowers_the_score_alone():
    assert quality(PROSE.replace("。\n", "\n")) < 0.05  # no sentence ends
    once = quality(PROSE * 12 + "送料無料です。")
    assert 0.7 < once < quality(PROSE * 12 + "雨の音です。")  # one listed word costs little
    assert quality("見出し\n" + PROSE) > 0.95  # a short line needs no end


def test_no_listed_word_is_one_of_a_ward():
    for word in ("婦人科", "性交", "陰部", "乳房", "精神", "自殺", "麻薬", "出血", "癌", "性病", "包茎", "妊娠中絶"):
        assert not any(listed in word or word in listed for listed in LISTED)


@pytest.fixture
def rows(tmp_path):
    texts = [PROSE, CHART, MENU]
    (tmp_path / "pages.jsonl").write_text(
        "".join(json.dumps({"id": str(n), "text": t}) + "\n" for n, t in enumerate(texts))
    )
    return tmp_path / "pages.jsonl"


def build(rows, out, floor, profile="general"):
    config = CorpusConfig(
        inputs=[CorpusInput(path=rows, source="web", profile=profile)], min_quality=floor, held_out_share=0, workers=1
    )
    report = build_corpus(config, out)
    return report, {row["id"] for row in read_json_lines(out / "train.jsonl")}


def test_the_report_counts_scores_and_the_floor_removes(rows, tmp_path):
    report, kept = build(rows, tmp_path / "all", 0.0)
    assert kept == {"0", "1", "2"}
    assert sum(report["quality"]["web"]) == 3
    assert report["quality"]["web"][9] == 2  # prose and chart
    report, kept = build(rows, tmp_path / "best", 0.5)
    assert kept == {"0", "1"}
    assert report["removed"]["low_quality"]["documents"] == 1
    _, kept = build(rows, tmp_path / "ward", 0.5, "medical")
    assert kept == {"0", "1", "2"}
