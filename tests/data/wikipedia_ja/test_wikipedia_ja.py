"""The Japanese Wikipedia: a made sample of what WikiExtractor writes."""

import json

import pytest
from jvlm_data.splits import split_of, text_hash
from jvlm_data.wikipedia_ja.convert import convert
from published import documents, faults

from jvlm.errors import DataError


def article(number, text, title="題"):
    url = f"https://ja.wikipedia.org/wiki?curid={number}"
    return {"id": str(number), "revid": "1", "url": url, "title": title, "text": text}


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def test_articles_become_documents_split_by_their_text(tmp_path):
    articles = [article(number, f"{number}番の記事。\n二段目。", f"題{number}") for number in range(200)]
    write(tmp_path / "in" / "AA" / "wiki_00", *articles[:150])
    write(tmp_path / "in" / "AB" / "wiki_13", *articles[150:], article(900, "題\n\n本文。"))
    (tmp_path / "in" / "AA" / "notes.txt").write_text("no article")
    counts = convert(tmp_path / "in", tmp_path / "out")
    assert sum(counts[split] for split in ("train", "val", "test")) == 201
    assert counts["removed"] == counts["errors"] == 0
    found = {}
    for split in ("train", "val", "test"):
        for document in documents(tmp_path / "out", split) if counts[split] else ():
            found[document.id] = document
            assert split_of(text_hash(document.text)) == split
    assert counts["train"] < 201
    assert found["wikipedia_ja/3"].text == "題3\n\n3番の記事。\n二段目。"
    assert found["wikipedia_ja/900"].text == "題\n\n本文。"
    assert found["wikipedia_ja/3"].licence == "CC-BY-SA"


def test_articles_without_text_are_recorded_with_their_line(tmp_path):
    no_id = {"title": "題", "text": "本文。"}
    write(
        tmp_path / "in" / "AA" / "wiki_00",
        article(1, "本文。"),
        article(2, ""),
        "{",
        article(4, "本文", ""),
        no_id,
        "[]",
    )
    counts = convert(tmp_path / "in", tmp_path / "out")
    assert counts["errors"] == 5
    assert set(faults(tmp_path / "out")) == {f"AA/wiki_00:{line}" for line in (2, 3, 4, 5, 6)}


def test_nothing_usable_is_an_error(tmp_path):
    (tmp_path / "wiki_00.bz2").write_bytes(b"compressed")
    with pytest.raises(DataError, match="not compressed"):
        convert(tmp_path, tmp_path / "out")
