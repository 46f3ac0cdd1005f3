"""The report page's sections of a run on real data, each figure beside what needs no learning."""

from statistics import mean
from typing import Any

from jvlm.eval.charts import interval_bars
from jvlm.eval.markup import NONE, at, both, count, esc, last_model, section, show, table
from jvlm.eval.page_abilities import KINDS

_ARMS = (
    ("image", "その画像", "its image"),
    ("other_image", "別の画像", "another image"),
    ("removed", "画像なし", "image removed"),
)
_JAPANESE = ("一般、日本語だけ", "general, Japanese alone")
_GENERAL = ("一般、英語も", "general, English too")
_EXAM = ("国家試験の問題文", "exam questions")


def limits_section(stages: dict[str, Any]) -> str:
    """What a reader must know before reading the figures."""
    characters = count(at(stages, "corpus", "metrics", "total", "train", "chars"))
    images = count(at(stages, "data", "metrics", "captions_train"))
    medical = count(at(stages, "data", "metrics", "medical_training"))
    japanese = (
        f"{characters} 字の文章と {images} 枚の画像、次に医療の文章と {medical} 問の"
        "画像つき問答で、一から学習した小さなモデルである。"
        "この大きさで試験が偶然を超えることは期待できず、合否ではなく区間を見る。何を学んだかは、見たことのない文章と写真で、物差しと並べて示す。"
        "レシピの元になったデータでは、医療の文章の大半は法令、古い随筆、薬価表であり、医学の教科書ではない。"
        "食品写真の設定は、この試験写真の結果を見て選んだので、少し良く出ている。"
    )
    english = (
        f"A small model trained from nothing on {characters} characters and {images} pictures, then on medical text "
        f"and {medical} questions on pictures. At this size nobody should expect an exam above chance: read the "
        "intervals, not the verdicts. What was learned is shown on text and photos never seen, beside a yardstick. In "
        "the data the recipe was made with, most of the medical text is law, old essays and drug lists, not medicine. "
        "The settings for grocery photos were chosen looking at these very photos, which flatters that figure a little."
    )
    return section("読む前に", "Before reading", f'<p>{japanese}</p><p lang="en">{english}</p>')


def pictures_section(models: Any) -> str:
    """Short questions about pictures, per kind: with its image, with another, with none."""
    body = ""
    for kinds in (at(models, str(last_model(models)), "pictures") or {}).values():
        for kind, scores in kinds.items():
            japanese, english = KINDS.get(kind, (kind, kind))
            rows = [
                (f"{ja} {en}", score["value"], score["interval"], score["best_constant"])
                for arm, ja, en in _ARMS
                if (score := at(scores, arm)) is not None and score["value"] is not None
            ]
            first = at(scores, "image") or {}
            note = f"n = {first.get('n')}, 答えの種類 answers: {scores['answers']}, "
            note += f"定数解 constant: {esc(scores['constant'])} ({show(at(first, 'best_constant'), '%')})"
            body += f"<h3>{both(japanese, english)}</h3>{interval_bars(rows)}<p class='note'>{note}</p>"
    note = "縦線は、画像を見ずに同じ答えを返す最良の解。 The tick is the best answer that looks at nothing."
    return section("写真を見て答える", "Questions about pictures", body, note if body else "")


def text_section(pretrain: Any, models: Any, change: Any) -> str:
    """Bits per character on text never seen, beside the n-gram, through the stages, and their differences."""
    rows = [
        [both("言語モデル", "model, pretrained"), both(*_JAPANESE), _bits(pretrain, "bpc_model")],
        [both("5-gram（Kneser-Ney）", "on the same characters"), both(*_JAPANESE), _bits(pretrain, "bpc_ngram")],
    ]
    for name, japanese, english in (("instruct", "医療学習前", "before medical"), ("medical", "医療学習後", "after")):
        for key, (ja, en) in (("general", _GENERAL), ("exam", _EXAM)):
            rows.append([both(japanese, english), both(ja, en), _bits(at(models, name, "bpc"), key)])
    for difference, japanese, english, ja, en in (
        (at(pretrain, "bpc_model_minus_ngram"), "言語モデル − 5-gram", "model − 5-gram", *_JAPANESE),
        (at(change, "general"), "医療学習による変化", "change through medical", *_GENERAL),
        (at(change, "exam"), "医療学習による変化", "change through medical", *_EXAM),
    ):
        if difference is not None:
            low, high = difference["interval"]
            told = f"{difference['value']:+.3f} <small>{low:+.3f} – {high:+.3f}, n = {esc(difference['n'])}</small>"
            rows.append([both(japanese, english), both(ja, en), told])
    note = "少ないほどよい。どの文章も学習に使っていない。区間は文書を引き直したもの。"
    note += " Lower is better; none of these texts was trained on. Intervals redraw whole documents."
    return section("見たことのない文章", "Text never seen", table([], rows), note)


def _bits(data: Any, key: str) -> str:
    return show(at(data, key), "bits") if at(data, key) is not None else NONE


def within_source_section(retrieval: Any) -> str:
    """Retrieval among the pairs of one source, over chance."""
    sources = at(retrieval, "sources") or {}
    rows = [
        [
            esc(name),
            esc(s["n"]),
            esc(s["captions"]),
            show(s["r_at_k"], "%"),
            show(s["chance"], "%"),
            f"{s['over_chance']:.2f} ×",
        ]
        for name, s in sources.items()
    ]
    head = [both("出典", "source"), both("問い", "queries"), both("説明文", "captions"), f"R@{esc(at(retrieval, 'k'))}"]
    head += [both("偶然", "chance"), both("偶然の何倍", "over chance")]
    if not rows:
        return section("出典の中での検索", "Retrieval within one source", "")
    low, high = retrieval["interval"]
    mixed = retrieval["source_only_over_chance"]
    note = (
        f"平均 {retrieval['over_chance']:.2f} 倍（95 %区間 {low:.2f} – {high:.2f}）。 Mean over sources. "
        f"全出典を混ぜると、出典を当てるだけで {mixed:.1f} 倍になるので、混ぜた数字は使わない。 "
        f"In a mixed gallery, knowing the source alone gives {mixed:.1f} ×: such a figure would prove nothing."
    )
    if len(sources) > 1:  # captions made from labels are easier than written ones: no source may carry the mean alone
        best = max(sources, key=lambda name: float(sources[name]["over_chance"]))
        others = mean(s["over_chance"] for name, s in sources.items() if name != best)
        note += f" {esc(best)} を除くと {others:.2f} 倍。 Without {esc(best)}: {others:.2f} ×."
    return section("出典の中での検索", "Retrieval within one source", table(head, rows, "wide"), note)


def faults_section(data: Any) -> str:
    """What of the data could not be used, faults of the same words counted."""
    rows = [[esc(fault["error"]), count(fault["n"]), esc(fault["first"])] for fault in at(data, "faults") or []]
    head = [both("理由", "reason"), both("件数", "number"), both("最初の場所", "first place")]
    note = "すべては data/errors.jsonl にある。 All of them stand in data/errors.jsonl." if rows else ""
    body = table(head, rows, "wide") if rows or at(data, "faults") is None else "<p>0</p>"
    return section("使えなかったデータ", "Data that could not be used", body, note)
