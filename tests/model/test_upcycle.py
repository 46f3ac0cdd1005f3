"""A dense model given experts computes what it did, and learns on as a mixture."""

import pytest
import torch
from tiny import LANGUAGE, PROJECTOR, SEED, VISION, make_language, make_model, shake
from transformers import LlamaForCausalLM, MistralConfig, MistralForCausalLM, MixtralForCausalLM
from typer.testing import CliRunner

from jvlm.cli import app
from jvlm.errors import UsageError
from jvlm.model.config import LanguageConfig
from jvlm.model.directory import load_directory, save_model
from jvlm.model.experts import router_scores
from jvlm.model.language import language_model_from
from jvlm.model.processor import Processor
from jvlm.model.upcycle import upcycle
from jvlm.train.config import LoopConfig, OptimizerConfig, PackingConfig
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import NextToken
from jvlm.train.source import PackedRows, TokenDocuments


def ids_of(model):
    return torch.randint(13, model.config.vocab_size, (2, 30), generator=torch.manual_seed(0))


def cross_entropy(model, tokenizer, text_shards):
    """Of a packed batch, without what keeps experts in balance; a training of the model."""
    processor = Processor(tokenizer)
    rows = PackedRows(TokenDocuments(text_shards, processor), 64, SEED, processor.pad)
    objective = NextToken(model, rows, PackingConfig(row_length=64, rows=4))
    (batch,) = objective.micro_batches(0)
    with torch.no_grad():
        objective.loss_sum(batch)
    return sum(total for _, total, _ in objective.by_source.take()) / batch.weight, objective


@pytest.fixture
def dense(tokenizer, tmp_path):
    """Untied, so that both tables are to be carried over."""
    model = make_language(tokenizer, LANGUAGE.model_copy(update={"tie_embeddings": False, "rope_theta": 5000.0}))
    save_model(tmp_path / "dense", model, Processor(tokenizer))
    return model


@pytest.mark.parametrize(("experts", "top_k"), [(4, 2), (3, 1), (4, 4)])
def test_it_starts_at_the_dense_loss(dense, tokenizer, text_shards, tmp_path, experts, top_k):
    said = upcycle(tmp_path / "dense", experts, top_k, tmp_path / "out")
    loaded = load_directory(tmp_path / "out")
    mixture, config = loaded.model, loaded.model.config
    assert loaded.kind == "mixtral"
    assert (config.num_local_experts, config.num_experts_per_tok) == (experts, top_k)
    assert (config.router_aux_loss_coef, config.router_z_loss_coef) == (LanguageConfig().balance, 0.001)
    with torch.no_grad():
        expected = dense(ids_of(dense)).logits
        torch.testing.assert_close(mixture(ids_of(dense)).logits, expected, atol=1e-4, rtol=1e-4)
        with router_scores(mixture) as scores:
            mixture(ids_of(dense))
    for layer in scores:  # they say different things of different tokens: it is not a chance of one expert
        assert len(layer.argmax(-1).unique()) > 1
    loss, _ = cross_entropy(dense, tokenizer, text_shards)
    assert cross_entropy(mixture, tokenizer, text_shards)[0] == pytest.approx(loss, abs=1e-4)
    total = sum(parameter.numel() for parameter in mixture.parameters())
    of_an_expert = sum(p.numel() for name, p in dense.named_parameters() if ".mlp." in name)
    assert total == sum(p.numel() for p in dense.parameters()) + (experts - 1) * of_an_expert + 2 * 32 * experts
    assert said.endswith(f"{total:,} parameters, {total - (experts - top_k) * of_an_expert:,} of them for a token")


def test_its_experts_come_apart_and_it_learns(dense, tokenizer, text_shards, tmp_path):
    upcycle(tmp_path / "dense", 4, 2, tmp_path / "out")
    mixture = load_directory(tmp_path / "out").model
    before, objective = cross_entropy(mixture, tokenizer, text_shards)
    weight = mixture.model.layers[0].mlp.experts.gate_up_proj
    assert torch.equal(weight[0], weight[3])
    config = LoopConfig(steps=20, optimizer=OptimizerConfig(learning_rate=3e-3, warmup=1))
    train(objective, config, tmp_path / "run", lambda _: None, lambda _: None)
    assert cross_entropy(mixture, tokenizer, text_shards)[0] < before - 0.3
    assert min(float((weight[0] - weight[i]).detach().abs().max()) for i in (1, 2, 3)) > 1e-3


@torch.no_grad()
def test_a_vision_language_model_keeps_its_eyes(tokenizer, tmp_path):
    model = make_model(tokenizer)
    save_model(tmp_path / "dense", model, Processor(tokenizer, VISION, PROJECTOR))
    upcycle(tmp_path / "dense", 4, 2, tmp_path / "out")
    loaded = load_directory(tmp_path / "out")
    assert loaded.kind == "jvlm"
    assert type(loaded.model.language) is MixtralForCausalLM
    pixels = torch.randint(0, 256, (1, 3, 32, 32), generator=torch.manual_seed(0)).byte()
    assert torch.equal(loaded.model.image_features(pixels), model.image_features(pixels))
    assert torch.equal(loaded.model.markers.weight, model.markers.weight)
    ids = ids_of(model.language)
    expected = model.language(ids).logits
    torch.testing.assert_close(loaded.model.language(ids).logits, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_mistral_with_heads_of_its_own_width(tokenizer, tmp_path):
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    shape |= {"head_dim": 16, "intermediate_size": 48, "vocab_size": tokenizer.vocab_size, "sliding_window": None}
    config = MistralConfig(**shape, pad_token_id=3, rms_norm_eps=1e-6, tie_word_embeddings=False)
    model = shake(language_model_from(config.to_dict())).eval()
    assert type(model) is MistralForCausalLM
    save_model(tmp_path / "dense", model, Processor(tokenizer))
    upcycle(tmp_path / "dense", 2, 2, tmp_path / "out")
    ids = ids_of(model)
    torch.testing.assert_close(
        load_directory(tmp_path / "out").model(ids).logits, model(ids).logits, atol=1e-4, rtol=1e-4
    )


def test_what_cannot_be_given_experts_is_refused(dense, tokenizer, tmp_path):
    upcycle(tmp_path / "dense", 2, 1, tmp_path / "mixture")
    with pytest.raises(UsageError, match="a mixtral cannot be given experts"):
        upcycle(tmp_path / "mixture", 2, 1, tmp_path / "out")
    record = dense.config.to_dict() | {"model_type": "qwen2"}
    save_model(tmp_path / "qwen", language_model_from(record), Processor(tokenizer))
    with pytest.raises(UsageError, match="a qwen2 cannot be given experts"):
        upcycle(tmp_path / "qwen", 2, 1, tmp_path / "out")
    biased = LlamaForCausalLM(type(dense.config)(**dense.config.to_dict() | {"mlp_bias": True}))
    save_model(tmp_path / "biased", biased, Processor(tokenizer))
    with pytest.raises(UsageError, match="a llama cannot be given experts"):
        upcycle(tmp_path / "biased", 2, 1, tmp_path / "out")
    with pytest.raises(UsageError, match="3 experts for a token, of 2"):
        upcycle(tmp_path / "dense", 2, 3, tmp_path / "out")
    with pytest.raises(UsageError, match="exists already"):
        upcycle(tmp_path / "dense", 2, 1, tmp_path / "mixture")
    assert not (tmp_path / "out").exists()


def test_the_command(dense, tmp_path):
    out = tmp_path / "out"
    shown = CliRunner().invoke(
        app, ["upcycle", str(tmp_path / "dense"), "--experts", "2", "--top-k", "1", "--out", str(out)]
    )
    assert shown.exit_code == 0, shown.output
    assert load_directory(out).model.config.num_local_experts == 2
