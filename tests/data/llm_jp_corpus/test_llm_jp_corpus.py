"""LLM-jp Corpus: a made sample of the published layout."""

import gzip
import json

import pytest
from jvlm_data.llm_jp_corpus.convert import OTHER_LICENCE, convert
from jvlm_data.splits import split_of, text_hash
from published import documents, faults

from jvlm.errors import DataError
from jvlm.text.corpus import CorpusConfig, build_corpus


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_bytes(gzip.compress("".join(row + "\n" for row in rows).encode()))


def row(text):
    return {"text": text, "meta": {"title": "題"}}


def test_official_files_and_hashed_parts_become_documents(tmp_path):
    source = tmp_path / "in"
    write(source / "ja" / "ja_wiki" / "train_0.jsonl.gz", row("一つ目の記事。"), row("二つ目の記事。"))
    write(source / "ja" / "ja_wiki" / "validation_0.jsonl.gz", row("確かめる記事。"))
    texts = [f"ウェブの文章 {number}" for number in range(300)]
    write(source / "ja" / "ja_cc" / "level0" / "CC-MAIN-2020-05.jsonl.gz", *map(row, texts))
    counts = convert(source, tmp_path / "out")
    assert counts["removed"] == counts["errors"] == 0
    assert counts["train"] + counts["val"] + counts["test"] == 303
    assert counts["test"] > 0
    found = {split: documents(tmp_path / "out", split) for split in ("train", "val", "test")}
    wiki = {d.text: d for d in found["train"] if d.licence == "CC-BY-SA"}
    assert set(wiki) == {"一つ目の記事。", "二つ目の記事。"}
    assert wiki["二つ目の記事。"].id == "llm_jp_corpus/ja/ja_wiki/train_0.jsonl.gz:2"
    assert "確かめる記事。" in {d.text for d in found["val"]}
    for split, chosen in found.items():
        assert {split_of(text_hash(d.text)) for d in chosen if d.licence == OTHER_LICENCE} == {split}


def test_what_is_held_out_is_not_trained_on_and_faults_have_their_line(tmp_path):
    source = tmp_path / "in"
    write(source / "ja_wiki" / "train_0.jsonl.gz", row("記事。"), "{", row("確かめる 記事。"), {"meta": {}}, row(" "))
    write(source / "ja_wiki" / "validation_0.jsonl.gz", row("確かめる記事。"))
    (source / "ja_wiki" / "train_1.jsonl.gz").write_bytes(b"no gzip")
    counts = convert(source, tmp_path / "out")
    assert counts == {"train": 1, "val": 1, "test": 0, "removed": 1, "errors": 4}
    assert set(faults(tmp_path / "out", "removed.jsonl")) == {"ja_wiki/train_0.jsonl.gz:3"}
    lines = {f"ja_wiki/train_0.jsonl.gz:{number}" for number in (2, 4, 5)}
    assert set(faults(tmp_path / "out")) == lines | {"ja_wiki/train_1.jsonl.gz"}


def test_a_corpus_is_built_from_what_was_written(tmp_path):
    write(
        tmp_path / "in" / "ja_wiki" / "train_0.jsonl.gz",
        *(row(f"{n}番目の記事。とても長い記事です。" * 3) for n in range(20)),
    )
    convert(tmp_path / "in", tmp_path / "out")
    corpus = {"inputs": [{"path": tmp_path / "out" / "train.jsonl.zst", "source": "llm_jp_corpus"}]}
    corpus |= {"near_duplicate_threshold": 1}
    build_corpus(CorpusConfig.model_validate(corpus), tmp_path / "corpus")
    assert any((tmp_path / "corpus").iterdir())


def test_nothing_usable_is_an_error(tmp_path):
    write(tmp_path / "in" / "ja_wiki" / "train_0.jsonl.gz", "{")
    with pytest.raises(DataError, match=r"the first fault is ja_wiki/train_0\.jsonl\.gz:1: not JSON"):
        convert(tmp_path / "in", tmp_path / "out")
    with pytest.raises(DataError, match="nothing usable"):
        convert(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()
