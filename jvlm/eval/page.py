"""The run report as one HTML page: inline style, SVG and pictures, no script, nothing fetched.

Every text that a model, a corpus or a folder name could have put there goes through `esc`.
"""

import html
from collections.abc import Iterable, Sequence
from typing import Any

from jvlm.eval.charts import interval_bars, line_chart, share_bar
from jvlm.eval.style import STYLE
from jvlm.eval.toy import thumbnail_name

MODELS = ("instruct", "prefer", "medical")  # in the order in which the recipe makes them
NONE = '<span class="na">なし / n/a</span>'
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
    "dirt_recall": ("混ぜた汚れの検出率", "planted dirt found", "%"),
    "clean_loss": ("正常行の損失", "clean lines lost", "%"),
    "seconds": ("全段階の時間", "time of all stages", "time"),
    "peak_gib": ("最大メモリ", "peak memory", "gib"),
}
_TRANSITIONS = {
    "persistent": ("両方正解", "right both times"),
    "gain": ("画像ありでのみ正解", "right only with the image"),
    "harm": ("画像なしでのみ正解", "right only without"),
    "unresolved": ("両方誤り", "wrong both times"),
}


def render(report: dict[str, Any], curves: dict[str, Any], pictures: dict[str, str]) -> str:
    """The page.

    Args:
        report: what `write_report` returns.
        curves: stage → series name → (step, value) points.
        pictures: thumbnail file name → data URI.
    """
    stages = report["stages"]
    sections = [
        _headline(report),
        _examples(report["examples"], pictures),
        _general(at(stages, "eval", "metrics", "models")),
        _exam(at(stages, "eval", "metrics", "exam")),
        _removal(at(stages, "eval", "metrics")),
        _retrieval(at(stages, "clip", "metrics", "retrieval")),
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


def at(data: Any, *keys: str) -> Any:
    """The value under nested keys, None when any of them is missing."""
    for key in keys:
        if not isinstance(data, dict) or key not in data:
            return None
        data = data[key]
    return data


def esc(value: object) -> str:
    return html.escape(str(value), quote=True)


def show(value: float | None, unit: str) -> str:
    """A figure in its unit, or 「なし / n/a」."""
    if value is None:
        return NONE
    if unit == "%":
        return f"{value:.1%}"
    if unit == "points":
        return f"{value * 100:+.1f} <small>pt</small>"
    if unit == "time":
        return f"{int(value) // 60} <small>min</small> {int(value) % 60:02d} <small>s</small>"
    return f"{value:.2f} <small>GiB</small>" if unit == "gib" else f"{value:.3f}"


def _section(japanese: str, english: str, body: str, note: str = "") -> str:
    text = f'<p class="note">{note}</p>' if note else ""
    return f'<section><h2>{japanese} <span lang="en">{english}</span></h2>{text}{body or f"<p>{NONE}</p>"}</section>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    if not body:
        return ""
    heads = "".join(f"<th>{cell}</th>" for cell in head)
    top = f"<thead><tr>{heads}</tr></thead>" if head else ""
    return f'<div class="scroll"><table class="{kind}">{top}<tbody>{body}</tbody></table></div>'


def _both(japanese: str, english: str) -> str:
    return f'{esc(japanese)} <span class="en" lang="en">{esc(english)}</span>'


def _tile(value: str, japanese: str, english: str) -> str:
    return f'<div class="tile"><b>{value}</b>{_both(japanese, english)}</div>'


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else NONE


def _headline(report: dict[str, Any]) -> str:
    targets = {row["name"]: row for row in report["targets"]}
    rows = []
    for key, value in report["headline"].items():
        japanese, english, unit = NAMES[key]
        row = targets.get(key)
        met = "" if row is None else _verdict(row["met"])
        rows.append([_both(japanese, english), show(value, unit), esc(row["target"]) if row else "", met])
    judged = [row["met"] for row in report["targets"] if row["met"] is not None]
    count = f"{sum(judged)} / {len(report['targets'])}"
    headline = report["headline"]
    tiles = [
        (count, "達成した目標", "targets met"),
        (show(headline["seconds"], "time"), "時間", "time"),
        (show(headline["peak_gib"], "gib"), "最大メモリ", "peak memory"),
    ]
    tile = "".join(_tile(*parts) for parts in tiles)
    table = _table([_both("項目", "figure"), _both("値", "value"), _both("目標", "target"), ""], rows, "wide figures")
    return f'<div class="tiles">{tile}</div>' + _section("要点", "Headline", table)


def _verdict(met: bool | None) -> str:
    if met is None:
        return NONE
    return f'<span class="{"good" if met else "bad"}">{"達成 met" if met else "未達 not met"}</span>'


def _examples(examples: list[dict[str, Any]], pictures: dict[str, str]) -> str:
    cards = []
    for example in examples:
        mark = '<span class="good">○</span>' if example["correct"] else '<span class="bad">×</span>'
        picture = pictures[thumbnail_name(example["id"])]
        cards.append(
            f'<figure><img src="{picture}" alt="{esc(example["id"])}"><figcaption>'
            f'<p class="q">{esc(example["question"])}</p><p class="a">{mark} {esc(example["output"])}</p>'
            f'<p class="g">正解 gold: {esc(example["gold"])}</p></figcaption></figure>'
        )
    models = {str(example["model"]) for example in examples}
    note = "番号順の最初の画像、選んでいない。 First images by id, not chosen."
    note += f" モデル model: {esc(', '.join(models))}" if models else ""
    grid = f'<div class="cards">{"".join(cards)}</div>' if cards else ""
    return _section("テスト画像と答え", "Test images and answers", grid, note)


_SCORE_HEAD = [
    _both("課題", "task"), _both("モデル", "model"), _both("値", "value"), _both("95 %区間", "interval"), "n",
    _both("偶然", "chance"), _both("定数", "constant"),
]  # fmt: skip


def _score_row(name: str, model: str, score: Any) -> list[str]:
    low, high = at(score, "interval") or (None, None)
    interval = NONE if low is None else f"{low:.1%} – {high:.1%}"
    constant, chance = at(score, "best_constant"), at(score, "chance")
    shown = ["–" if value is None else show(value, "%") for value in (chance, constant)]
    return [name, esc(model), f"<b>{show(at(score, 'value'), '%')}</b>", interval, esc(at(score, "n") or "–"), *shown]


def _general(models: Any) -> str:
    if not models:
        return _section("一般の評価", "General evaluation", "")
    tasks = [
        (_both("キャプション完全一致", "captions exact"), ("captions_test", "exact")),
        (_both("同、未見の組", "captions exact, unseen pairs"), ("captions_compositional", "exact")),
        (_both("無い物を言う率", "captions naming an absent object"), ("captions_test", "hallucination")),
        (_both("質問応答", "question answering, mean of kinds"), ("vqa_test",)),
        (_both("同、画像なし", "same, image removed"), ("vqa_test", "removed")),
    ]
    ordered = [name for name in MODELS if name in models] + sorted(set(models) - set(MODELS))
    rows = [
        _score_row(label, name, score)
        for label, path in tasks
        for name in ordered
        if (score := at(models, name, *path)) is not None
    ]
    body = _table(_SCORE_HEAD, rows, "wide")
    last = ordered[-1]
    for japanese, english, path in (("画像あり", "with image", ()), ("画像なし", "image removed", ("removed",))):
        kinds = at(models, last, "vqa_test", *path, "kinds") or {}
        bars = interval_bars([(k, s["value"], s["interval"], s["best_constant"]) for k, s in kinds.items()])
        if bars:
            body += f"<h3>{_both(f'種類別、{japanese}（{last}）', f'by kind, {english}')}</h3>{bars}"
            rows = [_score_row(esc(kind), last, score) for kind, score in kinds.items()]
            body += f"<details><summary>数値 figures</summary>{_table(_SCORE_HEAD, rows, 'wide')}</details>"
    return _section("一般の評価", "General evaluation", body, "縦線は定数解。 The tick is the best constant answer.")


_WHEN = (("before", "前", "before"), ("after", "後", "after"))


def _exam(exam: Any) -> str:
    if not exam:
        return _section("架空医学の試験", "Exam in the fictional medicine", "")
    tasks = [
        (_both("画像問題", "image questions"), ("exam_image", "image")),
        (_both("画像問題、画像なし", "image questions, image removed"), ("exam_image", "removed")),
        (_both("試験全問", "whole paper"), ("exam_paper", "image")),
        (_both("教科書だけの事実", "facts of the textbook alone"), ("exam_twohop", "image")),
    ]
    rows = [
        _score_row(label, f"{ja} {en}", score)
        for label, path in tasks
        for when, ja, en in _WHEN
        if (score := at(exam, when, *path)) is not None
    ]
    sheets = [(ja, en, s) for when, ja, en in _WHEN if (s := at(exam, when, "exam_paper", "sheet")) is not None]
    cards = "".join(_sheet(ja, en, sheet) for ja, en, sheet in sheets)
    body = _table(_SCORE_HEAD, rows, "wide")
    if cards:
        body += f'<h3>{_both("成績表", "score sheet")}</h3><div class="sheets">{cards}</div>'
    note = "医療の追加学習の前と後。病名も薬も架空。 Before and after the medical stage; all names are invented."
    return _section("架空医学の試験", "Exam in the fictional medicine", body, note)


def _sheet(japanese: str, english: str, sheet: dict[str, Any]) -> str:
    required, general = sheet["required"], sheet["general"]
    cutoff = f"≥ {sheet['cutoff']:.0%}"
    required_share, general_share = show(sheet["required_share"], "%"), show(sheet["general_share"], "%")
    required_passed, general_passed = _tick(sheet["required_passed"]), _tick(sheet["general_passed"])
    rows = [
        [_both("必修", "required"), _points(required), required_share, "≥ 80%", required_passed],
        [_both("一般", "general"), _points(general), general_share, cutoff, general_passed],
        [_both("禁忌肢", "taboo options"), str(sheet["taboo_count"]), "", "≤ 3", _tick(sheet["taboo_passed"])],
        [_both("合計", "total"), f"{sheet['points']} / {sheet['total']}", show(sheet["share"], "%"), "", ""],
        [_both("採点除外", "removed"), str(len(sheet["removed"])), "", "", ""],
        [_both("読めない答え", "unreadable answers"), str(sheet["parse_failures"]), "", "", ""],
    ]
    parts = [
        [f"{ja} {esc(name)}", _points(tally), f"{tally['correct']} / {tally['n']}"]
        for ja, group in (("区分 block", "by_section"), ("種類 kind", "by_kind"))
        for name, tally in sorted(sheet[group].items())
    ]
    passed = '<b class="good">合格 passed</b>' if sheet["passed"] else '<b class="bad">不合格 failed</b>'
    return (
        f'<div class="sheet"><h4>{_both(f"医療学習の{japanese}", f"{english} medical")}{passed}</h4>{_table([], rows)}'
        f"<details><summary>内訳 breakdown</summary>{_table(['', '点 points', '正答 right'], parts)}</details></div>"
    )


def _points(tally: dict[str, Any]) -> str:
    return f"{tally['points']} / {tally['total']}"


def _tick(passed: bool) -> str:
    return '<span class="good">✓</span>' if passed else '<span class="bad">✗</span>'


def _removal(metrics: Any) -> str:
    audits = [
        ("試験、医療学習前", "exam before medical", at(metrics, "exam", "before", "exam_image", "audit")),
        ("試験、医療学習後", "exam after medical", at(metrics, "exam", "after", "exam_image", "audit")),
    ]
    audits += [
        (f"質問応答（{name}）", f"question answering, {name}", at(metrics, "models", name, "vqa_test", "audit"))
        for name in MODELS
    ]
    body, rows = "", []
    for japanese, english, audit in audits:
        if audit is None:
            continue
        counts = audit["transitions"]
        body += f"<h3>{_both(japanese, english)}</h3>{share_bar([(name, counts[name]) for name in _TRANSITIONS])}"
        low, high = audit["net_interval"]
        row = [_both(japanese, english), str(audit["n"]), *(str(counts[name]) for name in _TRANSITIONS)]
        row += [f"<b>{show(audit['net_effect'], 'points')}</b>", f"{low * 100:+.1f} – {high * 100:+.1f}"]
        rows.append([*row, show(audit["retention"], "%"), f"{audit['mcnemar_p']:.2g}"])
    if not rows:
        return _section("画像を除く比較", "Image-removal comparison", "")
    legend = "".join(
        f'<span><i class="p{number}"></i>{_both(*names)}</span>' for number, names in enumerate(_TRANSITIONS.values())
    )
    head = ["", "n", *(_both(*names) for names in _TRANSITIONS.values()), _both("差", "net effect")]
    head += [_both("95 %区間", "interval"), _both("残存", "retention"), _both("McNemar p", "exact")]
    note = "同じ問題を画像あり、画像トークンなしで問う。 The same questions, with the image and with no image token."
    body = f'<p class="legend">{legend}</p>{body}{_table(head, rows, "wide")}'
    return _section("画像を除く比較", "Image-removal comparison", body, note)


def _retrieval(retrieval: Any) -> str:
    rows = [
        (name, value, at(retrieval, f"{key}_interval") or (value, value), at(retrieval, "chance"))
        for key, name in (("image_to_text", "画像→文 image→text"), ("text_to_image", "文→画像 text→image"))
        if (value := at(retrieval, key)) is not None
    ]
    pools, size = at(retrieval, "pools"), at(retrieval, "pool_size")
    note = f"異なる文 {esc(size)} × {esc(pools)}。 {esc(pools)} pools of {esc(size)} distinct captions, tick: chance."
    return _section("検索 R@1", "Retrieval R@1", interval_bars(rows), note if rows else "")


def _curves(curves: dict[str, Any]) -> str:
    charts = []
    for stage, series in curves.items():
        chart = line_chart(series, "step", "loss")
        if chart:
            charts.append(f"<figure><figcaption>{esc(stage)}</figcaption>{chart}</figure>")
    return _section("損失の推移", "Loss curves", f'<div class="charts">{"".join(charts)}</div>' if charts else "")


def _language(pretrain: Any, tokenizer: Any) -> str:
    bits, by = _both("ビット／文字", "bits per character"), _both("トークナイザ", "tokenizer")
    rows = [
        [_both("言語モデル", "language model"), bits, show(at(pretrain, "bpc_model"), "bits")],
        [_both("5-gram（Kneser-Ney）", "same text"), bits, show(at(pretrain, "bpc_ngram"), "bits")],
    ]
    plain = (("vocab_size", "語彙数", "vocabulary"), ("chars_per_token", "文字／トークン", "characters per token"))
    for key, japanese, english in plain:
        value = at(tokenizer, key)
        shown = NONE if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
        rows.append([by, _both(japanese, english), shown])
    rows.append([by, _both("バイト表現の割合", "byte share"), show(at(tokenizer, "byte_share"), "%")])
    roundtrip = at(tokenizer, "roundtrip")
    shown = NONE if roundtrip is None else _tick(roundtrip) if isinstance(roundtrip, bool) else show(roundtrip, "%")
    rows.append([by, _both("可逆性", "round trip"), shown])
    missing = pretrain is None and tokenizer is None
    return _section("文章とトークン", "Text and tokens", "" if missing else _table([], rows))


def _cleaning(corpus: Any) -> str:
    if corpus is None:
        return _section("清掃で除いたもの", "What cleaning removed", "")
    sizes = (
        ("documents_in", "文書（前）", "documents in"),
        ("documents_out", "文書（後）", "documents out"),
        ("characters", "文字", "characters"),
    )
    tiles = "".join(_tile(_count(at(corpus, key)), ja, en) for key, ja, en in sizes)
    rows = []
    for reason, removed in (at(corpus, "removed") or {}).items():
        examples = [str(example) for example in at(removed, "examples") or []]
        cut = [example[:_CUT] + ("…" if len(example) > _CUT else "") for example in examples]
        rows.append([esc(reason), esc(at(removed, "count")), "".join(f"<q>{esc(text)}</q>" for text in cut) or NONE])
    head = [_both("理由", "reason"), _both("件数", "count"), _both("例", "examples")]
    body = f'<div class="tiles">{tiles}</div>{_table(head, rows, "wide removed")}'
    kinds = at(corpus, "dirt_by_kind") or {}
    found = [[esc(kind), _dirt(value)] for kind, value in kinds.items()]
    table = _table([_both("混ぜた汚れ", "planted dirt"), _both("検出", "found")], found)
    return _section("清掃で除いたもの", "What cleaning removed", body + table)


def _dirt(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{esc(key)} {_dirt(part)}" for key, part in value.items())
    return show(value, "%") if isinstance(value, float) else esc(value)


def _cost(stages: dict[str, Any]) -> str:
    longest = max((at(stage, "seconds") or 0 for stage in stages.values()), default=0) or 1
    rows = []
    for name, stage in stages.items():
        seconds = at(stage, "seconds")
        width = 0 if seconds is None else 100 * seconds / longest
        bar = f'<span class="meter"><i style="width:{width:.1f}%"></i></span>'
        rows.append([esc(name), bar, show(seconds, "time"), show(at(stage, "peak_gib"), "gib")])
    head = [_both("段階", "stage"), "", _both("時間", "time"), _both("最大メモリ", "peak memory")]
    return _section("時間とメモリ", "Time and memory", _table(head, rows, "wide"))
