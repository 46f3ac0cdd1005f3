"""The corpus benchmark on a small made folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import zstandard
from typer.testing import CliRunner

from jvlm.bench import corpus
from jvlm.cli import app

KANA = [chr(code) for code in range(0x3041, 0x3094)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    for folder in ("text", "en_text", "medical_text"):
        rows = [json.dumps({"text": "".join(rng.choice(KANA, 300)) + "。"}) for _ in range(60)]
        (tmp_path / "root" / folder).mkdir(parents=True)
        (tmp_path / "root" / folder / f"{folder}.jsonl.zst").write_bytes(zstandard.compress("\n".join(rows).encode()))
    questions = tmp_path / "root" / "evals" / "jglue" / "datasets" / "jcommonsenseqa-v1.3"
    questions.mkdir(parents=True)
    (questions / "valid-v1.3.json").write_text(json.dumps({"question": "田んぼが広がる風景は？"}))
    return tmp_path / "root"


def test_figures_of_a_small_folder(root: Path, monkeypatch) -> None:
    monkeypatch.setattr(corpus, "DOCUMENTS", 40)
    found = CliRunner().invoke(app, ["bench", "corpus", "--json", "--threads", "1", "--data-root", str(root)])
    assert found.exit_code == 0, found.output
    figures = json.loads(found.stdout)
    assert figures["documents"] == 180
    assert figures["megabytes"] == pytest.approx(180 * 301 * 3 / 1e6)
    assert figures["neardup_recall"] >= 0.95
    assert figures["neardup_precision"] == 1.0
    assert figures["neardup_others_removed"] == 0
    assert set(figures["step_seconds"]) == {
        "read",
        "clean",
        "mask",
        "contamination",
        "quality",
        "hash",
        "duplicates",
        "overlap",
        "write",
    }
    assert 0 < figures["mb_per_s_per_core"] < 1000
    assert figures["peak_gib"] > 0.05


def test_edits_lie_between_one_and_five_in_a_hundred() -> None:
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(KANA, 1000))
    found = [corpus._jaccard(text, corpus._edited(text, rng)) for _ in range(50)]
    assert 0.5 < min(found) < 0.75
    assert 0.85 < max(found) < 0.97


def test_without_a_folder_the_command_says_what_to_do(monkeypatch) -> None:
    monkeypatch.delenv("JVLM_DATA_ROOT", raising=False)
    found = CliRunner().invoke(app, ["bench", "corpus"])
    assert found.exit_code != 0
    assert "JVLM_DATA_ROOT" in str(found.exception)
