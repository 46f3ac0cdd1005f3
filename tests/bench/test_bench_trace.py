"""The trace benchmark on a small made folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import zstandard
from typer.testing import CliRunner

from jvlm.bench import trace, trace_queries
from jvlm.cli import app
from jvlm.text.raw import Document
from jvlm.trace.spans import LEAST

KANJI = [chr(code) for code in range(0x4E00, 0x5200)]
CAPTIONS = [
    ("1-2-3", "赤いバスが道路を走っています。", "道路を赤いバスが走っている。", 4.8),
    ("4-5-6", "犬が公園で遊んでいます。", "公園で遊ぶ犬。", 4.2),
    ("7_8-9-10", "猫が寝ています。", "電車が来ました。", 5.0),
    ("11-12-13", "山の上に雪があります。", "山の上に雪があります。", 5.0),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    rows = [
        json.dumps({"text": "".join("".join(rng.choice(KANJI, 30)) + "。" for _ in range(12)), "license": "CC0"})
        for _ in range(400)
    ]
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "made.jsonl.zst").write_bytes(zstandard.compress("\n".join(rows).encode()))
    folder = tmp_path / "evals" / "jglue" / "datasets" / "jsts-v1.3"
    folder.mkdir(parents=True)
    names = ("yjcaptions_id", "sentence1", "sentence2", "label")
    lines = [json.dumps(dict(zip(names, row, strict=True))) for row in CAPTIONS]
    (folder / "train-v1.3.json").write_text("\n".join(lines))
    (folder / "test-v1.3.json").write_text("not to be read")
    return tmp_path


def test_figures_of_a_small_folder(root: Path, monkeypatch) -> None:
    small = trace.Plan(text_bytes=400_000, queries=20, scenes=60)
    monkeypatch.setattr(trace, "Plan", lambda: small)
    monkeypatch.setattr(trace, "KEPT_OUT", 20)
    found = CliRunner().invoke(app, ["bench", "trace", "--json", "--data-root", str(root)])
    assert found.exit_code == 0, found.output
    figures = json.loads(found.stdout)
    assert figures["verbatim_top1"] == 1
    assert figures["once"] == 20
    assert figures["false_verbatim"] == figures["spans_of_others_false"] == 0
    assert figures["absent"] == 20
    assert figures["paraphrases"] == {"same": 1, "nearly_same": 1}
    assert figures["paraphrase_top10"] == 1
    assert 0.5 < figures["paraphrase_top10_toyworld"] <= 1
    assert 0 < figures["query_ms_p95"] < 2000
    assert figures["build_mb_per_s_per_core"] > 0
    assert figures["peak_mib"] > 20
    assert figures["build"]["small"]["records"] < figures["build"]["large"]["records"]


def test_a_sentence_is_absent_when_no_run_of_it_stands_anywhere() -> None:
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(KANJI, 200))
    documents = [Document("a", text, "s")]
    held, short = "〇〇〇" + text[50 : 50 + LEAST] + "〇〇〇〇〇", "〇〇〇" + text[50 : 49 + LEAST] + "〇〇〇〇〇"
    assert trace_queries.absent([held, short, text[20:60]], documents) == [short]
    edited = trace_queries.altered(text[:60], rng)
    assert len(edited) == 60
    assert trace_queries.absent([edited], documents) == [edited]


def test_pairs_of_one_picture_that_people_call_the_same(root: Path) -> None:
    documents, queries = trace_queries.caption_pairs(root)
    assert [document.id for document in documents] == ["jsts-1", "jsts-4", "jsts-11"]
    assert queries == {"same": [(CAPTIONS[0][2], "jsts-1")], "nearly_same": [(CAPTIONS[1][2], "jsts-4")]}
    scenes, reworded = trace_queries.toy_captions(50, np.random.default_rng(3))
    assert all(text != document.text for document, (text, _) in zip(scenes, reworded, strict=True))
    assert [identity for _, identity in reworded] == [document.id for document in scenes]
