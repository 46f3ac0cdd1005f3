"""The report page's answer to "what has it learned?": every figure of a run on real data judged by one rule.

Learned means better than what needs no learning, with the whole 95 % interval. The yardstick is the
best constant answer for pictures and exams, chance for retrieval, the n-gram for text, the model before for medicine;
worse than no learning is an exam only below chance, for the best constant is found by looking at the answers.
"""

from collections.abc import Iterator
from typing import Any

from jvlm.eval.markup import at, both, esc, last_model, section, show, table

KINDS = {
    "naming": ("見たことのない食品写真の名前", "naming grocery photos never seen"),
    "count_white": ("白血球の数", "counting white blood cells"),
    "count_red": ("赤血球の数", "counting red blood cells"),
    "CLOSED": ("放射線画像の質問（はい・いいえ等）", "radiology questions, closed"),
    "OPEN": ("放射線画像の質問（自由）", "radiology questions, open"),
}
_BETTER = '<b class="good">学んだ learned</b>'
_SAME = "物差しと変わらない no better"
_WORSE = '<b class="bad">物差しに及ばない worse</b>'
Row = list[str]


def abilities_section(stages: dict[str, Any]) -> str:
    """One row per ability: the figure, what is reached without learning, and the verdict."""
    metrics = {name: at(stages, name, "metrics") for name in stages}
    rows = [*_text(metrics), *_retrieval(metrics), *_pictures(metrics), *_exams(metrics)]
    head = [both("何を", "what"), both("値", "value"), both("物差し", "yardstick"), ""]
    note = "「学んだ」は、95 %区間の全体が物差しを上回ること。文章の区間は物差しとの差のもの。"
    note += " Learned: better than the yardstick with the whole 95 % interval, for text that of the difference."
    return section(
        "できること、できないこと", "What it can and cannot do", table(head, rows, "wide"), note if rows else ""
    )


def _text(metrics: dict[str, Any]) -> Iterator[Row]:
    model, ngram, gap = (at(metrics, "pretrain", f"bpc_{key}") for key in ("model", "ngram", "model_minus_ngram"))
    if gap is not None:
        what = both("見たことのない日本語の予測", "predicting Japanese never seen (bits per character)")
        yield [what, *_fewer_bits(model, f"{show(ngram, 'bits')} 5-gram", gap)]
    before, after = (at(metrics, "eval", "models", name, "bpc", "exam") for name in ("instruct", "medical"))
    change = at(metrics, "eval", "bpc_change", "exam")
    if change is not None:
        what = both("国家試験の問題文の予測", "predicting exam questions (bits per character)")
        without = f"{show(before, 'bits')} {both('医療学習前', 'before medical')}"
        yield [what, *_fewer_bits(after, without, change)]


def _fewer_bits(value: float, yardstick: str, difference: dict[str, Any]) -> Row:
    low, high = difference["interval"]
    told = f"{show(value, 'bits')} <small>{low:+.3f} – {high:+.3f}</small>"
    return [told, yardstick, _judge(-high, -low, 0)]


def _retrieval(metrics: dict[str, Any]) -> Iterator[Row]:
    found = at(metrics, "clip", "retrieval_within_source")
    if found and found["sources"]:
        low, high = found["interval"]
        value = f"{show(found['over_chance'], 'times')} <small>{low:.2f} – {high:.2f}</small>"
        what = both("説明文に合う画像を同じ出典から探す", "finding the picture of a caption within one source, R@10")
        yield [what, value, f"1 × {both('偶然', 'chance')}", _judge(low, high, 1)]


def _pictures(metrics: dict[str, Any]) -> Iterator[Row]:
    models = at(metrics, "eval", "models")
    for kinds in (at(models, str(last_model(models)), "pictures") or {}).values():
        for kind, scores in kinds.items():
            score = at(scores, "image")
            if score and score["value"] is not None and score["best_constant"] is not None:
                constant = f"{show(score['best_constant'], '%')} {both('定数', 'constant')} {esc(scores['constant'])}"
                yield [both(*KINDS.get(kind, (kind, kind))), *_share(score, constant, score["best_constant"])]


def _exams(metrics: dict[str, Any]) -> Iterator[Row]:
    model = last_model(at(metrics, "eval", "models"))
    for exam, result in sorted((at(metrics, "eval", "exams", str(model)) or {}).items()):
        score = at(result, "all")
        if score and score["chance"] is not None and score["best_constant"] is not None:
            chance, constant = score["chance"], score["best_constant"]
            yardstick = (
                f"{show(constant, '%')} {both('定数', 'constant')}, {show(chance, '%')} {both('偶然', 'chance')}"
            )
            yield [f"{both('試験', 'exam')} {esc(exam)}", *_share(score, yardstick, constant, chance)]


def _share(score: dict[str, Any], yardstick: str, bound: float, floor: float | None = None) -> Row:
    low, high = score["interval"]
    verdict = _judge(low, high, bound, floor)
    return [f"{show(score['value'], '%')} <small>{low:.1%} – {high:.1%}</small>", yardstick, verdict]


def _judge(low: float, high: float, bound: float, floor: float | None = None) -> str:
    return _BETTER if low > bound else _WORSE if high < (bound if floor is None else floor) else _SAME
