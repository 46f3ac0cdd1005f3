"""Export: plain transformers reads it and computes the same."""

import pytest
import torch
from tiny import VISION, make_language, make_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from jvlm.errors import DataError, UsageError
from jvlm.files import read_json
from jvlm.model.directory import load_directory, save_model
from jvlm.model.export import export
from jvlm.model.processor import Processor
from jvlm.model.vision import build_clip


def test_the_language_model_of_a_jvlm_directory_loads_in_plain_transformers(tokenizer, processor, tmp_path):
    model = make_model(tokenizer)
    save_model(tmp_path / "jvlm", model, processor)
    said = export(tmp_path / "jvlm", tmp_path / "llama", "llama")
    count = sum(p.numel() for p in model.language.parameters())
    assert f"{count:,}" in said
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "llama", attn_implementation="sdpa")
    assert type(theirs) is LlamaForCausalLM
    text = "赤い丸は何個ありますか。\nはい、2個です。"
    fast = AutoTokenizer.from_pretrained(tmp_path / "llama")
    ids = fast(text, add_special_tokens=False)["input_ids"]
    assert ids == tokenizer.encode(text)
    with torch.no_grad():
        expected = model.language(torch.tensor([ids])).logits
        difference = (theirs(torch.tensor([ids])).logits - expected).abs().max()
    assert float(difference) <= 1e-5
    assert load_directory(tmp_path / "llama").kind == "llama"


def test_a_language_model_exports_to_itself(tokenizer, tmp_path):
    model = make_language(tokenizer)
    save_model(tmp_path / "a", model, Processor(tokenizer))
    export(tmp_path / "a", tmp_path / "b", "llama")
    ours, theirs = (read_json(tmp_path / name / "hashes.json") for name in "ab")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name]["sha256"] != theirs[name]["sha256"]] in ([], ["config.json"])
    assert read_json(tmp_path / "a" / "config.json") == read_json(tmp_path / "b" / "config.json")


def test_what_cannot_be_exported_is_refused(tokenizer, tmp_path):
    save_model(tmp_path / "clip", build_clip(VISION, tokenizer.vocab_size, 3, 8), Processor(tokenizer, VISION))
    with pytest.raises(UsageError, match="holds no language model"):
        export(tmp_path / "clip", tmp_path / "out", "llama")
    with pytest.raises(UsageError, match=r"unknown format 'gguf'.*known: hf, llama, mistral, mixtral, qwen2, qwen3"):
        export(tmp_path / "clip", tmp_path / "out", "gguf")
    with pytest.raises(DataError, match="not a model directory"):
        export(tmp_path / "nothing", tmp_path / "out", "llama")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("inside", [False, True])
def test_an_export_destroys_no_other_folder(tokenizer, tmp_path, inside):
    """A target that holds something else, or the source itself, is not replaced."""
    save_model(tmp_path / "source", make_language(tokenizer), Processor(tokenizer))
    target = tmp_path / "thesis"
    target.mkdir()
    (target / "chapter.txt").write_text("years of work")
    if inside:
        target = tmp_path / "source"
        (target / "notes.txt").write_text("years of work")
    with pytest.raises(UsageError):
        export(tmp_path / "source", target, "llama")
    assert list(target.glob("*.txt"))
