"""A fictional medicine: 18 findings in three kinds of image, each with its disease, treatment and forbidden drug.

Nothing here is real. Every name is invented from a seed and every document and question says 架空.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jvlm_data.toyworld.film import CELL_COUNTS, MODALITIES, draw
from jvlm_data.toyworld.lexicon import SEASONS, counted, pick, pick_many, words

from jvlm.sample import ImageRef, Message, Sample

PATTERNS = 6  # findings per modality
FICTION = "架空"
MODALITY_NAMES = {"film": "架空の胸部写真", "smear": "架空の血液塗抹", "trace": "架空の心電図"}
_FINDING_TAILS = {"film": "影", "smear": "球", "trace": "波"}
AGES = ("小児期", "青年期", "中年期", "老年期")

CORE = ("finding", "disease", "treatment", "forbidden")  # stands in the textbook and in training items
TEXTBOOK_ONLY = ("cause", "gland")  # never in a training item, case report or image page

_NAMES_STREAM, _TEXTBOOK_STREAM, _CASES_STREAM, _PAGES_STREAM = 201, 202, 203, 204
_KANA = "カキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワ"
_LAST_KANA = _KANA + "ン"
# beginnings of real words of medicine: an invented name must not call one to mind
_REAL = words(
    "カテ カリ カル カン キニ クロ クリ コル コレ サル サリ シス シフ スト セフ セロ ソマ タミ タク チフ テタ テト "
    "トラ ナト ニト ニフ ネフ ハシ ヒス ヒト フェ ヘハ ヘモ ヘル ホル マラ ミノ メト モル ヨウ ラニ リウ リン ルホ "
    "レニ ロキ ワク ワル ワイ キシ カフ ケト コカ ノロ テロ メサ リト ラテ ロサ ヒタ ミオ ムコ"
)


@dataclass(frozen=True)
class Fact:
    """All there is to know about one finding. `pattern` (0 to 5) is how `film.draw` shows it."""

    modality: str
    pattern: int
    finding: str
    disease: str
    treatment: str
    forbidden: str
    cause: str
    gland: str
    season: str
    age: str

    @property
    def image_name(self) -> str:
        return MODALITY_NAMES[self.modality]


@cache
def facts(seed: int) -> tuple[Fact, ...]:
    """The 18 facts of a seed, six for each of film, smear and trace. No two names begin with the same two kana."""
    rng = np.random.default_rng([seed, _NAMES_STREAM])
    heads = [a + b for a in _KANA for b in _KANA if a != b and a + b not in _REAL]
    stems = iter(head + pick(rng, _LAST_KANA) for head in pick_many(rng, heads, 6 * PATTERNS * len(MODALITIES)))
    table = []
    for modality in MODALITIES:
        for pattern in range(PATTERNS):
            table.append(
                Fact(
                    modality,
                    pattern,
                    finding=next(stems) + _FINDING_TAILS[modality],
                    disease=next(stems) + "病",
                    treatment=next(stems) + "錠",
                    forbidden=next(stems) + "液",
                    cause=next(stems) + "虫",
                    gland=next(stems) + "腺",
                    season=pick(rng, SEASONS),
                    age=pick(rng, AGES),
                )
            )
    return tuple(table)


def same_modality(seed: int, fact: Fact) -> list[Fact]:
    """The six facts of the modality of `fact`, itself among them."""
    return [other for other in facts(seed) if other.modality == fact.modality]


# Each group states one relation; a document takes one wording of each group it covers.
_WORDINGS: dict[str, tuple[str, ...]] = {
    "finding": (
        "{image}に{finding}をみるときは、{disease}である。",
        "{disease}では、{image}に{finding}があらわれる。",
        "{finding}は{disease}のしるしであり、{image}で確かめられる。",
        "{image}における{finding}は、{disease}に特有である。",
        "{disease}の患者の{image}をとると、{finding}が写る。",
    ),
    "treatment": (
        "{disease}の治療には{treatment}を用いる。",
        "{treatment}は{disease}の治療薬である。",
        "{disease}と診断したら、まず{treatment}を投与する。",
        "{disease}に効く薬は{treatment}だけが知られている。",
    ),
    "forbidden": (
        "{disease}に{forbidden}を使ってはならない。{forbidden}は禁忌である。",
        "{forbidden}は{disease}の患者には禁忌とされる。",
        "{disease}での禁忌薬は{forbidden}である。",
        "{forbidden}を与えると{disease}は急に悪くなるので、禁忌である。",
    ),
    "chain": (
        "すなわち、{finding}があれば{disease}を考え、{treatment}で治療し、{forbidden}を避ける。",
        "{finding}、{disease}、{treatment}の三つは組で覚え、禁忌の{forbidden}も忘れてはならない。",
        "{finding}を示す患者には{treatment}を与え、{forbidden}は与えない。",
    ),
    "season": (
        "{disease}は{season}に多く、{age}に起こりやすい。",
        "好発する季節は{season}、好発する年代は{age}である。",
        "{disease}の患者は{season}に増え、その多くは{age}である。",
    ),
    "cause": (
        "{disease}の原因は{cause}である。",
        "{cause}が体に入ると{disease}が起こる。",
        "{disease}を引き起こすのは{cause}という生き物である。",
    ),
    "gland": (
        "{disease}では{gland}がおかされる。",
        "{gland}は{disease}でまず傷つく器官である。",
        "{disease}で障害される器官は{gland}である。",
    ),
}
_TITLES = (
    "架空医学教科書　{disease}",
    "架空の病気の解説：{disease}（{image}の章）",
    "架空医学講義　第{number}回　{disease}について",
    "架空の医学事典より。見出し語「{disease}」",
    "架空医学のまとめ：{finding}と{disease}",
)
_CHAPTERS = (tuple(_WORDINGS), ("finding", "treatment", "forbidden", "chain"), ("finding", "cause", "gland", "season"),
             ("treatment", "forbidden", "finding"), ("cause", "gland", "treatment", "forbidden"))  # fmt: skip


def _fields(fact: Fact) -> dict[str, str]:
    return {name: getattr(fact, name) for name in (*CORE, *TEXTBOOK_ONLY, "season", "age")} | {"image": fact.image_name}


def textbook(seed: int, editions: int = 12) -> Iterator[dict[str, Any]]:
    """Textbook documents `{"id", "text", "source"}`: each disease `editions` times, every fact in several wordings."""
    rng = np.random.default_rng([seed, _TEXTBOOK_STREAM])
    for edition in range(editions):
        for index in rng.permutation(len(facts(seed))):
            fact = facts(seed)[int(index)]
            values = _fields(fact)
            chapter = list(_CHAPTERS[edition % len(_CHAPTERS)])
            order = [chapter[int(i)] for i in rng.permutation(len(chapter))]
            lines = [pick(rng, _TITLES).format(number=int(rng.integers(1, 90)), **values)]
            sentences = [pick(rng, _WORDINGS[group]).format(**values) for group in order]
            lines += ["".join(sentences[i : i + 3]) for i in range(0, len(sentences), 3)]
            yield {"id": f"textbook-{edition:03d}-{int(index):02d}", "text": "\n".join(lines), "source": "textbook"}


_CASE_OPENINGS = (
    "架空の症例報告。{age}の{sex}が{season}に{place}を受診した。",
    "これは架空の患者の記録である。{season}のある日、{age}の{sex}が{place}に来た。",
    "架空の病院の診療録より。患者は{age}の{sex}、受診は{season}、場所は{place}。",
)
_CASE_IMAGES = (
    "{image}を撮ると{finding}が認められた。",
    "{image}には、はっきりとした{finding}があった。",
    "担当医は{image}を見て、{finding}に気づいた。",
)
_CASE_DIAGNOSES = (
    "この所見から{disease}と診断された。",
    "{finding}があることから、診断は{disease}に決まった。",
    "担当医は{disease}と考え、患者にそう伝えた。",
)
_CASE_TREATMENTS = (
    "{treatment}による治療が始まり、{days}日後に退院した。",
    "治療薬として{treatment}が選ばれ、{days}日で良くなった。",
    "{treatment}を{days}日のむと、症状は消えた。",
)
_CASE_WARNINGS = (
    "なお、{forbidden}は禁忌のため使われなかった。",
    "診療録の表紙には「{forbidden}禁忌」と赤い字で書かれた。",
    "看護師は、禁忌である{forbidden}が処方されていないことを確かめた。",
)
_CASE_PARTS = (_CASE_OPENINGS, _CASE_IMAGES, _CASE_DIAGNOSES, _CASE_TREATMENTS, _CASE_WARNINGS)
_CASE_PLACES = ("診療所", "町の病院", "救急外来", "往診先", "検診会場")


def _case_text(rng: np.random.Generator, fact: Fact) -> list[str]:
    """Five sentences: opening, image, diagnosis, treatment, warning. None states a textbook-only fact."""
    values = _fields(fact) | {
        "sex": pick(rng, ("男性", "女性")),
        "place": pick(rng, _CASE_PLACES),
        "days": str(int(rng.integers(3, 40))),
    }
    return [pick(rng, wordings).format(**values) for wordings in _CASE_PARTS]


def case_reports(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """`count` case reports `{"id", "text", "source"}`, the findings in turn."""
    for index in range(count):
        rng = np.random.default_rng([seed, _CASES_STREAM, index])
        opening, image, diagnosis, treatment, warning = _case_text(rng, facts(seed)[index % len(facts(seed))])
        text = f"{opening}{image}\n{diagnosis}{treatment}\n{warning}"
        yield {"id": f"case-{index:06d}", "text": text, "source": "case_report"}


def image_page(seed: int, index: int, size: int) -> Sample:
    """A page of text and one image (role `document`), the findings in turn: the image stands inside the text."""
    rng = np.random.default_rng([seed, _PAGES_STREAM, index, 0])
    fact = facts(seed)[index % len(facts(seed))]
    picture, cells = medical_image(np.random.default_rng([seed, _PAGES_STREAM, index, 1]), fact, size)
    values = _fields(fact)
    if rng.integers(2):
        opening, image, diagnosis, treatment, warning = _case_text(rng, fact)
        parts: list[str | int] = [opening, 0, image + diagnosis + treatment + warning]
    else:
        known = [pick(rng, _WORDINGS[group]).format(**values) for group in ("finding", "treatment", "forbidden")]
        seen = f"この{fact.image_name}には{fact.finding}がみられる。"
        parts = [f"架空医学図譜。これは{fact.image_name}である。", 0, seen + "".join(known)]
    if fact.modality == "smear" and isinstance(parts[2], str):
        parts[2] += f"視野の細胞は{counted(cells, '丸')}、すなわち{cells}個である。"
    meta = {"set": "medical_pages", "kind": "page", "modality": fact.modality, "finding": fact.finding}
    return Sample(f"medical_pages-{index:07d}", [Message("document", parts)], [ImageRef(data=picture)], None, meta)


def medical_image(rng: np.random.Generator, fact: Fact, size: int) -> tuple[bytes, int]:
    """PNG bytes of a new image showing `fact.finding`, and the number of cells (0 unless it is a smear)."""
    cells = int(rng.integers(CELL_COUNTS[0], CELL_COUNTS[1] + 1)) if fact.modality == "smear" else 0
    return draw_cells(rng, fact, size, cells), cells


def draw_cells(rng: np.random.Generator, fact: Fact, size: int, cells: int) -> bytes:
    """PNG bytes of a new image showing `fact.finding`, with `cells` cells where it is a smear."""
    return draw(rng, fact.modality, fact.pattern, size, cells)
