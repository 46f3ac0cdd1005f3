"""What is found for an answer: verbatim spans as a search through every text finds them, near passages and pictures."""

import json
import math
import re
import shutil
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from tiny import PROJECTOR, VISION, corpus_texts, make_model

from jvlm import cli
from jvlm.errors import DataError, UsageError
from jvlm.files import read_json_lines
from jvlm.model.directory import save_model
from jvlm.model.processor import Processor
from jvlm.sample import ImageRef
from jvlm.text.normalise import normalise
from jvlm.trace import vectors
from jvlm.trace.build import build_index
from jvlm.trace.embedded import EmbeddedIndex
from jvlm.trace.passages import LENGTH, OVERLAP, cut
from jvlm.trace.search import Trace
from jvlm.trace.sources import never, shard_records, source_records
from jvlm.trace.spans import LEAST, PROBE
from jvlm.trace.text_vectors import DocumentFrequencies, TextVectors
from jvlm.trace.types import Record, Seen
from jvlm.trace.vectors import Vectors, write_vectors

DOCUMENTS = 40
LONG = "long"
BLOB = "ＡＢＣ社の１２３番目の製品は、ﾃｽﾄの結果が良好でした。"


def distinct_text(count: int, seed: int = 3) -> str:
    """Sentences of random kanji, no two alike."""
    rng = np.random.default_rng(seed)
    return "".join("".join(map(chr, rng.integers(0x4E00, 0x9F00, 40))) + "。" for _ in range(count))


@pytest.fixture(scope="module")
def texts():
    """By id: of the toy world, one long one, one that the normaliser changes, a short one."""
    found = {f"d{number}": text for number, text in enumerate(corpus_texts(DOCUMENTS))}
    return found | {LONG: distinct_text(60), "wide": BLOB, "short": "犬。"}


@pytest.fixture(scope="module")
def folder(texts, tmp_path_factory):
    seen = (Seen("pretrain", 3, 17, 4),)
    records = [Record(identity, text, "toy", "CC0", seen) for identity, text in texts.items()]
    out = tmp_path_factory.mktemp("trace") / "index"
    report = build_index(records, out)
    assert report["records"] == len(texts)
    assert report["pictures"] == report["errors"] == 0
    return out


@pytest.fixture(scope="module")
def trace(folder):
    return Trace.open(folder)


def longest_runs(answer: str, bodies: list[str]) -> set[tuple[int, int]]:
    """By trying every run of the answer on every text: those inside no other, without blank ends."""
    found = []
    for start in range(len(answer)):
        stop = start
        while stop < len(answer) and any(answer[start : stop + 1] in body for body in bodies):
            stop += 1
        while stop > start and answer[stop - 1].isspace():
            stop -= 1
        if stop - start >= LEAST and not answer[start].isspace() and all(stop > other for _, other in found):
            found.append((start, stop))
    return set(found)


# --- verbatim ---------------------------------------------------------------------------------------------------


def test_spans_are_those_of_a_search_through_every_text(trace, texts):
    bodies = [normalise(text) for text in texts.values()]
    rng = np.random.default_rng(1)
    several = 0
    for _ in range(25):
        parts = []
        for _ in range(3):
            body = bodies[rng.integers(len(bodies) - 3)]
            begin = int(rng.integers(len(body) - 30))
            parts += [body[begin : begin + int(rng.integers(8, 60))], "ゑゐヴヰ"[: rng.integers(5)]]
        answer = "".join(parts).strip()
        spans = trace.evidence(answer).spans
        assert {(span.start, span.stop) for span in spans} == longest_runs(answer, bodies), answer
        assert [s.stop - s.start for s in spans] == sorted((s.stop - s.start for s in spans), reverse=True)
        several += len(spans) > 1
        for span in spans:
            assert span.text == answer[span.start : span.stop]
            for origin in span.origins:
                assert span.text in normalise(texts[origin.id])
    assert several > 10


def test_a_sentence_leads_to_its_document(trace, texts):
    for identity in ("d3", "d20", LONG):
        sentence = max(texts[identity].split("。"), key=len).strip()
        holders = {other for other, text in texts.items() if sentence in text}
        first = trace.evidence(sentence).spans[0]
        assert first.text == sentence
        assert {origin.id for origin in first.origins} <= holders
        assert first.origins[0].seen == (Seen("pretrain", 3, 17, 4),)
        assert (first.origins[0].source, first.origins[0].licence) == ("toy", "CC0")


def test_a_span_over_the_border_of_passages_is_found_whole(trace, texts):
    borders = [stop for _, stop in cut(texts[LONG])][:-1]
    assert len(borders) >= 5
    for border in borders:
        for before in (1, LEAST // 2, LEAST - 1, 60):
            answer = texts[LONG][border - before : border - before + max(LEAST, before + 40)]
            (span,) = trace.evidence(answer).spans
            assert span.text == answer
    whole = texts[LONG][5:2000]
    assert trace.evidence(whole).spans[0].text == whole


def test_what_does_not_stand_there_gives_none(trace, texts):
    rng = np.random.default_rng(2)
    for identity in ("d1", "d7", "d30", LONG):
        changed = list(texts[identity][:200])
        for place in range(0, len(changed), LEAST - 1):
            changed[place] = chr(0x30A1 + rng.integers(80))
        assert longest_runs("".join(changed), list(texts.values())) == set()
        assert trace.evidence("".join(changed)).spans == ()
    for answer in ("", " \n", "犬", "犬。", "―" * 40, distinct_text(3, seed=9)):
        assert trace.evidence(answer).spans == ()
    assert trace.evidence("").passages == ()


def test_the_answer_is_looked_for_in_the_spelling_of_the_corpus(trace):
    for answer in (BLOB, normalise(BLOB)):
        evidence = trace.evidence(answer)
        assert evidence.text == normalise(BLOB) != BLOB
        assert evidence.spans[0].text == normalise(BLOB)
        assert evidence.spans[0].origins[0].id == "wide"


# --- passages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [distinct_text(40), "無句読点" * 500, "短い文。" * 400, "\n\n", "「はい。」" * 200])
def test_passages_are_the_whole_text_and_end_with_sentences(text):
    found = list(cut(text))
    assert "".join(text[start:stop] for start, stop in found) == (text if text.strip() else "")
    assert all(stop - start <= 2 * LENGTH + 2 for start, stop in found)
    if "。" in text:
        assert all(text[start:stop].endswith(("。", "。」")) for start, stop in found)
        assert all(not text[start].startswith("」") for start, _ in found)
    assert PROBE <= OVERLAP


def test_near_passages_have_the_words_of_the_answer(trace, texts):
    """Another order of the same words: no verbatim span, the same document."""
    for identity in ("d5", "d11", LONG):
        start, stop = next(cut(texts[identity]))
        parts = texts[identity][start:stop].replace("、", "。").split("。")
        mixed = "。".join(parts[::-1])
        passages = trace.evidence(mixed, max_passages=5).passages
        assert len(passages) <= 5
        assert identity in [passage.id for passage in passages[:2]]
        top = next(p for p in passages if p.id == identity)
        assert top.keyword_rank is not None
        assert top.vector_rank is not None
        assert top.score == pytest.approx(1 / (10 + top.keyword_rank) + 2 / (10 + top.vector_rank))
        assert len({passage.text for passage in passages}) == len(passages)


def test_texts_are_compared_by_signs_and_pairs_of_signs():
    """As sets, written out; the vectors come near to it."""
    # without the number that has its place in the table of counts in common with 気
    texts = [text for text in corpus_texts(80) if "1905" not in text][:60]
    texts += ["A red ball and 3 red boxes", "左上に赤い丸があります。"]
    texts += ["赤色の丸が左上に見えます。", "。、"]
    frequencies = DocumentFrequencies()
    frequencies.add(texts)
    compare = TextVectors(frequencies.weights())

    def signs(text):
        found = []
        for match in re.finditer("[a-z0-9]+|.", text.lower(), re.DOTALL):
            hiragana = "ぁ" <= match[0] <= "ゖ"
            if match[0].isalnum() and not hiragana:
                found.append(match[0])
        return found

    standing = Counter(sign for text in texts for sign in set(signs(text)))

    def members(text):
        own = signs(text)
        rarity = {sign: math.log(1 + len(texts) / standing[sign]) ** 0.6 for sign in own}
        pairs = {tuple(sorted((a, b))) for i, a in enumerate(own) for b in own[i + 1 : i + 5]}
        return rarity | {(a, b): 0.5 * math.sqrt(rarity[a] * rarity[b]) for a, b in pairs}

    def cosine(one, other):
        shared = sum(one[key] ** 2 for key in one.keys() & other.keys())
        return shared / max(1e-12, math.prod(math.sqrt(sum(w**2 for w in found.values())) for found in (one, other)))

    sets = [members(text) for text in texts]
    for query in (0, 60, 61, 63):
        expected = [cosine(sets[query], other) for other in sets]
        assert compare.similarities(texts[query], texts) == pytest.approx(expected, abs=1e-5)
    assert compare.similarities(texts[61], texts).argsort()[-2] == 62
    vectors = compare(texts)
    assert np.linalg.norm(vectors, axis=1)[:-1] == pytest.approx(1, abs=1e-5)
    assert (vectors[-1] == 0).all()
    exact = np.array([compare.similarities(text, texts) for text in texts[:60]])
    assert np.corrcoef((vectors[:60] @ vectors.T).flatten(), exact.flatten())[0, 1] > 0.8


def test_vectors_over_blocks_are_those_that_are_nearest(tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "BLOCK", 300)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1000, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    write_vectors(tmp_path / "v", len(rows), lambda numbers: rows[numbers])
    assert len(list((tmp_path / "v").iterdir())) == 4
    (tmp_path / "v").rename(tmp_path / "moved")
    index, right = Vectors(tmp_path / "moved"), 0
    for query in rows[::50] + 0.05 * rng.normal(size=(20, 32)).astype(np.float32):
        query /= np.linalg.norm(query)
        found = index.nearest(query, 5)
        assert found[0][0] == int((rows @ query).argmax())
        assert found[0][1] == pytest.approx(float((rows @ query).max()), abs=0.02)
        right += len({n for n, _ in found} & set(np.argsort(-(rows @ query))[:5].tolist()))
    assert right >= 60  # of 100: the others lie in lists that were not looked at


# --- pictures and records ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_folder(tokenizer, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "model"
    save_model(out, make_model(tokenizer), Processor(tokenizer, VISION, PROJECTOR))
    return out


def test_a_picture_leads_to_itself_and_its_caption(caption_shards, model_folder, tmp_path):
    records = list(shard_records(caption_shards, "captions", never))
    records[4] = replace(records[4], images=[ImageRef(data=b"no picture")])
    report = build_index(records, tmp_path / "index", model_folder)
    assert report["pictures"] == 11
    assert report["errors"] == 1
    (row,) = read_json_lines(tmp_path / "index" / "errors.jsonl")
    assert row["id"] == records[4].id
    trace = Trace.open(tmp_path / "index")
    for number in (0, 7, 11):
        sample = caption_shards.read(number)
        evidence = trace.evidence(sample.messages[-1].text, sample.images[0], max_images=3)
        assert len(evidence.images) == 3
        first = evidence.images[0]
        assert first.id == f"captions/{sample.id}"
        assert first.similarity == pytest.approx(1, abs=0.02)
        assert first.text == sample.messages[-1].text
        assert first.thumbnail.startswith(b"\xff\xd8")
        assert evidence.images[2].similarity < first.similarity
        assert evidence.passages[0].thumbnail.startswith(b"\xff\xd8")
    assert trace.evidence(records[4].text).passages[0].thumbnail is None
    with pytest.raises(DataError, match="not a readable"):
        trace.evidence("何", b"no picture")


def test_records_of_files_and_of_shards(caption_shards, tmp_path):
    rows = [{"id": "a", "text": "一つ目の文書。", "licence": "CC0"}, {"text": "二つ目の文書。"}]
    file = tmp_path / "news.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in [rows[0], rows[0], rows[1]]))
    found = list(source_records([file, caption_shards.folder]))
    assert [(r.id, r.source, r.licence) for r in found[:2]] == [("a", "news", "CC0"), ("news/news.jsonl:3", "news", "")]
    assert len(found) == 2 + len(caption_shards)
    assert found[2].text == caption_shards.read(0).messages[-1].text
    file.write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        list(source_records([file]))


# --- faults -----------------------------------------------------------------------------------------------------


def test_a_damaged_index_is_told(folder, tmp_path):
    with pytest.raises(DataError, match=r"no trace index.*jvlm trace build"):
        Trace.open(tmp_path)
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.stat().st_size and path.is_file()]
    for name in [n for n in names if n.name not in ("hashes.json", "card.json")]:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        with pytest.raises(DataError, match=r"content differs from the hash"):
            EmbeddedIndex(copy)
    (copy / name).unlink()
    with pytest.raises(DataError, match="file is missing"):
        EmbeddedIndex(copy)


def test_nothing_to_index_is_told_and_nothing_is_left(tmp_path):
    with pytest.raises(DataError, match="no text to index"):
        build_index([Record("a", " ", "s")], tmp_path / "index")
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_the_error_names_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tantivy", None)
    with pytest.raises(UsageError, match=r"tantivy is not installed.*jvlm\[trace\]"):
        Trace.open(folder)


def test_the_commands(tmp_path, monkeypatch, capsys):
    def jvlm(*arguments):
        monkeypatch.setattr(sys, "argv", ["jvlm", *map(str, arguments)])
        cli.app(standalone_mode=False)
        return capsys.readouterr().out

    rows = [{"id": f"d{n}", "text": text} for n, text in enumerate(corpus_texts(12))]
    (tmp_path / "toy.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    report = json.loads(jvlm("trace", "build", tmp_path / "toy.jsonl", "--out", tmp_path / "index", "--json"))
    assert report["records"] == 12
    sentence = rows[5]["text"].split("。")[0]
    found = json.loads(jvlm("trace", "search", sentence, "--index", tmp_path / "index", "--json"))
    assert found["spans"][0]["text"] == sentence
    assert found["spans"][0]["origins"][0]["source"] == "toy"
    assert found["passages"]
    assert found["images"] == []
    assert "thumbnail" not in json.dumps(found)
    assert "d5" in jvlm("trace", "search", sentence, "--index", tmp_path / "index")


def test_passages_are_read_as_they_were_cut(folder, texts):
    index = EmbeddedIndex(folder)
    expected = [
        (text[start:stop], number)
        for number, text in enumerate(map(normalise, texts.values()))
        for start, stop in cut(text)
    ]
    found = []
    for number in range(index.card["passages"]):
        record, start, stop = index.place(number)
        assert index.passage(number) == index.text(record)[start:stop]
        found.append((index.passage(number), record))
    assert found == expected
