"""A mixture of experts: how it starts, what keeps it in balance, what it computes in, how it is kept on the disk."""

import math

import pytest
import torch
from tiny import LANGUAGE, PROJECTOR, VISION, make_language, make_model, shake
from transformers import MixtralForCausalLM

from jvlm.errors import UsageError
from jvlm.model.config import LanguageConfig
from jvlm.model.directory import load_directory, save_model
from jvlm.model.experts import balance_loss, router_scores
from jvlm.model.export import export
from jvlm.model.jvlm import hidden_states
from jvlm.model.language import build_language_model
from jvlm.model.processor import Processor

EXPERTS = LANGUAGE.model_copy(update={"num_experts": 4, "experts_per_token": 2})


@pytest.fixture
def mixture(tokenizer):
    return make_language(tokenizer, EXPERTS)


def hidden(model, ids):
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    return hidden_states(model, model.get_input_embeddings()(ids), positions, [ids.shape[1]] * len(ids))


def some_ids(model, rows=2, length=30):
    return torch.randint(13, model.config.vocab_size, (rows, length), generator=torch.manual_seed(0))


def test_experts_start_as_the_other_matrices_do():
    torch.manual_seed(0)
    shape = LanguageConfig(hidden_size=96, num_layers=3, num_heads=4, intermediate_size=160, num_experts=8)
    layer = build_language_model(shape, 200, 3, 1, 2).model.layers[1].mlp
    expected = {"gate.weight": 0.02, "experts.gate_up_proj": 0.02, "experts.down_proj": 0.02 / math.sqrt(2 * 3)}
    for name, parameter in layer.named_parameters():
        matrices = parameter.detach() if parameter.ndim == 3 else parameter.detach()[None]
        for matrix in matrices:
            assert float(matrix.std()) == pytest.approx(expected[name], rel=0.1), name
    assert expected.keys() == {name for name, _ in layer.named_parameters()}


def test_what_is_configured_is_what_is_built(mixture):
    config = mixture.config
    assert type(mixture) is MixtralForCausalLM
    assert (config.num_local_experts, config.num_experts_per_tok) == (4, 2)
    assert (config.router_aux_loss_coef, config.router_z_loss_coef, config.router_jitter_noise) == (0.01, 0.001, 0.0)
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 10000.0}
    assert config.max_position_embeddings == EXPERTS.max_length
    assert config.sliding_window is None
    assert config._experts_implementation == "grouped_mm"
    assert mixture.lm_head.weight is mixture.get_input_embeddings().weight


def test_more_experts_for_a_token_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="experts_per_token 3 of num_experts 2"):
        LanguageConfig(num_experts=2, experts_per_token=3)


def by_hand(model, ids, real):
    """Unevenness and size of the router's scores, token by token."""
    config = model.config
    seen = []
    hooks = [
        layer.mlp.register_forward_pre_hook(lambda block, given: seen.append(given[0][real] @ block.gate.weight.T))
        for layer in model.model.layers
    ]
    hidden(model, ids)
    for hook in hooks:
        hook.remove()
    chosen, odds, size, count = torch.zeros(4), torch.zeros(4), [], 0
    for scores in seen:
        size.append(sum(float(torch.logsumexp(token, 0)) ** 2 for token in scores) / len(scores))
        for token in scores:
            count += 1
            odds += token.softmax(0)
            for expert in token.topk(config.num_experts_per_tok).indices:
                chosen[expert] += 1
    return float((chosen / count * odds / count).sum()) * 4, sum(size) / len(size)


@torch.no_grad()
def test_the_balance_loss_is_what_it_is_by_hand_and_leaves_padding_out(mixture):
    ids = some_ids(mixture)
    real = torch.ones_like(ids, dtype=torch.bool)
    found = []
    for padded in (0, 9):
        real[1, 30 - padded :] = False
        ids[~real] = 3
        with router_scores(mixture) as scores:
            hidden(mixture, ids)
        assert len(scores) == 2
        assert scores[0].dtype == torch.float32
        unevenness, size = by_hand(mixture, ids, real)
        assert unevenness > 2.01  # 2 experts a token, evenly, would be 2
        found.append(balance_loss(mixture.config, scores, real))
        assert float(found[-1]) == pytest.approx(0.01 * unevenness + 0.001 * size, rel=1e-4)
    assert abs(float(found[0] - found[1])) > 1e-5


def test_autocast_rounds_the_experts_and_never_the_router(mixture):
    mixture.train()
    ids = some_ids(mixture)
    kinds = set()
    for layer in mixture.model.layers:
        layer.mlp.experts.register_forward_hook(lambda _, __, out: kinds.add(out.dtype))
    exact = hidden(mixture, ids)
    assert kinds == {torch.float32}
    kinds.clear()
    with torch.autocast("cpu", torch.bfloat16), router_scores(mixture) as scores:
        rounded = hidden(mixture, ids)
    assert kinds == {torch.bfloat16}
    assert {score.dtype for score in scores} == {torch.float32}
    assert float((rounded - exact).detach().abs().mean()) < 0.05 * float(exact.detach().abs().mean())
    rounded.square().sum().backward()
    for name, parameter in mixture.model.layers.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.abs().sum() > 0, name


def test_a_batch_generates_what_each_alone_generates(mixture):
    ids = some_ids(mixture, rows=2, length=7)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 3}
    together = mixture.generate(ids, attention_mask=mask, **settings)
    assert torch.equal(together[0, 7:], mixture.generate(ids[:1, 4:], **settings)[0, 3:])
    assert torch.equal(together[1, 7:], mixture.generate(ids[1:], **settings)[0, 7:])


@torch.no_grad()
def test_a_vision_language_model_around_a_mixture_comes_back_and_is_exported(tokenizer, tmp_path):
    model = make_model(tokenizer, EXPERTS)
    processor = Processor(tokenizer, VISION, PROJECTOR)
    save_model(tmp_path / "jvlm", model, processor)
    loaded = load_directory(tmp_path / "jvlm")
    assert loaded.kind == "jvlm"
    weights = dict(loaded.model.named_parameters())
    assert all(torch.equal(weights[name], weight) for name, weight in model.named_parameters())
    with pytest.raises(UsageError, match="the model is a mixtral, no llama"):
        export(tmp_path / "jvlm", tmp_path / "out", "llama")
    ids = some_ids(model.language)
    expected = model.language(ids).logits
    for format in ("hf", "mixtral"):
        said = export(tmp_path / "jvlm", tmp_path / format, format)
        assert said.startswith("MixtralForCausalLM with")
        theirs = MixtralForCausalLM.from_pretrained(tmp_path / format, attn_implementation="sdpa")
        torch.testing.assert_close(theirs(ids).logits, expected, atol=1e-5, rtol=1e-5)
        assert load_directory(tmp_path / format).kind == "mixtral"


def test_shaken_routers_use_every_expert(mixture):
    """The tests above would see nothing if one expert did all the work."""
    shake(mixture)
    with torch.no_grad(), router_scores(mixture) as scores:
        hidden(mixture, some_ids(mixture))
    for layer in scores:
        assert len(layer.topk(2).indices.unique()) == 4
