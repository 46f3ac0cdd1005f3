"""The tokenizer benchmark on a small made folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import zstandard
from typer.testing import CliRunner

from jvlm.bench import tokenizer
from jvlm.cli import app

WORDS = ["血液", "検査", "東京", "山", "です", "を", "した", "患者", "の", "は", "見た", "大きい", "川", "に", "行く"]
LATIN = ["blood", "tests", "tokyo", "mountain", "is", "was", "patient", "the", "saw", "large", "river", "to", "go"]
CONTEXT = "東京の大きい川に行く患者は山を見た。血液の検査をした。"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)

    def source(words: list[str], joint: str, *others: str) -> bytes:
        made = [joint.join(rng.choice(words, 40)) + "。" for _ in range(120)]
        return zstandard.compress("\n".join(json.dumps({"text": text}) for text in (*made, *others)).encode())

    for folder, words, joint in (("text", WORDS, ""), ("en_text", LATIN, " "), ("medical_text", WORDS, "")):
        (tmp_path / folder).mkdir()
        others = [CONTEXT + "駅"] if folder == "text" else []
        (tmp_path / folder / f"{folder}.jsonl.zst").write_bytes(source(words, joint, *others))
    jsquad = tmp_path / "evals" / "jglue" / "datasets" / "jsquad-v1.3"
    jsquad.mkdir(parents=True)
    page = {"title": "東京", "paragraphs": [{"context": f"東京 [SEP] {CONTEXT}"}]}
    (jsquad / "valid-v1.3.json").write_text(json.dumps({"data": [page]}))
    igakuqa = tmp_path / "evals" / "igakuqa" / "data" / "2018"
    igakuqa.mkdir(parents=True)
    row = {"problem_text": "患者はどれか。", "choices": ["東京", "山"]}
    (igakuqa / "112-A.jsonl").write_text(json.dumps(row))
    (igakuqa / "112-A_metadata.jsonl").write_text("{}")
    return tmp_path


def test_figures_of_a_small_folder(root: Path, monkeypatch) -> None:
    monkeypatch.setattr(tokenizer, "VOCAB_SIZE", 500)
    monkeypatch.setattr(tokenizer, "TABLE_VOCAB_SIZE", 480)
    found = CliRunner().invoke(app, ["bench", "tokenizer", "--json", "--threads", "1", "--data-root", str(root)])
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert result["roundtrip"] == 1.0
    assert result["vocab_size"] == 500
    assert result["removed_for_evaluation"] == 1  # the document that holds the context
    assert result["jsquad"]["chars_per_token"] > 1.5  # `東京 [SEP] ` is no part of it
    assert set(result["english"]) == {"chars_per_token", "byte_share", "roundtrip"}
    assert result["twin"]["lines"] > 40
    assert result["twin"]["different"] == 0
    kinds = {(row["model_type"], row["split_scripts"]): row for row in result["table"]}
    assert len(kinds) == 4
    assert kinds["unigram", False]["jsquad"] != kinds["unigram", True]["jsquad"]


def test_a_folder_without_questions_is_refused(root: Path) -> None:
    (root / "evals" / "igakuqa" / "data" / "2018" / "112-A.jsonl").unlink()
    found = CliRunner().invoke(app, ["bench", "tokenizer", "--data-root", str(root)])
    assert "jglue/ and igakuqa/" in str(found.exception)
