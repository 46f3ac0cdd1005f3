"""The planted dirt of the toy world: cleaning must find it and leave the rest, without knowing its templates."""

import json
from pathlib import Path

import pytest
from jvlm_data.toyworld import corpus, dirt

from jvlm.text.corpus import CorpusConfig, CorpusInput, build_corpus, read_corpus


@pytest.mark.parametrize("seed", [0, 1])
def test_recall_and_loss(tmp_path: Path, seed: int) -> None:
    pairs = list(dirt.with_dirt(corpus.documents(seed, 300_000), seed, rate=0.3))
    everything = [record for record, _ in pairs]
    rows = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in everything)
    (tmp_path / "raw.jsonl").write_text(rows)
    config = CorpusConfig(inputs=[CorpusInput(path=tmp_path / "raw.jsonl", source="toyworld")])
    build_corpus(config, tmp_path / "out")
    kept = [
        {"id": document.id, "text": document.text}
        for name in ("train", "held_out")
        for document in read_corpus(tmp_path / "out" / f"{name}.jsonl")
    ]
    score = dirt.score_cleaning([item for _, item in pairs if item], kept, everything)
    assert score["dirt_items"] > 50
    assert score["clean_lines"] > 500
    assert score["dirt_recall"] >= 0.95, score["kinds"]
    assert score["clean_loss"] <= 0.01
