"""A larger vocabulary: what was known stays as it was, new words begin as what they were spelt with."""

import json

import pytest
import sentencepiece
import torch
from tiny import PROJECTOR, TILES, VISION, corpus_texts, make_language, make_model, shake, tokenizer  # noqa: F401
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from jvlm.cli import app
from jvlm.errors import DataError, UsageError
from jvlm.model.directory import load_directory, save_model
from jvlm.model.extend import extend_model
from jvlm.model.processor import Processor
from jvlm.text.extend import extend_tokenizer
from jvlm.text.tokenizer import Tokenizer

WARD = [
    "狭心症の患者に硝酸薬を投与した。",
    "心電図で狭心症を疑った。",
    "硝酸薬と心電図の記録。",
    "狭心症には硝酸薬を。",
] * 30
PIECES = 6


@pytest.fixture(scope="module")
def extended(tokenizer):  # noqa: F811
    return extend_tokenizer(tokenizer, WARD, PIECES, seed=1)


def test_old_text_keeps_its_ids_and_new_words_get_theirs(tokenizer, extended):  # noqa: F811
    assert extended.vocab_size == tokenizer.vocab_size + PIECES
    old = corpus_texts(30)
    assert extended.encode_batch(old) == tokenizer.encode_batch(old)
    assert sum(map(len, extended.encode_batch(WARD))) < 0.5 * sum(map(len, tokenizer.encode_batch(WARD)))
    new = {extended.decode([i]) for i in range(tokenizer.vocab_size, extended.vocab_size)}
    assert "狭心症" in new
    assert all(extended.decode(extended.encode(text)) == text for text in [*WARD, *old])


def test_the_twin_stays_exact(extended, tmp_path):
    extended.save(tmp_path)
    reference = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
    for text in [*WARD[:4], *corpus_texts(20)]:
        assert extended.encode(text) == reference.encode(text)


@pytest.mark.parametrize("kind", ["llama", "jvlm"])
def test_the_model_is_what_it_was_but_for_the_new_rows(tokenizer, extended, tmp_path, kind):  # noqa: F811
    if kind == "llama":
        model = shake(make_language(tokenizer))
        save_model(tmp_path / "old", model, Processor(tokenizer))
    else:
        model = shake(make_model(tokenizer))
        save_model(tmp_path / "old", model, Processor(tokenizer, VISION, PROJECTOR, TILES))
    extend_model(tmp_path / "old", extended, tmp_path / "new")
    loaded = load_directory(tmp_path / "new")
    old, new = (m if kind == "llama" else m.language for m in (model, loaded.model))
    ids = torch.tensor([tokenizer.encode(corpus_texts(1)[0])[:50]])
    with torch.no_grad():
        torch.testing.assert_close(new(ids).logits[..., : tokenizer.vocab_size], old(ids).logits, rtol=0, atol=0)
    rows = old.get_input_embeddings().weight
    for number in range(tokenizer.vocab_size, extended.vocab_size):
        spelt = tokenizer.encode(extended.decode([number]))
        assert len(spelt) > 1
        torch.testing.assert_close(new.get_input_embeddings().weight[number], rows[spelt].mean(0))
    if kind == "llama":
        assert AutoModelForCausalLM.from_pretrained(tmp_path / "new").config.vocab_size == extended.vocab_size
    else:
        assert loaded.processor.num_image_tokens > 0
        assert loaded.processor.tiles == TILES
        assert torch.equal(loaded.model.markers.weight, model.markers.weight)


def test_what_cannot_be_extended(tokenizer, extended, tmp_path):  # noqa: F811
    with pytest.raises(UsageError, match=r"words that the tokenizer has not"):
        extend_tokenizer(tokenizer, WARD, 5000)
    bare = Tokenizer(extended._definition, extended._config)
    with pytest.raises(DataError, match=r"no spm\.model"):
        extend_tokenizer(bare, WARD, 5)
    save_model(tmp_path / "model", make_language(tokenizer), Processor(tokenizer))
    with pytest.raises(DataError, match="does not extend"):
        extend_model(tmp_path / "model", tokenizer, tmp_path / "out")


def test_the_command(tokenizer, tmp_path):  # noqa: F811
    save_model(tmp_path / "model", make_language(tokenizer), Processor(tokenizer))
    (tmp_path / "ward.txt").write_text("\n".join(WARD))
    arguments = ["tokenizer", "extend", str(tmp_path / "model"), str(tmp_path / "ward.txt")]
    found = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out"), "--pieces", "4", "--json"])
    assert found.exit_code == 0, found.output
    figures = json.loads(found.stdout)
    assert figures["after"]["chars_per_token"] > figures["before"]["chars_per_token"]
    assert load_directory(tmp_path / "out").model.config.vocab_size == figures["vocab_size"]
