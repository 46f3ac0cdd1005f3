"""Plants dirt in clean documents and keeps the list of it, so that cleaning can be scored."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from jvlm_data.toyworld.foreign import foreign_document
from jvlm_data.toyworld.lexicon import pick, pick_many, words

Record = dict[str, Any]

LINE_KINDS = ("boilerplate", "repeated_line")
DOCUMENT_KINDS = ("near_duplicate", "exact_duplicate", "mojibake", "repeated_document", "other_language", "garbage")
KINDS = (*LINE_KINDS, *DOCUMENT_KINDS)
DUPLICATES = ("near_duplicate", "exact_duplicate")
NEAR_DUPLICATE_EDITS = (0.01, 0.03)  # share of characters changed

_STREAM = 102
_SITES = words("いろはねっと あおぞら通信 まちの便り 絵と図形の部屋 やまびこ新聞 図形びより")
_BOILERPLATE = (
    "このサイトではクッキーを使用しています。閲覧を続けると、クッキーの使用に同意したものとみなされます。",
    "当ウェブサイトは、利便性の向上のためにCookieを利用しています。詳しくはプライバシーポリシーをご覧ください。",
    "Copyright (C) {year} {site} All Rights Reserved.",
    "© {year} {site}　無断転載を禁じます。",
    "ホーム | サイトマップ | お問い合わせ | プライバシーポリシー | 利用規約",
    "トップページ > 記事一覧 > {site} > {year}年",
    "この記事をシェアする：ツイート　いいね！　ブックマーク　LINEで送る",
    "<< 前の記事へ　次の記事へ >>　一覧に戻る",
    "JavaScriptが無効になっています。JavaScriptを有効にしてからページを再読み込みしてください。",
    "メニュー　検索　閉じる　ログイン　新規会員登録はこちら",
    "スポンサーリンク　広告　この広告は{site}が配信しています。",
    "関連記事ランキング TOP{number}　続きを読む　もっと見る",
    "{site}のメールマガジン登録はこちら。いつでも配信停止できます。",
    "ページの先頭へ戻る　印刷する　最終更新日：{year}年{month}月{number}日",
)
_SYMBOLS = "■□◆◇●○★☆※→←↑↓=-_*#+|/\\~^%&$@・…―"


def with_dirt(documents: Iterable[Record], seed: int, rate: float = 0.12) -> Iterator[tuple[Record, Record | None]]:
    """The documents with dirt among them: `(record, dirt)`, where `dirt` is None for a clean record.

    About `rate` of the records are dirty, the kinds equally often. `dirt` is
    `{"id", "kind", "level": "document" | "line", "lines", "original"}`: `lines` holds the text of each planted line
    (for a repeated line: the line, of which one copy may stay), `original` the id of the document a duplicate
    copies (None otherwise). Originals are always clean.
    """
    rng = np.random.default_rng([seed, _STREAM])
    earlier: list[Record] = []
    for number, record in enumerate(documents):
        if not earlier or rng.random() >= rate:
            earlier.append(record)
            yield record, None
            continue
        kind = pick(rng, KINDS)
        if kind in LINE_KINDS or kind == "mojibake":  # damages the document itself
            yield _damage(rng, record, kind)
            continue
        original = pick(rng, earlier) if kind in DUPLICATES else None
        text = _extra_text(rng, kind, original["text"] if original else record["text"])
        extra = record | {"id": f"{record['source']}-extra-{number:07d}", "text": text}
        yield extra, _dirt(extra, kind, "document", [], original["id"] if original else None)
        earlier.append(record)
        yield record, None


def _dirt(record: Record, kind: str, level: str, lines: list[str], original: str | None = None) -> Record:
    return {"id": record["id"], "kind": kind, "level": level, "lines": lines, "original": original}


def _damage(rng: np.random.Generator, record: Record, kind: str) -> tuple[Record, Record]:
    lines = record["text"].split("\n")
    if kind == "mojibake":
        damaged = record | {"text": _mojibake(record["text"], "cp932" if rng.integers(2) else "latin-1")}
        return damaged, _dirt(damaged, kind, "document", [])
    if kind == "boilerplate":
        planted = [_fill(rng, template) for template in pick_many(rng, _BOILERPLATE, int(rng.integers(1, 4)))]
        for line in planted:
            lines.insert(int(rng.integers(len(lines) + 1)), line)
    else:
        at = int(rng.integers(len(lines)))
        planted = [lines[at]]
        lines[at:at] = planted * int(rng.integers(3, 9))
    damaged = record | {"text": "\n".join(lines)}
    return damaged, _dirt(damaged, kind, "line", planted)


def _fill(rng: np.random.Generator, template: str) -> str:
    year, month, number = int(rng.integers(1998, 2026)), int(rng.integers(1, 13)), int(rng.integers(3, 29))
    return template.format(site=pick(rng, _SITES), year=year, month=month, number=number)


def _extra_text(rng: np.random.Generator, kind: str, text: str) -> str:
    if kind == "exact_duplicate":
        return text
    if kind == "near_duplicate":
        return _edited(rng, text)
    if kind == "repeated_document":
        return "\n".join([pick(rng, text.split("\n"))] * int(rng.integers(12, 30)))
    if kind == "other_language":
        return foreign_document(rng)
    marks = "".join(pick(rng, _SYMBOLS) for _ in range(int(rng.integers(20, 120))))
    numbers = " ".join(str(int(n)) for n in rng.integers(0, 99999, size=30))
    return pick(rng, (marks, numbers, "・・・", f"{marks}\n{numbers}", "-" * int(rng.integers(30, 90)) + "\n" + marks))


def _edited(rng: np.random.Generator, text: str) -> str:
    """`text` with 1 to 3 % of its characters changed, in a few short spots, never a line break."""
    characters = list(text)
    left = max(1, round(len(text) * float(rng.uniform(*NEAR_DUPLICATE_EDITS))))
    while left > 0:
        at, length = int(rng.integers(len(characters))), min(left, int(rng.integers(1, 4)))
        for i in range(at, min(at + length, len(characters))):
            if characters[i] != "\n":
                characters[i] = chr(0x3041 + int(rng.integers(83)))
        left -= length
    return "".join(characters)


def _mojibake(text: str, wrong: str) -> str:
    """UTF-8 bytes read line by line in the wrong encoding, as browsers showed them."""
    return "\n".join(line.encode().decode(wrong, errors="replace") for line in text.split("\n"))


def score_cleaning(truth: Iterable[Record], kept: Iterable[Record], everything: Iterable[Record]) -> dict[str, Any]:
    """How much planted dirt is gone and how much clean text went with it.

    Args:
        truth: the `dirt` records of `with_dirt`.
        kept: records (`id`, `text`) after cleaning.
        everything: records before cleaning.

    Returns:
        `dirt_recall` (share of planted items no longer in the kept text; a planted line, a bad document or a
        superfluous copy is one item), `clean_loss` (share of clean non-empty lines lost), `dirt_items`, `clean_lines`
        and `kinds` {kind: {"recall", "items"}}. Of a duplicate and its original, either may go.
    """
    dirt = {item["id"]: item for item in truth}
    before = {record["id"]: _lines(record["text"]) for record in everything}
    after = {record["id"]: _lines(record["text"]) for record in kept}
    groups: dict[str, list[str]] = {}
    for item in dirt.values():
        if item["original"] is not None:
            groups.setdefault(item["original"], [item["original"]]).append(item["id"])
    items, found = Counter[str](), Counter[str]()
    for item in dirt.values():
        kind, lines = item["kind"], Counter(after.get(item["id"], []))
        if item["level"] == "line":
            most = 1 if kind == "repeated_line" else 0
            items[kind] += len(item["lines"])
            found[kind] += sum(lines[line.strip()] <= most for line in item["lines"])
        else:
            items[kind] += 1
            found[kind] += not lines and item["original"] is None
    for members in groups.values():
        gone = sum(member not in after for member in members)
        copies = sorted(members[1:], key=lambda copy: copy in after)  # those that are gone count first
        for copy in copies[:gone]:
            found[dirt[copy]["kind"]] += 1
    clean, lost = _clean_lines(dirt, groups, before, after)
    total = items.total()
    return {
        "dirt_recall": found.total() / total if total else 1.0,
        "clean_loss": lost / clean if clean else 0.0,
        "dirt_items": total,
        "clean_lines": clean,
        "kinds": {kind: {"recall": found[kind] / items[kind], "items": items[kind]} for kind in KINDS if items[kind]},
    }


def _clean_lines(
    dirt: Mapping[str, Record],
    groups: Mapping[str, list[str]],
    before: Mapping[str, list[str]],
    after: Mapping[str, list[str]],
) -> tuple[int, int]:
    """Number of clean lines, and how many of them were lost. A kept copy stands for its dropped original."""
    clean = lost = 0
    for identity, lines in before.items():
        item = dirt.get(identity)
        if item is not None and item["level"] == "document":
            continue
        ours = lines
        if item is not None and item["kind"] == "repeated_line":
            ours = list(dict.fromkeys(lines))  # one copy is the document's own
        elif item is not None:
            planted = {line.strip() for line in item["lines"]}
            ours = [line for line in lines if line not in planted]
        clean += len(ours)
        if identity not in after and any(copy in after for copy in groups.get(identity, [])):
            continue
        kept = set(after.get(identity, []))
        lost += sum(line not in kept for line in ours)
    return clean, lost


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]
