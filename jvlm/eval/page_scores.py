"""The report page's sections of scores: general, exam, image removal, retrieval."""

from typing import Any

from jvlm.eval.charts import interval_bars, share_bar
from jvlm.eval.markup import MODELS, NONE, at, both, esc, section, show, table

_TRANSITIONS = {
    "persistent": ("両方正解", "right both times"),
    "gain": ("画像ありでのみ正解", "right only with the image"),
    "harm": ("画像なしでのみ正解", "right only without"),
    "unresolved": ("両方誤り", "wrong both times"),
}


_SCORE_HEAD = [
    both("課題", "task"), both("モデル", "model"), both("値", "value"), both("95 %区間", "interval"), "n",
    both("偶然", "chance"), both("定数", "constant"),
]  # fmt: skip


def _score_row(name: str, model: str, score: Any) -> list[str]:
    low, high = at(score, "interval") or (None, None)
    interval = NONE if low is None else f"{low:.1%} – {high:.1%}"
    constant, chance = at(score, "best_constant"), at(score, "chance")
    shown = ["–" if value is None else show(value, "%") for value in (chance, constant)]
    return [name, esc(model), f"<b>{show(at(score, 'value'), '%')}</b>", interval, esc(at(score, "n") or "–"), *shown]


def general_section(models: Any) -> str:
    """Captions and questions of every model, and the last model's accuracy per kind."""
    if not models:
        return section("一般の評価", "General evaluation", "")
    tasks = [
        (both("キャプション完全一致", "captions exact"), ("captions_test", "exact")),
        (both("同、未見の組", "captions exact, unseen pairs"), ("captions_compositional", "exact")),
        (both("無い物を言う率", "captions naming an absent object"), ("captions_test", "hallucination")),
        (both("質問応答", "question answering, mean of kinds"), ("vqa_test",)),
        (both("同、画像なし", "same, image removed"), ("vqa_test", "removed")),
    ]
    ordered = [name for name in MODELS if name in models] + sorted(set(models) - set(MODELS))
    rows = [
        _score_row(label, name, score)
        for label, path in tasks
        for name in ordered
        if (score := at(models, name, *path)) is not None
    ]
    body = table(_SCORE_HEAD, rows, "wide")
    last = ordered[-1]
    for japanese, english, path in (("画像あり", "with image", ()), ("画像なし", "image removed", ("removed",))):
        kinds = at(models, last, "vqa_test", *path, "kinds") or {}
        bars = interval_bars([(k, s["value"], s["interval"], s["best_constant"]) for k, s in kinds.items()])
        if bars:
            body += f"<h3>{both(f'種類別、{japanese}（{last}）', f'by kind, {english}')}</h3>{bars}"
            rows = [_score_row(esc(kind), last, score) for kind, score in kinds.items()]
            body += f"<details><summary>数値 figures</summary>{table(_SCORE_HEAD, rows, 'wide')}</details>"
    return section("一般の評価", "General evaluation", body, "縦線は定数解。 The tick is the best constant answer.")


_WHEN = (("before", "前", "before"), ("after", "後", "after"))


def exam_section(exam: Any) -> str:
    """The exam's accuracies and its sheet, before and after the medical stage."""
    if not exam:
        return section("架空医学の試験", "Exam in the fictional medicine", "")
    tasks = [
        (both("画像問題", "image questions"), ("exam_image", "image")),
        (both("画像問題、画像なし", "image questions, image removed"), ("exam_image", "removed")),
        (both("試験全問", "whole paper"), ("exam_paper", "image")),
        (both("教科書だけの事実", "facts of the textbook alone"), ("exam_twohop", "image")),
    ]
    rows = [
        _score_row(label, f"{ja} {en}", score)
        for label, path in tasks
        for when, ja, en in _WHEN
        if (score := at(exam, when, *path)) is not None
    ]
    sheets = [(ja, en, s) for when, ja, en in _WHEN if (s := at(exam, when, "exam_paper", "sheet")) is not None]
    cards = "".join(_sheet(ja, en, sheet) for ja, en, sheet in sheets)
    body = table(_SCORE_HEAD, rows, "wide")
    if cards:
        body += f'<h3>{both("成績表", "score sheet")}</h3><div class="sheets">{cards}</div>'
    note = "医療の追加学習の前と後。病名も薬も架空。 Before and after the medical stage; all names are invented."
    return section("架空医学の試験", "Exam in the fictional medicine", body, note)


def _sheet(japanese: str, english: str, sheet: dict[str, Any]) -> str:
    required, general = sheet["required"], sheet["general"]
    cutoff = f"≥ {sheet['general_needed']}"
    required_share, general_share = show(sheet["required_share"], "%"), show(sheet["general_share"], "%")
    required_passed, general_passed = _tick(sheet["required_passed"]), _tick(sheet["general_passed"])
    rows = [
        [both("必修", "required"), _points(required), required_share, "≥ 80%", required_passed],
        [both("一般", "general"), _points(general), general_share, cutoff, general_passed],
        [both("禁忌肢", "taboo options"), str(sheet["taboo_count"]), "", "≤ 3", _tick(sheet["taboo_passed"])],
        [both("合計", "total"), f"{sheet['points']} / {sheet['total']}", show(sheet["share"], "%"), "", ""],
        [both("採点除外", "removed"), str(len(sheet["removed"])), "", "", ""],
        [both("読めない答え", "unreadable answers"), str(sheet["parse_failures"]), "", "", ""],
    ]
    parts = [
        [f"{ja} {esc(name)}", _points(tally), f"{tally['correct']} / {tally['n']}"]
        for ja, group in (("区分 block", "by_section"), ("種類 kind", "by_kind"))
        for name, tally in sorted(sheet[group].items())
    ]
    passed = '<b class="good">合格 passed</b>' if sheet["passed"] else '<b class="bad">不合格 failed</b>'
    return (
        f'<div class="sheet"><h4>{both(f"医療学習の{japanese}", f"{english} medical")}{passed}</h4>{table([], rows)}'
        f"<details><summary>内訳 breakdown</summary>{table(['', '点 points', '正答 right'], parts)}</details></div>"
    )


def _points(tally: dict[str, Any]) -> str:
    return f"{tally['points']} / {tally['total']}"


def _tick(passed: bool) -> str:
    return '<span class="good">✓</span>' if passed else '<span class="bad">✗</span>'


def removal_section(metrics: Any) -> str:
    """The four transitions of each audit, as a bar and as figures."""
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
        body += f"<h3>{both(japanese, english)}</h3>{share_bar([(name, counts[name]) for name in _TRANSITIONS])}"
        low, high = audit["net_interval"]
        row = [both(japanese, english), str(audit["n"]), *(str(counts[name]) for name in _TRANSITIONS)]
        row += [f"<b>{show(audit['net_effect'], 'points')}</b>", f"{low * 100:+.1f} – {high * 100:+.1f}"]
        rows.append([*row, show(audit["retention"], "%"), f"{audit['mcnemar_p']:.2g}"])
    if not rows:
        return section("画像を除く比較", "Image-removal comparison", "")
    legend = "".join(
        f'<span><i class="p{number}"></i>{both(*names)}</span>' for number, names in enumerate(_TRANSITIONS.values())
    )
    head = ["", "n", *(both(*names) for names in _TRANSITIONS.values()), both("差", "net effect")]
    head += [both("95 %区間", "interval"), both("残存", "retention"), both("McNemar p", "exact")]
    note = "同じ問題を画像あり、画像トークンなしで問う。 The same questions, with the image and with no image token."
    body = f'<p class="legend">{legend}</p>{body}{table(head, rows, "wide audit")}'
    return section("画像を除く比較", "Image-removal comparison", body, note)


def retrieval_section(retrieval: Any) -> str:
    """R@1 in both directions."""
    rows = [
        (name, value, at(retrieval, f"{key}_interval") or (value, value), at(retrieval, "chance"))
        for key, name in (("image_to_text", "画像→文 image→text"), ("text_to_image", "文→画像 text→image"))
        if (value := at(retrieval, key)) is not None
    ]
    pools, size = at(retrieval, "pools"), at(retrieval, "pool_size")
    note = (
        f"異なる文 {esc(size)} 件 {esc(pools)} 組。 {esc(pools)} pools of {esc(size)} distinct captions, tick: chance."
    )
    return section("検索 R@1", "Retrieval R@1", interval_bars(rows), note if rows else "")
