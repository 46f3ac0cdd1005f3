"""The report page's sections of published exams: scores, papers, and the audits of how the answers came about."""

from collections.abc import Iterator
from typing import Any

from jvlm.eval.charts import line_chart
from jvlm.eval.markup import MODELS, NONE, at, both, esc, section, show, table

_COLUMNS = (
    ("all", "全問", "all"),
    ("text", "文章だけ", "text only"),
    ("image", "画像問題", "with image"),
    ("removed", "同、画像なし", "image removed"),
    ("written", "記述で答える", "written"),
    ("clean", "学習に無い問題", "not in training"),
)
_ARMS = (
    ("removed", "画像なし", "image removed"),
    ("blank", "灰色の画像", "blank image"),
    ("other_image", "別の問題の画像", "another's image"),
    ("drawn_options", "画像なし、選択肢が画像", "removed, options are pictures"),
)
_STATES = ("persistent", "gain", "harm", "unresolved")
_YARDSTICKS = ("chance", "best_constant")
_PARTS = (("required", "必修", "required"), ("general", "一般", "general"), ("all", "全体", "all"))


def published_exams_section(exams: Any, change: Any = None) -> str:
    """Every exam by every model: with and without image, chance, constant; the papers; fields and kinds.

    `change`: by exam the paired test of the last model against the first.
    """
    accuracies, papers, parts = [], [], ""
    for name, model, result in _results(exams):
        whole, sheet = result["all"], at(result, "sheet")
        row = [esc(name), esc(model), *(_accuracy(at(result, column)) for column, _, _ in _COLUMNS)]
        row += [show(whole[key], "%") for key in _YARDSTICKS]
        unread = [_unreadable(whole)] + [
            f"{both('記述', 'written')} {_unreadable(w)}" for w in [at(result, "written")] if w
        ]
        accuracies.append([*row, "<br>".join(unread), esc(len(result["not_asked"]))])
        if sheet:
            papers.append([esc(name), esc(model), *_paper(sheet)])
        parts += _breakdown(name, model, result)
    head = [both("試験", "exam"), both("モデル", "model")]
    columns = [both(japanese, english) for _, japanese, english in _COLUMNS]
    shares = [*head, *columns, both("偶然", "chance"), both("定数", "constant")]
    shares += [both("読めない答え", "unreadable"), both("出題できず", "not asked")]
    marks = [*head, both("点と合格点", "points and marks"), both("禁忌", "taboo"), both("合否", "verdict")]
    marks += [both("紙面にない点", "points absent")]
    note = "学習に使っていない。合否は公表された基準による。 Never trained on; passing marks as announced."
    changed = [[esc(name), *_pair(pair)] for name, pair in (change or {}).items()]
    pairs = [both("試験", "exam"), "n", both("後だけ正しい", "right after alone"), both("前だけ", "before alone")]
    pairs += [both("差", "difference"), both("McNemar p", "exact")]
    body = table(shares, accuracies, "wide") + table(marks, papers, "wide") + table(pairs, changed, "wide") + parts
    return section("国家試験", "National exams", body, note if accuracies else "")


def exam_audits_section(exams: Any) -> str:
    """Whether the picture was used, what order and wording did, what stood in training, what certainty is worth."""
    arms, orders, prompts, leaks, sure, curves = [], [], [], [], [], ""
    for name, model, result in _results(exams):
        head = [esc(name), esc(model)]
        audits = at(result, "audits") or {}
        arms += [[*head, both(ja, en), *_audit(audits[arm])] for arm, ja, en in _ARMS if arm in audits]
        orders += [[*head, *_order(result["order"])]] if at(result, "order") else []
        prompts += [[*head, esc(prompt), *_prompt(score)] for prompt, score in (at(result, "prompts") or {}).items()]
        if told := at(result, "contamination"):
            found = f"{len(told['flagged'])} / {esc(told['n'])}"
            leaks.append([*head, found, esc(told["too_short"]), _accuracy(result["all"]), _accuracy(result["clean"])])
        if known := at(result, "calibration"):
            sure.append([*head, *_calibration(known)])
            chart = line_chart({"risk": [(x, y) for x, y in known["risk_coverage"]]}, "answered", "wrong")
            curves += f"<figure><figcaption>{esc(name)}, {esc(model)}</figcaption>{chart}</figure>" if chart else ""
    names = [both("試験", "exam"), both("モデル", "model")]
    states = [both(*pair) for pair in zip(("残る", "得る", "失う", "解けず"), _STATES, strict=True)]
    body = _titled("画像を使ったか", "was the picture used", arms, [
        *names, both("比較", "against"), "n", *states, both("差", "net effect"), both("残存", "retention"),
        both("答えが変わる", "answer changes"), both("McNemar p", "exact"),
    ])  # fmt: skip
    body += _titled("選択肢の順序", "order of the options", orders, [
        *names, both("平均", "mean"), both("順序ごと", "by order"), both("同じ答え", "same answer"),
        both("いつも正しい", "always right"),
    ])  # fmt: skip
    body += _titled("問い方", "wording of the prompt", prompts, [
        *names, both("問い方", "prompt"), both("正答率", "accuracy"), both("素の問い方との差", "against the plain one"),
        both("McNemar p", "exact"), both("読めない答え", "unreadable"),
    ])  # fmt: skip
    body += _titled("学習文との重なり", "questions in the training text", leaks, [
        *names, both("見つかった", "found"), both("短すぎる", "too short to look for"), both("全問", "all"),
        both("残り", "without them"),
    ])  # fmt: skip
    body += _titled("確信の正しさ", "calibration", sure, [
        *names, "n", both("ECE", "as it is"), both("温度", "temperature"), both("ECE", "with temperature"),
        both("ECE", "Platt"), both("Brier", "0 – 2"), both("誤り2割までの答え", "answered at risk ≤ 20 %"),
        both("その誤り", "their risk"),
    ])  # fmt: skip
    body += f'<div class="charts">{curves}</div>' if curves else ""
    note = (
        "同じ問題を組にして比べる。区間は症例ごとの再抽出。 Paired on the same questions; intervals redraw whole cases."
    )
    return section("試験の点検", "Audits of the exams", body, note if body else "")


def _results(exams: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(exam, model, result) by exam, the models in the order in which a recipe makes them, then others."""
    models = [*MODELS, *(model for model in exams or {} if model not in MODELS)]
    for name in sorted({name for results in (exams or {}).values() for name in results}):
        yield from ((name, model, exams[model][name]) for model in models if at(exams, model, name))


def _titled(japanese: str, english: str, rows: list[list[str]], head: list[str]) -> str:
    return f"<h3>{both(japanese, english)}</h3>{table(head, rows, 'wide')}" if rows else ""


def _accuracy(score: Any) -> str:
    if score is None or score["value"] is None:
        return NONE
    low, high = score["interval"]
    return f"{show(score['value'], '%')} <small>{low:.1%} – {high:.1%}, n = {esc(score['n'])}</small>"


def _unreadable(score: dict[str, Any]) -> str:
    rate = at(score, "parse_failure_rate")
    return esc(score["parse_failures"]) + (f" <small>{rate:.1%}</small>" if rate is not None else "")


def _paper(sheet: dict[str, Any]) -> list[str]:
    needs = [
        f"{both(*names)} {need['points']} / {need['total']} <small>≥ {need['needed']}</small>"
        for part, need in sheet["needs"].items()
        if need["total"]
        for names in [next((pair for key, *pair in _PARTS if key == part), [part, ""])]
    ]
    passed = '<b class="good">合格 passed</b>' if sheet["passed"] else '<b class="bad">不合格 failed</b>'
    limit = f" <small>≤ {esc(sheet['max_taboo'])}</small>" if sheet["max_taboo"] is not None else ""
    taboo = esc(sheet["taboo_count"]) + limit if sheet["taboo_known"] else NONE
    missing = sheet["points_missing"]
    return ["<br>".join(needs), taboo, passed, NONE if missing is None else esc(missing)]


def _breakdown(name: str, model: str, result: dict[str, Any]) -> str:
    rows = [
        [
            label,
            esc(part),
            _accuracy(score),
            show(score["chance"], "%"),
            show(score["best_constant"], "%"),
            _unreadable(score),
        ]
        for group, label in (("kinds", both("種類", "kind")), ("fields", both("領域", "field")))
        for part, score in (at(result, group) or {}).items()
    ]
    head = ["", "", both("正答率", "accuracy"), both("偶然", "chance"), both("定数", "constant")]
    told = table([*head, both("読めない答え", "unreadable")], rows)
    return f"<details><summary>{esc(name)}, {esc(model)}: 内訳 breakdown</summary>{told}</details>" if rows else ""


def _pair(pair: dict[str, Any]) -> list[str]:
    low, high = pair["interval"]
    change = f"{show(pair['difference'], 'points')} <small>{low * 100:+.1f} – {high * 100:+.1f}</small>"
    return [*(esc(pair[key]) for key in ("n", "only_first", "only_second")), change, f"{pair['mcnemar_p']:.2g}"]


def _audit(audit: dict[str, Any]) -> list[str]:
    low, high = audit["net_interval"]
    net = f"<b>{show(audit['net_effect'], 'points')}</b> <small>{low * 100:+.1f} – {high * 100:+.1f}</small>"
    shares = [show(audit["retention"], "%"), show(audit["changed"], "%")]
    return [
        esc(audit["n"]),
        *(esc(audit["transitions"][s]) for s in _STATES),
        net,
        *shares,
        f"{audit['mcnemar_p']:.2g}",
    ]


def _order(order: dict[str, Any]) -> list[str]:
    each = "、".join(f"{share:.1%}" for share in order["orders"])
    return [_accuracy(order), each, show(order["agreement"], "%"), show(order["always_right"], "%")]


def _prompt(score: dict[str, Any]) -> list[str]:
    *_, change, p = _pair(score["against_plain"])
    return [_accuracy(score), change, p, _unreadable(score)]


def _calibration(known: dict[str, Any]) -> list[str]:
    kept = known["abstention"]
    figures = [known["ece"], known["temperature"], known["ece_temperature"], known["ece_platt"], known["brier"]]
    low, high = kept["risk_interval"]
    risk = NONE if kept["risk"] is None else f"{kept['risk']:.1%} <small>{low:.1%} – {high:.1%}</small>"
    return [esc(known["n"]), *(f"{value:.3f}" for value in figures), show(kept["coverage"], "%"), risk]
