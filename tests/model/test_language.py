"""The language model is transformers' Llama, and what we set is what it is."""

import math

import pytest
import torch
from tiny import LANGUAGE, make_language
from transformers import LlamaForCausalLM

from jvlm.files import read_json
from jvlm.model.config import LanguageConfig
from jvlm.model.directory import save_model
from jvlm.model.jvlm import hidden_states
from jvlm.model.language import SHARPER, build_language_model
from jvlm.model.processor import Processor

SHAPES = [LANGUAGE, LANGUAGE.model_copy(update={"tie_embeddings": False, "rope_theta": 500.0, "num_kv_heads": None})]


@pytest.mark.parametrize("shape", SHAPES, ids=["tied, grouped", "untied, own theta"])
def test_logits_equal_transformers_own_on_the_saved_directory(tokenizer, tmp_path, shape):
    ours = make_language(tokenizer, shape)
    save_model(tmp_path / "model", ours, Processor(tokenizer))
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="sdpa")
    assert theirs.dtype == torch.float32
    lengths = [11, 40, 23]
    documents = [torch.randint(13, tokenizer.vocab_size, (n,), generator=torch.manual_seed(n)) for n in lengths]
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    with torch.no_grad():
        embeddings = ours.get_input_embeddings()(torch.cat(documents)[None])
        logits = ours.lm_head(hidden_states(ours, embeddings, positions, lengths))[0].split(lengths)
        for mine, document in zip(logits, documents, strict=True):
            torch.testing.assert_close(mine, theirs(document[None]).logits[0], atol=1e-5, rtol=1e-5)
        assert float(logits[0].std()) > 0.1  # far from the flat logits of a fresh model


def test_residual_projections_start_smaller(tokenizer):
    torch.manual_seed(0)
    shape = LanguageConfig(hidden_size=96, num_layers=3, num_heads=4, intermediate_size=160)
    model = build_language_model(shape, tokenizer.vocab_size, 3, 1, 2)
    scaled = 0
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
            continue
        writes_residual = "o_proj" in name or "down_proj" in name
        scaled += writes_residual
        expected = 0.02 / math.sqrt(2 * 3) if writes_residual else 0.02
        if "q_proj" in name or "k_proj" in name:
            expected *= SHARPER
        assert float(parameter.detach().std()) == pytest.approx(expected, rel=0.05), name
        assert abs(float(parameter.detach().mean())) < 0.1 * expected, name
    assert scaled == 2 * 3


@pytest.mark.parametrize("kv_heads", [4, 2], ids=["every head its own", "grouped"])
def test_attention_starts_out_finding_and_copying_what_is_alike(tokenizer, kv_heads):
    """A repeated rare token attends to its first occurrence and brings back what points to that token."""
    torch.manual_seed(0)
    shape = LanguageConfig(hidden_size=256, num_layers=1, num_heads=4, num_kv_heads=kv_heads, intermediate_size=64)
    model = build_language_model(shape, tokenizer.vocab_size, 3, 1, 2)
    heads = model.model.layers[0].self_attn
    x = torch.nn.functional.normalize(torch.randn(50, 256, generator=torch.manual_seed(1)), dim=-1)
    groups = 4 // kv_heads
    with torch.no_grad():
        queries = heads.q_proj(x).view(50, 4, 64)[:, ::groups]
        scores = torch.einsum("qhd,khd->qk", queries, heads.k_proj(x).view(50, kv_heads, 64))
        values = heads.v_proj(x).view(50, kv_heads, 1, 64).expand(-1, -1, groups, -1).reshape(50, 256)
        copied = heads.o_proj(values)
    assert (scores.argmax(1) == torch.arange(50)).all()
    assert ((copied @ x.T).argmax(1) == torch.arange(50)).all()


def test_what_is_configured_is_what_is_built(tokenizer):
    config = make_language(tokenizer, SHAPES[1]).config
    assert config.rope_parameters["rope_theta"] == 500.0
    assert config.num_key_value_heads == config.num_attention_heads == 4
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (3, 1, 2)
    tied = make_language(tokenizer)
    assert tied.lm_head.weight is tied.get_input_embeddings().weight
    assert tied.config.num_key_value_heads == 2
    untied = make_language(tokenizer, SHAPES[1])
    assert untied.lm_head.weight is not untied.get_input_embeddings().weight


def test_config_json_speaks_both_dialects(tokenizer, tmp_path):
    save_model(tmp_path / "model", make_language(tokenizer, SHAPES[1]), Processor(tokenizer))
    record = read_json(tmp_path / "model" / "config.json")
    assert record["rope_theta"] == record["rope_parameters"]["rope_theta"] == 500.0
    assert record["dtype"] == record["torch_dtype"] == "float32"
    assert record["model_type"] == "llama"
    assert record["architectures"] == ["LlamaForCausalLM"]
    assert not [key for key in record if key.startswith("_") or "attn_implementation" in key]
