"""The run report as one HTML page: inline style, SVG and pictures, no script, nothing fetched.

Every text that a model, a corpus or a folder name could have put there goes through `esc`.
"""

from typing import Any

from jvlm.eval.charts import line_chart
from jvlm.eval.markup import NONE, at, both, count, esc, section, show, table, tile
from jvlm.eval.page_abilities import abilities_section
from jvlm.eval.page_combine import combine_section
from jvlm.eval.page_exams import exam_audits_section, published_exams_section
from jvlm.eval.page_real import (
    faults_section,
    limits_section,
    pictures_section,
    text_section,
    within_source_section,
)
from jvlm.eval.page_scores import exam_section, general_section, removal_section, retrieval_section
from jvlm.eval.style import STYLE
from jvlm.eval.thumbnails import thumbnail_name

_MARKS = {True: '<span class="good">○</span> ', False: '<span class="bad">×</span> ', None: ""}
_CUT = 180  # characters of a corpus example that are shown

# headline key → Japanese, English, unit
NAMES: dict[str, tuple[str, str, str]] = {
    "caption_exact_test": ("キャプション完全一致", "captions exactly right, test", "%"),
    "caption_exact_compositional": ("同、未見の色と形の組", "same, unseen colour-shape pairs", "%"),
    "caption_exact_drop_prefer": ("選好学習による一致率の低下", "exact match lost through prefer", "points"),
    "vqa_test": ("画像質問応答", "visual question answering", "%"),
    "vqa_removed_over_constant": ("画像なし − 最良の定数解", "image removed − best constant", "points"),
    "vqa_forgetting": ("医療学習による質問応答の低下", "question answering lost through medical", "points"),
    "retrieval_r1_of_100": ("画像と文の検索 R@1（100件）", "retrieval R@1 of 100", "%"),
    "bpc_model": ("言語モデルのビット／文字", "language model, bits per character", "bits"),
    "bpc_ngram": ("5-gram のビット／文字", "5-gram, bits per character", "bits"),
    "exam_image_before": ("試験の画像問題：医療学習前", "exam image questions before medical", "%"),
    "exam_image_after": ("試験の画像問題：医療学習後", "exam image questions after medical", "%"),
    "exam_image_removed": ("同、画像を除く", "same, image removed", "%"),
    "exam_twohop_unseen": ("教科書だけにある事実の問題", "facts of the textbook alone", "%"),
    "hallucination_before": ("無い物を言う率：選好学習前", "captions naming an absent object, before prefer", "%"),
    "hallucination_after": ("同、選好学習後", "same, after prefer", "%"),
    "general_bpc_before": ("一般の文章、医療学習前", "general text, before medical", "bits"),
    "general_bpc_after": ("一般の文章、医療学習後", "general text, after medical", "bits"),
    "exam_bpc_before": ("国家試験の問題文、医療学習前", "exam questions, before medical", "bits"),
    "exam_bpc_after": ("国家試験の問題文、医療学習後", "exam questions, after medical", "bits"),
    "retrieval_within_source_over_chance": ("出典の中での検索 R@10", "retrieval within one source, R@10", "times"),
    "grocery_accuracy": ("見たことのない食品写真の名前", "naming grocery photos never seen", "%"),
    "grocery_accuracy_other_image": ("同、別の画像", "same, another image", "%"),
    "grocery_accuracy_removed": ("同、画像なし", "same, image removed", "%"),
    "grocery_best_constant": ("同、最良の定数解", "same, best constant", "%"),
    "dirt_recall": ("混ぜた汚れの検出率", "planted dirt found", "%"),
    "clean_loss": ("正常行の損失", "clean lines lost", "%"),
    "seconds": ("全段階の時間", "time of all stages", "time"),
    "peak_gib": ("最大メモリ", "peak memory", "gib"),
}


def render(report: dict[str, Any], curves: dict[str, Any], pictures: dict[str, str]) -> str:
    """The page.

    Args:
        report: what `write_report` returns.
        curves: stage → series name → (step, value) points.
        pictures: thumbnail file name → data URI.
    """
    stages = report["stages"]
    real = at(stages, "data", "metrics", "set") == "real"
    sections = [
        _headline(report),
        *([limits_section(stages), abilities_section(stages)] if real else []),
        _examples(report["examples"], pictures),
        *(_real_scores(stages) if real else _toy_scores(stages)),
        *([combine_section(at(stages, "combine", "metrics"))] if "combine" in stages else []),
        _curves(curves),
        _language(at(stages, "pretrain", "metrics"), at(stages, "tokenizer", "metrics")),
        _cleaning(at(stages, "corpus", "metrics")),
        _cost(stages),
    ]
    title = f"jvlm — {esc(report['name'])}"
    return (
        '<!DOCTYPE html>\n<html lang="ja"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>"
        f'<header><p class="kicker">jvlm</p><h1>実行の報告 <span lang="en">Run report</span></h1>'
        f'<p class="run">{esc(report["name"])}</p></header>{"".join(sections)}'
        "<footer><p>割合の区間は95 %信頼区間。「定数」は、画像も問題も見ずに同じ答えを返す最良の解答。"
        '<span lang="en">Intervals are 95 %. “Constant” is the best single answer given to every question of a kind, '
        "looking at nothing.</span></p></footer></main></body></html>\n"
    )


def _toy_scores(stages: dict[str, Any]) -> list[str]:
    return [
        general_section(at(stages, "eval", "metrics", "models")),
        exam_section(at(stages, "eval", "metrics", "exam")),
        removal_section(at(stages, "eval", "metrics")),
        retrieval_section(at(stages, "clip", "metrics", "retrieval")),
    ]


def _real_scores(stages: dict[str, Any]) -> list[str]:
    models = at(stages, "eval", "metrics", "models")
    return [
        pictures_section(models),
        within_source_section(at(stages, "clip", "metrics", "retrieval_within_source")),
        text_section(at(stages, "pretrain", "metrics"), models, at(stages, "eval", "metrics", "bpc_change")),
        published_exams_section(at(stages, "eval", "metrics", "exams"), at(stages, "eval", "metrics", "exam_change")),
        exam_audits_section(at(stages, "eval", "metrics", "exams")),
        faults_section(at(stages, "data", "metrics")),
    ]


def _headline(report: dict[str, Any]) -> str:
    targets = {row["name"]: row for row in report["targets"]}
    rows = []
    for key, value in report["headline"].items():
        japanese, english, unit = NAMES[key]
        row = targets.get(key)
        met = "" if row is None else _verdict(row["met"])
        rows.append([both(japanese, english), show(value, unit), _target(row["target"], unit) if row else "", met])
    judged = [row["met"] for row in report["targets"] if row["met"] is not None]
    reached = f"{sum(judged)} / {len(report['targets'])}"
    headline = report["headline"]
    tiles = [
        (reached, "達成した目標", "targets met"),
        (show(headline["seconds"], "time"), "時間", "time"),
        (show(headline["peak_gib"], "gib"), "最大メモリ", "peak memory"),
    ]
    shown = "".join(tile(*parts) for parts in tiles)
    figures = table([both("項目", "figure"), both("値", "value"), both("目標", "target"), ""], rows, "wide figures")
    return f'<div class="tiles">{shown}</div>' + section("要点", "Headline", figures)


def _target(text: str, unit: str) -> str:
    """The target in the unit of its figure; one that depends on another figure stands as it is."""
    sign, _, bound = text.partition(" ")
    try:
        number = float(bound)
    except ValueError:
        return esc(text)
    if unit == "times":
        return f"{sign} {number:g} ×"
    return f"{sign} {number:.0%}" if unit == "%" else f"{sign} {number * 100:g} <small>pt</small>"


def _verdict(met: bool | None) -> str:
    if met is None:
        return NONE
    return f'<span class="{"good" if met else "bad"}">{"達成 met" if met else "未達 not met"}</span>'


def _examples(examples: list[dict[str, Any]], pictures: dict[str, str]) -> str:
    cards = []
    for example in examples:
        mark = _MARKS[example["correct"]]
        picture = pictures[thumbnail_name(example["id"])]
        cards.append(
            f'<figure><img src="{picture}" alt="{esc(example["id"])}"><figcaption>'
            f'<p class="q">{esc(example["question"])}</p><p class="a">{mark}{esc(example["output"])}</p>'
            f'<p class="g">正解 gold: {esc(example["gold"])}</p></figcaption></figure>'
        )
    models = {str(example["model"]) for example in examples}
    note = "決まった順の最初の画像、選んでいない。 First images in a fixed order, not chosen."
    note += f" モデル model: {esc(', '.join(models))}" if models else ""
    grid = f'<div class="cards">{"".join(cards)}</div>' if cards else ""
    return section("テスト画像と答え", "Test images and answers", grid, note)


def _curves(curves: dict[str, Any]) -> str:
    charts = []
    for stage, series in curves.items():
        chart = line_chart(series, "step", "loss")
        if chart:
            charts.append(f"<figure><figcaption>{esc(stage)}</figcaption>{chart}</figure>")
    return section("損失の推移", "Loss curves", f'<div class="charts">{"".join(charts)}</div>' if charts else "")


def _language(pretrain: Any, tokenizer: Any) -> str:
    bits, by = both("ビット／文字", "bits per character"), both("トークナイザ", "tokenizer")
    rows = [
        [both("言語モデル", "language model"), bits, show(at(pretrain, "bpc_model"), "bits")],
        [both("5-gram（Kneser-Ney）", "same text"), bits, show(at(pretrain, "bpc_ngram"), "bits")],
    ]
    plain = (("vocab_size", "語彙数", "vocabulary"), ("chars_per_token", "文字／トークン", "characters per token"))
    for key, japanese, english in plain:
        value = at(tokenizer, key)
        shown = NONE if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
        rows.append([by, both(japanese, english), shown])
    rows.append([by, both("バイト表現の割合", "byte share"), show(at(tokenizer, "byte_share"), "%")])
    rows.append([by, both("可逆性", "round trip"), show(at(tokenizer, "roundtrip"), "%")])
    missing = pretrain is None and tokenizer is None
    return section("文章とトークン", "Text and tokens", "" if missing else table([], rows))


def _cleaning(corpus: Any) -> str:
    if corpus is None:
        return section("清掃で除いたもの", "What cleaning removed", "")
    steps = (
        ("read", "読んだ文書", "documents read"),
        ("clean", "行の清掃後", "after line cleaning"),
        ("unique", "重複除去後", "after deduplication"),
    )
    tiles = "".join(tile(count(at(corpus, "total", key, "documents")), ja, en) for key, ja, en in steps)
    characters = at(corpus, "total", "train", "chars")
    tiles += tile(count(characters), "学習用の文字", "characters for training")
    rows = []
    for reason, removed in (at(corpus, "removed") or {}).items():
        texts = [str(at(example, "excerpt")) for example in at(removed, "examples") or []]
        quotes = "".join(f"<q>{esc(text[:_CUT])}{'…' if len(text) > _CUT else ''}</q>" for text in texts)
        rows.append([esc(reason), *(count(at(removed, unit)) for unit in ("documents", "lines")), quotes or NONE])
    head = [both("理由", "reason"), both("文書", "documents"), both("行", "lines"), both("例", "examples")]
    body = f'<div class="tiles">{tiles}</div>{table(head, rows, "wide removed")}'
    kinds = at(corpus, "kinds") or {}
    found = [[esc(kind), show(at(score, "recall"), "%"), count(at(score, "items"))] for kind, score in kinds.items()]
    head = [both("混ぜた汚れ", "planted dirt"), both("検出", "found"), "n"]
    return section("清掃で除いたもの", "What cleaning removed", body + table(head, found))


def _cost(stages: dict[str, Any]) -> str:
    longest = max((at(stage, "seconds") or 0 for stage in stages.values()), default=0) or 1
    rows = []
    for name, stage in stages.items():
        seconds = at(stage, "seconds")
        width = 0 if seconds is None else 100 * seconds / longest
        bar = f'<span class="meter"><i style="width:{width:.1f}%"></i></span>'
        rows.append([esc(name), bar, show(seconds, "time"), show(at(stage, "peak_gib"), "gib")])
    head = [both("段階", "stage"), "", both("時間", "time"), both("最大メモリ", "peak memory")]
    return section("時間とメモリ", "Time and memory", table(head, rows, "wide"))
