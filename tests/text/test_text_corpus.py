import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from jvlm.errors import DataError
from jvlm.files import verify_folder
from jvlm.text.corpus import CorpusConfig, CorpusInput, build_corpus, read_corpus
from jvlm.text.privacy import TELEPHONE

COLOURS, PLACES = "赤青緑黄紫", "山川海森町村港駅庭橋"


def sentence(n: int) -> str:
    rng = np.random.default_rng([n, 9])
    words = rng.choice([a + b for a in COLOURS for b in PLACES], 12, replace=False)
    return f"第{n}話。" + "、".join(words) + "を見た。"


def write(folder: Path, name: str, texts: list[str]) -> CorpusInput:
    folder.mkdir(exist_ok=True)
    rows = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    (folder / f"{name}.jsonl").write_text(rows)
    return CorpusInput(path=folder / f"{name}.jsonl", source=name, licence="CC0")


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_corpus_is_built_and_accounted_for(tmp_path: Path) -> None:
    a = write(tmp_path / "in", "a", [sentence(n) for n in range(200)] + ["ログイン", sentence(3)])
    b = write(tmp_path / "in", "b", [sentence(7), sentence(500) + "\n続きを読む"])
    with open(a.path, "a") as file:
        file.write("not json\n")
    report = build_corpus(CorpusConfig(inputs=[a, b], held_out_share=0.1), tmp_path / "out")
    verify_folder(tmp_path / "out")
    train, held_out, removed = (rows(tmp_path / "out" / f"{n}.jsonl") for n in ("train", "held_out", "removed"))
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(train) + len(held_out) == 201
    assert 5 < len(held_out) < 40
    assert report["total"]["read"]["documents"] == 204
    assert report["sources"]["a"]["unique"]["documents"] == 200
    assert report["total"]["train"] == {"documents": len(train), "chars": sum(len(r["text"]) for r in train)}
    assert report["input_errors"] == [{"where": f"{a.path}:203", "what": "not JSON"}]
    reasons = Counter(row["reason"] for row in removed)
    assert reasons == {"boilerplate": 3, "exact_duplicate": 2}  # the lone line goes as a line and as a document
    across = next(row for row in removed if row["reason"] == "exact_duplicate" and row["source"] == "b")
    assert across["of"] == "a/a.jsonl:8"
    assert report["removed"]["boilerplate"]["examples"][0]["excerpt"] == "ログイン"
    documents = list(read_corpus(tmp_path / "out" / "train.jsonl"))
    assert documents[0].licence == "CC0"
    assert documents[0].line >= 1
    assert {d.text for d in documents}.isdisjoint(row["text"] for row in held_out)


def test_personal_data_is_masked_where_the_config_says_so(tmp_path: Path) -> None:
    item = write(tmp_path / "in", "a", [sentence(1) + "電話は03-1234-5678。", sentence(2)])
    masked = build_corpus(CorpusConfig(inputs=[item], mask_personal=True, held_out_share=0), tmp_path / "masked")
    plain = build_corpus(CorpusConfig(inputs=[item], held_out_share=0), tmp_path / "plain")
    assert (masked["masked"], plain["masked"]) == ({TELEPHONE: 1}, {})
    texts = [[row["text"] for row in rows(tmp_path / name / "train.jsonl")] for name in ("masked", "plain")]
    assert texts == [
        [sentence(1) + f"電話は{TELEPHONE}。", sentence(2)],
        [sentence(1) + "電話は03-1234-5678。", sentence(2)],
    ]


def test_evaluation_texts_are_kept_out_of_training(tmp_path: Path) -> None:
    item = write(tmp_path / "in", "a", [sentence(n) for n in range(6)] + ["前書き。" + sentence(8) + "後書き。"])
    exam = write(tmp_path / "in", "exam", [sentence(8)])
    report = build_corpus(CorpusConfig(inputs=[item], evaluation=[exam.path], held_out_share=0), tmp_path / "out")
    (removed,) = rows(tmp_path / "out" / "removed.jsonl")
    assert (removed["reason"], removed["of"], removed["similarity"]) == (
        "evaluation_text",
        "exam.jsonl/exam.jsonl:1",
        1.0,
    )
    assert report["total"]["train"]["documents"] == 6


def test_the_same_config_gives_the_same_bytes_and_a_text_keeps_its_side(tmp_path: Path) -> None:
    inputs = [write(tmp_path / "in", "a", [sentence(n) for n in range(100)])]
    inputs[0].weight = 1.5
    for name in ("one", "two"):
        build_corpus(CorpusConfig(inputs=inputs, held_out_share=0.2, seed=3), tmp_path / name)
    for file in ("train.jsonl", "held_out.jsonl", "removed.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    grown = [write(tmp_path / "in", "b", [sentence(n) for n in range(150)])]
    build_corpus(CorpusConfig(inputs=grown, held_out_share=0.2, seed=8), tmp_path / "grown")
    before, after = ({r["text"] for r in rows(tmp_path / n / "held_out.jsonl")} for n in ("one", "grown"))
    assert before < after


def test_weights_set_how_often_training_documents_are_written(tmp_path: Path) -> None:
    parts = (("a", range(200)), ("b", range(200, 400)))
    inputs = [write(tmp_path / "in", name, [sentence(n) for n in numbers]) for name, numbers in parts]
    inputs[0].weight, inputs[1].weight = 2, 0.25
    build_corpus(CorpusConfig(inputs=inputs, held_out_share=0), tmp_path / "out")
    counts = Counter(row["source"] for row in rows(tmp_path / "out" / "train.jsonl"))
    assert counts["a"] == 400
    assert 25 <= counts["b"] <= 75


def test_a_tiny_corpus_still_holds_one_document_out(tmp_path: Path) -> None:
    inputs = [write(tmp_path / "in", "a", [sentence(1), sentence(2)])]
    report = build_corpus(CorpusConfig(inputs=inputs, held_out_share=0.001), tmp_path / "out")
    assert report["total"]["held_out"]["documents"] == report["total"]["train"]["documents"] == 1


def test_held_out_text_that_stands_inside_training_text_is_dropped(tmp_path: Path) -> None:
    texts = [sentence(n) * 2 for n in range(200)]
    alone = write(tmp_path / "in", "a", texts)
    build_corpus(CorpusConfig(inputs=[alone], held_out_share=0.1, held_out_overlap=0.2), tmp_path / "alone")
    held_out = [row["text"] for row in rows(tmp_path / "alone" / "held_out.jsonl")]
    assert len(held_out) > 10
    quoting = write(tmp_path / "in", "b", ["引用する。" + held_out[0] + "".join(map(sentence, range(1000, 1009)))])
    config = CorpusConfig(inputs=[alone, quoting], held_out_share=0.1, held_out_overlap=0.2)
    report = build_corpus(config, tmp_path / "both")
    left = [row["text"] for row in rows(tmp_path / "both" / "held_out.jsonl")]
    assert report["held_out_dropped"] == 1
    assert held_out[0] not in left
    assert set(held_out[1:]) <= set(left)
    kept = build_corpus(config.model_copy(update={"held_out_overlap": 1.0}), tmp_path / "kept")
    assert kept["held_out_dropped"] == 0
    assert held_out[0] in [row["text"] for row in rows(tmp_path / "kept" / "held_out.jsonl")]


def test_an_input_may_hold_another_language(tmp_path: Path) -> None:
    english = [f"Chapter {n}. The {n} ships sailed at dawn, and nobody on the quay knew where to." for n in range(30)]
    inputs = [write(tmp_path / "in", "a", [sentence(n) for n in range(30)]), write(tmp_path / "in", "en", english)]
    for any_language, kept in ((False, {"a"}), (True, {"a", "en"})):
        inputs[1].any_language = any_language
        config = CorpusConfig(inputs=inputs, held_out_share=0, near_duplicate_threshold=1)
        build_corpus(config, tmp_path / str(any_language))
        assert {row["source"] for row in rows(tmp_path / str(any_language) / "train.jsonl")} == kept


def test_nothing_left_or_nothing_there_is_an_error_and_leaves_no_folder(tmp_path: Path) -> None:
    short = write(tmp_path / "in", "a", ["短い", "はい"])
    with pytest.raises(DataError, match="empty") as caught:
        build_corpus(CorpusConfig(inputs=[short]), tmp_path / "out")
    assert "too_short" in str(caught.value)
    absent = CorpusInput(path=tmp_path / "absent", source="x")
    with pytest.raises(DataError, match="no such file"):
        build_corpus(CorpusConfig(inputs=[absent]), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="build the corpus first"):
        list(read_corpus(tmp_path / "out" / "train.jsonl"))


def test_every_field_is_described() -> None:
    for model in (CorpusConfig, CorpusInput):
        assert all(field.description for field in model.model_fields.values())
    with pytest.raises(ValidationError):
        CorpusConfig.model_validate({"inputs": [], "seeds": 1})
