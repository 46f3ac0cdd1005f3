"""Our models and transformers' own, read from the same directory, against a Llama of 150 lines."""

import pytest
import torch
from reference_llama import ReferenceLlama, Shape, rotary_angles
from tiny import LANGUAGE, make_language
from transformers import AutoModelForCausalLM, LlamaForCausalLM, MixtralForCausalLM

from jvlm.model.directory import load_directory, save_model
from jvlm.model.experts import split_experts
from jvlm.model.jvlm import hidden_states
from jvlm.model.processor import Processor

SHAPES = {
    "tied, grouped": {},
    "untied, every head its own": {"tie_embeddings": False, "num_kv_heads": None},
    "one key for all, own theta": {"num_kv_heads": 1, "rope_theta": 500.0},
    "experts": {"num_experts": 4, "experts_per_token": 2},
    "experts, untied, one per token": {"num_experts": 3, "experts_per_token": 1, "tie_embeddings": False},
}
LENGTHS = [11, 40, 23]


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def language(request, tokenizer):
    return make_language(tokenizer, LANGUAGE.model_copy(update=request.param))


def reference(model) -> ReferenceLlama:
    """The same weights, put in by name."""
    config = model.config
    shape = Shape(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        intermediate_size=config.intermediate_size,
        rope_theta=config.rope_parameters["rope_theta"],
        norm_eps=config.rms_norm_eps,
        tied=config.tie_word_embeddings,
        experts=getattr(config, "num_local_experts", 0),
        experts_per_token=getattr(config, "num_experts_per_tok", 0),
    )
    ours = ReferenceLlama(shape)
    names = {"block_sparse_moe": "mlp", "w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
    weights = {}
    for name, weight in split_experts(model.named_parameters()):
        for other, own in names.items():
            name = name.replace(other, own)
        weights[name.removeprefix("model.")] = weight
    if shape.tied:
        weights["lm_head.weight"] = weights["embed_tokens.weight"]
    ours.load_state_dict(weights)
    return ours


def packed_logits(model, documents):
    positions = torch.cat([torch.arange(len(d)) for d in documents])[None]
    embeddings = model.get_input_embeddings()(torch.cat(documents)[None])
    return model.lm_head(hidden_states(model, embeddings, positions, [len(d) for d in documents]))[0]


def some_documents(tokenizer):
    return [torch.randint(13, tokenizer.vocab_size, (n,), generator=torch.manual_seed(n)) for n in LENGTHS]


def close(one, other):
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_logits_of_a_packed_row_are_the_references(language, tokenizer):
    documents = some_documents(tokenizer)
    ids = torch.cat(documents)[None]
    numbers = torch.repeat_interleave(torch.tensor(LENGTHS))[None]
    plain = reference(language)
    packed = packed_logits(language, documents)
    close(packed, plain(ids, numbers)[0])
    assert float(packed.std()) > 0.1  # far from the flat logits of a fresh model
    for own, document in zip(packed.split(LENGTHS), documents, strict=True):
        close(own, plain(document[None])[0])  # as if it were alone


@torch.no_grad()
def test_a_changed_document_changes_no_other(language, tokenizer):
    documents = some_documents(tokenizer)
    before = packed_logits(language, documents).split(LENGTHS)
    documents[1] = documents[1].flip(0)
    after = packed_logits(language, documents).split(LENGTHS)
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        if number == 1:
            assert not torch.allclose(one, other)
        else:
            close(one, other)  # not to the bit where experts work: their groups are of another size


@torch.no_grad()
@pytest.mark.parametrize("names", ["published", "in memory"])
def test_transformers_own_class_reads_the_directory(language, tokenizer, tmp_path, names):
    """Of `save_model` and of a checkpoint, which keeps the names in memory."""
    save_model(tmp_path / "model", language, Processor(tokenizer))
    if names == "in memory":
        from safetensors.torch import save_file

        weights = {name: p.contiguous() for name, p in language.named_parameters()}
        save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    theirs, told = AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", attn_implementation="sdpa", output_loading_info=True
    )
    assert not any(told.values()), told
    experts = "num_local_experts" in language.config.to_dict()
    assert type(theirs) is (MixtralForCausalLM if experts else LlamaForCausalLM)
    assert theirs.dtype == torch.float32
    for document in some_documents(tokenizer):
        own = reference(language)(document[None])
        close(theirs(document[None]).logits, own)
        close(packed_logits(language, [document])[None], own)


def test_published_names_are_those_of_the_hub_and_are_read_back(tokenizer, tmp_path):
    from jvlm.model.tensors import TensorFolder

    language = make_language(tokenizer, LANGUAGE.model_copy(update=SHAPES["experts"]))
    save_model(tmp_path / "ours", language, Processor(tokenizer))
    language.save_pretrained(tmp_path / "theirs")
    ours, theirs = TensorFolder(tmp_path / "ours", "model"), TensorFolder(tmp_path / "theirs", "model")
    assert "model.layers.1.block_sparse_moe.experts.3.w1.weight" in ours
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    loaded = load_directory(tmp_path / "ours")
    assert loaded.kind == "mixtral"
    back = dict(loaded.model.named_parameters())
    assert all(torch.equal(back[name], weight) for name, weight in language.named_parameters())


@torch.no_grad()
def test_rotary_tables_stay_float32_where_the_rest_is_bfloat16(language, tokenizer):
    """bfloat16 cannot tell position 257 from 256."""
    tables = []
    language.model.rotary_emb.register_forward_hook(lambda _, __, out: tables.append(out))
    document = torch.randint(13, tokenizer.vocab_size, (300,))
    with torch.autocast("cpu", torch.bfloat16):
        packed_logits(language, [document])
    ((cos, sin),) = tables
    assert cos.dtype == sin.dtype == torch.float32
    theta = language.config.rope_parameters["rope_theta"]
    angles = rotary_angles(torch.arange(300)[None], language.config.hidden_size // 4, theta)
    torch.testing.assert_close(cos, angles.cos().repeat(1, 1, 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(sin, angles.sin().repeat(1, 1, 2), atol=1e-4, rtol=0)
