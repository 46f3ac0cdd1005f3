"""Questions and answers that the rows of a manifest support: names, yes and no, kinds, counts, diagnoses."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from jvlm_data.real.pictures import Picture

from jvlm.sample import CAPTION_PROMPT, ImageRef, Message, Sample

T = TypeVar("T")

NAMING = (
    "この写真の商品は何ですか。",
    "これは何の写真ですか。",
    "写っている商品の名前を答えてください。",
    "何が写っていますか。",
)
"""The first is the one that is asked in the test."""
COUNTS = {"count_white": ("WBC", "白血球"), "count_red": ("RBC", "赤血球")}
_DESCRIBE = (
    CAPTION_PROMPT,
    "画像について一言で説明してください。",
    "何の画像ですか。",
    "この画像に見出しをつけてください。",
)
_TEMPLATE = re.compile(r"^(?:店で撮影した(?P<photo>.+)の写真|売り場に並ぶ(?P<shelf>.+))$")
_KINDS = {"grocery_store": "写真", "baldanders_photos": "写真", "noto_emoji": "絵文字", "hyakunin_isshu": "絵札"}
_LABELLED = {
    "isic2017": ("この皮膚病変の診断は何ですか。", "label_ja"),
    "covid_cxr": ("この胸部画像で考えられる診断は何ですか。", "label_ja"),
    "idrid_fundus": ("この眼底写真の診断は何ですか。", "label_ja"),
    "pneumoniamnist": ("この小児の胸部X線画像は正常ですか、肺炎ですか。", "label_ja"),
}


def product(picture: Picture) -> str:
    """The name of the product on a grocery photo: its caption without the template's frame."""
    match = _TEMPLATE.match(picture.caption)
    return (match["photo"] or match["shelf"]) if match else picture.caption


def caption_sample(picture: Picture) -> Sample:
    """The picture and its caption, as CLIP and alignment read it."""
    return _sample(picture, "caption", CAPTION_PROMPT, picture.caption, {"text": picture.caption})


def general_questions(pictures: Sequence[Picture]) -> Iterator[Sample]:
    """Several questions on each picture; which wording is drawn from the hash of picture and question."""
    names = sorted({product(p) for p in pictures if p.source == "grocery_store"})
    for picture in pictures:
        yield _sample(picture, "describe", _drawn(_DESCRIBE, picture, "describe"), picture.caption)
        if picture.source in _KINDS:
            yield _sample(
                picture, "kind", "この画像は写真ですか、絵文字ですか、画面ですか。", _KINDS[picture.source] + "です。"
            )
        if picture.source == "noto_emoji" and isinstance(picture.row.get("name"), str):
            yield _sample(picture, "emoji", "この絵文字の名前は何ですか。", picture.row["name"] + "です。")
        if picture.source == "grocery_store":
            yield from _product_questions(picture, names)


def _product_questions(picture: Picture, names: list[str]) -> Iterator[Sample]:
    name = product(picture)
    yield _sample(picture, "naming", NAMING[0], name + "です。", {"gold": name})
    yield _sample(picture, "naming", _drawn(NAMING[1:], picture, "naming"), name + "です。", {"gold": name})
    other = _drawn([n for n in names if n != name] or [name], picture, "other")
    asked, answer = ((name, "はい。"), (other, "いいえ。"))[_draw(picture, "yes") % 2]
    yield _sample(picture, "product", f"これは{asked}ですか。", answer)


def naming_question(picture: Picture) -> Sample:
    """The test's question; `meta["gold"]` is the product."""
    return _sample(picture, "naming", NAMING[0], product(picture) + "です。", {"gold": product(picture)})


def counting_questions(picture: Picture) -> Iterator[Sample]:
    """White and red cells of a blood smear; what was not annotated is not asked, for it may be there."""
    label = picture.row.get("label")
    for kind, (key, name) in COUNTS.items():
        number = label.get(key) if isinstance(label, dict) else None
        if not isinstance(number, int):
            continue
        yield _sample(picture, kind, f"{name}はいくつ写っていますか。", f"{number}個です。", {"gold": str(number)})


def radiology_question(picture: Picture) -> Sample:
    """A question of VQA-RAD, in English, as its clinicians asked it."""
    question, answer = str(picture.row["question"]).strip(), str(picture.row["answer"]).strip()
    kind = str(picture.row.get("answer_type", "OPEN")).strip().upper()
    return _sample(picture, kind, question, answer, {"gold": answer})


def medical_questions(pictures: Iterable[Picture]) -> Iterator[Sample]:
    """Diagnoses, counts and radiology questions."""
    for picture in pictures:
        if picture.source == "bccd":
            yield from counting_questions(picture)
        elif picture.source == "vqa_rad":
            yield radiology_question(picture)
        elif picture.source in _LABELLED:
            question, key = _LABELLED[picture.source]
            if isinstance(picture.row.get(key), str):
                yield _sample(picture, "diagnosis", question, picture.row[key] + "です。")


def medical_page(picture: Picture) -> Sample:
    """Picture and caption as one page of a document, for continued pretraining."""
    opening = f"{picture.row.get('modality', '医用画像')}。"
    meta = {"source": picture.source, "licence": str(picture.row.get("license", "")), "kind": "page"}
    image = ImageRef(path=str(picture.path))
    return Sample(f"{picture.id}-page", [Message("document", [opening, 0, picture.caption])], [image], None, meta)


def _sample(picture: Picture, kind: str, question: str, answer: str, meta: dict[str, Any] | None = None) -> Sample:
    messages = [Message("user", [0, question]), Message("assistant", [answer])]
    licence = str(picture.row.get("license", ""))
    about = {"source": picture.source, "licence": licence, "kind": kind} | (meta or {})
    mark = hashlib.sha256(question.encode()).hexdigest()[:8]  # one picture has several questions of a kind
    return Sample(f"{picture.id}-{kind}-{mark}", messages, [ImageRef(path=str(picture.path))], None, about)


def _draw(picture: Picture, what: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{picture.id} {what}".encode()).digest()[:8], "big")


def _drawn(choices: Sequence[T], picture: Picture, what: str) -> T:
    return choices[_draw(picture, what) % len(choices)]
