"""Tokenizers side by side, ours and others'."""

import json
import sys
from pathlib import Path

import pytest
from tiny import corpus_texts

from jvlm import cli
from jvlm.errors import DataError, UsageError
from jvlm.text.compare import ForeignTokenizer, compare_tokenizers
from jvlm.text.stats import tokenizer_figures


@pytest.fixture
def folder(tokenizer, tmp_path: Path) -> Path:
    tokenizer.save(tmp_path / "ours")
    (tmp_path / "sight.txt").write_text("\n".join(corpus_texts(20)))
    (tmp_path / "rare.txt").write_text("驫")
    return tmp_path


def test_the_same_tokenizer_gives_the_same_figures_through_every_door(folder, tokenizer):
    """Our folder, its SentencePiece model alone, and the folder as transformers reads it."""
    domains = [folder / "sight.txt", folder / "rare.txt"]
    rows = compare_tokenizers([folder / "ours", folder / "ours" / "spm.model"], domains)
    keys = ("domain", "vocab_size", "documents", "chars_per_token", "byte_share", "roundtrip")
    assert [[row[k] for k in keys] for row in rows[:2]] == [[row[k] for k in keys] for row in rows[2:]]
    assert rows[0]["chars_per_token"] > 1
    assert (rows[1]["chars_per_token"], rows[1]["byte_share"], rows[1]["roundtrip"]) == (1 / 3, 1.0, 1.0)
    texts = [(folder / "sight.txt").read_text()]
    assert tokenizer_figures(ForeignTokenizer(folder / "ours"), texts) == tokenizer_figures(tokenizer, texts)


def test_what_cannot_be_read_is_named(folder):
    with pytest.raises(DataError, match="empty"):
        compare_tokenizers([folder / "empty"], [folder / "sight.txt"])
    (folder / "torn.model").write_bytes(b"no model")
    with pytest.raises(DataError, match=r"torn\.model"):
        compare_tokenizers([folder / "torn.model"], [folder / "sight.txt"])
    (folder / "bad.jsonl").write_text("no row\n")
    with pytest.raises(DataError, match=r"bad\.jsonl:1"):
        compare_tokenizers([folder / "ours"], [folder / "bad.jsonl"])
    with pytest.raises(UsageError):
        compare_tokenizers([folder / "ours"], [])


def test_the_command(folder, monkeypatch, capsys):
    arguments = ["tokenizer", "compare", str(folder / "ours"), "--text", str(folder / "sight.txt"), "--json"]
    monkeypatch.setattr(sys, "argv", ["jvlm", *arguments])
    with pytest.raises(SystemExit):
        cli.main()
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["domain"], row["roundtrip"]) == ("sight.txt", 1.0)
