"""The report of `jvlm eval` as one HTML page: figures beside published ones, and the wrong answers to look at.

Inline style and pictures, no script, nothing fetched; every text of a model or a data set goes through `esc`.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence

from jvlm.eval.ledger import Record
from jvlm.eval.markup import NONE, both, esc, section, table
from jvlm.eval.page_exams import exam_audits_section, published_exams_section
from jvlm.eval.page_scores import general_section
from jvlm.eval.references import Reference, differences, load_references
from jvlm.eval.style import STYLE
from jvlm.eval.thumbnails import thumbnail
from jvlm.eval.wrong_answers import Wrong

_HEAD = [both("課題", "task"), both("値", "figure"), both("値", "value"), both("95 %区間", "interval"), "n",
         both("偶然", "chance"), both("定数", "constant"), both("読めない答え", "unreadable")]  # fmt: skip


def render_results(model: str, results: Mapping[str, Record], wrong: Mapping[str, Sequence[Wrong]]) -> str:
    """The page of one model.

    Args:
        results: as `results.json` has them, by task or exam.
        wrong: the wrong answers that are shown, by task or exam.
    """
    texts = {name: result for name, result in results.items() if "records" in result}
    exams = {name: result for name, result in results.items() if "all" in result and "audits" in result}
    sections = [
        _texts_section(texts) if texts else "",
        general_section({model: results["general"]}) if "general" in results else "",
        _toy_exam_section(results["exam"]) if "exam" in results else "",
        published_exams_section({model: exams}) + exam_audits_section({model: exams}) if exams else "",
        _wrong_section(wrong),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="ja"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>jvlm eval — {esc(model)}</title><style>{STYLE}</style></head><body><main>"
        '<header><p class="kicker">jvlm eval</p><h1>評価の報告 <span lang="en">Evaluation</span></h1>'
        f'<p class="run">{esc(model)}</p></header>{"".join(sections)}</main></body></html>\n'
    )


def _texts_section(results: Mapping[str, Record]) -> str:
    rows = [row for result in results.values() for row in _rows(result)]
    published = [row for result in results.values() for row in _published(result)]
    head = [both("課題", "task"), both("公表された値", "published"), both("ここでの値", "ours"),
            both("設定の違い", "what differs"), both("出典", "source")]  # fmt: skip
    title = f"<h3>{both('公表された値と並べて', 'beside published figures')}</h3>" if published else ""
    body = table(_HEAD, rows, "wide") + title + table(head, published, "wide")
    return section("ベンチマーク", "Benchmarks", body)


def _toy_exam_section(exam: Record) -> str:
    rows = []
    for task, arms in exam.items():
        for arm in ("image", "removed"):
            if isinstance(arms, dict) and arm in arms:
                score = arms[arm]
                values = [_share(score[key]) for key in ("value", "chance", "best_constant", "parse_failure_rate")]
                interval = "{:.1%} – {:.1%}".format(*score["interval"])
                rows.append([esc(task), esc(arm), f"<b>{values[0]}</b>", interval, esc(score["n"]), *values[1:]])
    return section("架空医学の試験", "Exam in the fictional medicine", table(_HEAD, rows, "wide"))


def _rows(result: Record) -> Iterator[list[str]]:
    """The figures of a task, then those of its kinds and without its pictures."""
    unread = result["parse_failures"] + len(result["not_asked"]) / max(1, result["n"])
    parts = [(result["version"], result.get("metrics") or {}, unread)]
    parts += [(f"{result['version']}, {kind}", metrics, None) for kind, metrics in (result.get("kinds") or {}).items()]
    if "removed" in result:
        parts.append((f"{result['version']}, 画像なし no picture", result["removed"]["metrics"], None))
    for name, metrics, share in parts:
        for metric, figure in metrics.items():
            interval = NONE if figure["interval"] is None else "{:.1%} – {:.1%}".format(*figure["interval"])
            values = [_share(figure[key]) for key in ("value", "chance", "best_constant")]
            told = "" if share is None else f"{share:.1%}"
            yield [esc(name), esc(metric), f"<b>{values[0]}</b>", interval, esc(figure["n"]), *values[1:], told]


def _published(result: Record) -> Iterator[list[str]]:
    """Lines of the same benchmark, those of the same settings first."""
    found = [(differences(one, result), one) for one in load_references() if one.task == result["task"]]
    for differs, one in sorted(found, key=lambda pair: len(pair[0])):
        if one.metric in (result.get("metrics") or {}):
            ours = _share(result["metrics"][one.metric]["value"])
            told = esc(", ".join(differs)) if differs else f'<b class="good">{both("同じ設定", "same settings")}</b>'
            yield [esc(result["version"]), _reference(one), ours, told, esc(one.source)]


def _reference(one: Reference) -> str:
    return f"{esc(one.model)}: {'> ' if one.at_least else ''}{one.value:.1%}"


def _wrong_section(wrong: Mapping[str, Sequence[Wrong]]) -> str:
    parts = []
    for name, answers in wrong.items():
        if answers:
            cards = "".join(_card(answer) for answer in answers)
            parts.append(f'<h3>{esc(name)}</h3><div class="cards">{cards}</div>')
    note = "決まった順の最初のもの、選んでいない。 The first in a fixed order, not chosen."
    return section("まちがえた答え", "Wrong answers", "".join(parts), note if parts else "")


def _card(wrong: Wrong) -> str:
    pictures = "".join(
        f'<img src="data:image/png;base64,{base64.b64encode(thumbnail(picture)).decode()}" alt="{esc(wrong.id)}">'
        for picture in wrong.pictures
    )
    return (
        f'<figure>{pictures}<figcaption><p class="q">{esc(wrong.question)}</p><p class="a">{esc(wrong.said)}</p>'
        f'<p class="g">正解 gold: {esc(wrong.gold)}</p></figcaption></figure>'
    )


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.1%}"
