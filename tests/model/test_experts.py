"""A mixture of experts: how it starts, what keeps it in balance, what it computes in, how it is kept on the disk."""

import math

import pytest
import torch
from tiny import LANGUAGE, PROJECTOR, VISION, make_language, make_model, shake
from torch.nn import functional as F
from transformers import MixtralForCausalLM
from transformers.models.mixtral.modeling_mixtral import MixtralTopKRouter

from jvlm.errors import UsageError
from jvlm.model.config import LanguageConfig
from jvlm.model.directory import load_directory, save_model
from jvlm.model.experts import balance_loss, router_scores
from jvlm.model.export import export
from jvlm.model.jvlm import hidden_states
from jvlm.model.language import build_language_model
from jvlm.model.processor import Processor
from jvlm.train.config import OptimizerConfig
from jvlm.train.engine import parameter_groups, set_rates
from jvlm.train.schedule import learning_rate_factor

EXPERTS = LANGUAGE.model_copy(update={"num_experts": 4, "experts_per_token": 2})
BALANCE = LanguageConfig().balance


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
    assert (config.router_aux_loss_coef, config.router_z_loss_coef, config.router_jitter_noise) == (BALANCE, 0.001, 0.0)
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 10000.0}
    assert config.max_position_embeddings == EXPERTS.max_length
    assert config.sliding_window is None
    assert config._experts_implementation == "grouped_mm"
    assert mixture.lm_head.weight is mixture.get_input_embeddings().weight


def test_more_experts_for_a_token_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="experts_per_token 3 of num_experts 2"):
        LanguageConfig(num_experts=2, experts_per_token=3)


def by_hand(model, ids, real):
    """Preference for busy experts, row by row, and size of the router's scores, token by token."""
    top_k = model.config.num_experts_per_tok
    seen = []
    hooks = [
        layer.mlp.register_forward_pre_hook(lambda block, given: seen.append(given[0] @ block.gate.weight.T))
        for layer in model.model.layers
    ]
    hidden(model, ids)
    for hook in hooks:
        hook.remove()
    preference, size = 0.0, 0.0
    for layer in seen:
        for row, counts in zip(layer, real, strict=True):
            scores = row[counts].tolist()
            chosen, total = [0] * 4, [0.0] * 4
            for token in scores:
                size += math.log(sum(map(math.exp, token))) ** 2
                for expert in range(4):
                    total[expert] += token[expert]
                for expert in sorted(range(4), key=lambda i: -token[i])[:top_k]:
                    chosen[expert] += 1
            even = len(scores) * top_k / 4
            preference += sum((load / even - 1) * sums for load, sums in zip(chosen, total, strict=True))
    count = len(seen) * int(real.sum())
    return preference / count, size / count


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
        preference, size = by_hand(mixture, ids, real)
        assert preference > 0.01  # evenly it would be 0
        found.append(balance_loss(mixture.config, scores, real))
        assert float(found[-1]) == pytest.approx(BALANCE * preference + 0.001 * size, rel=1e-4)
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


@torch.no_grad()
def test_a_router_of_bfloat16_weights_scores_in_float32(mixture):
    block = mixture.model.layers[0].mlp.to(torch.bfloat16)
    states = torch.randn(5000, 32, generator=torch.manual_seed(0)).bfloat16()
    scores, shares, chosen = block.gate(states)
    exact = states.double() @ block.gate.weight.double().T
    assert scores.dtype == shares.dtype == torch.float32
    torch.testing.assert_close(scores.double(), exact, atol=1e-5, rtol=1e-5)
    odds, places = exact.softmax(-1).topk(2)
    assert torch.equal(chosen, places)
    torch.testing.assert_close(shares.double(), odds / odds.sum(-1, keepdim=True), atol=1e-6, rtol=1e-5)
    rounded, _, others = MixtralTopKRouter.forward(block.gate, states)  # what it is without us
    assert rounded.dtype == torch.bfloat16
    assert not torch.equal(others, places)
    assert block(states[None]).dtype == torch.bfloat16


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_grouped_products_are_the_loop_over_experts_and_the_sum_of_all(tokenizer, top_k):
    model = make_language(tokenizer, EXPERTS.model_copy(update={"experts_per_token": top_k}))
    block = model.model.layers[0].mlp
    assert block.experts.config is model.config
    states = torch.randn(60, 32, generator=torch.manual_seed(0))
    found = {}
    for way in ("grouped_mm", "eager"):
        model.config._experts_implementation = way
        model.zero_grad()
        out = block(states[None])[0]
        out.square().sum().backward()
        found[way] = [out.detach(), *(parameter.grad.clone() for parameter in block.parameters())]
    for place, (one, other) in enumerate(zip(*found.values(), strict=True)):
        # the share of one expert alone is 1 whatever its score: the router then learns from its balance only
        assert (float(one.abs().max()) > 0.01) is (top_k > 1 or place != 1)
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        odds = (states @ block.gate.weight.T).softmax(-1)
        odds = torch.where(odds >= odds.topk(top_k).values[:, -1:], odds, 0.0)
        total = torch.zeros_like(states)
        for expert, share in enumerate((odds / odds.sum(-1, keepdim=True)).T):
            gate, up = (states @ block.experts.gate_up_proj[expert].T).chunk(2, -1)
            total += share[:, None] * ((F.silu(gate) * up) @ block.experts.down_proj[expert].T)
    torch.testing.assert_close(found["grouped_mm"][0], total, atol=1e-5, rtol=1e-4)


def test_layers_that_lean_on_different_experts_are_not_even_together(mixture):
    """Expert 0 has all of one layer and expert 1 all of the next: as uneven as can be, though their sum is less so."""
    mixture.config.router_z_loss_coef, mixture.config.router_aux_loss_coef = 0.0, 1.0
    mixture.config.num_experts_per_tok = 1
    layers = [torch.zeros(10, 4), torch.zeros(10, 4)]
    layers[0][:, 0] = layers[1][:, 1] = 20.0
    real = torch.ones(1, 10, dtype=torch.bool)
    for scores in (layers, layers[:1]):
        assert float(balance_loss(mixture.config, scores, real)) == pytest.approx(3 * 20)  # 4 times its share


def test_balance_moves_every_token_alike_by_the_excess_of_the_load(mixture):
    """As a bias of the experts would: what a router tells apart it goes on telling apart."""
    mixture.config.router_z_loss_coef, mixture.config.router_aux_loss_coef = 0.0, 1.0
    scores = torch.randn(50, 4, generator=torch.manual_seed(0)) + torch.tensor([1.0, 0.0, 0.0, 0.0])
    scores.requires_grad_()
    balance_loss(mixture.config, [scores], torch.ones(1, 50, dtype=torch.bool)).backward()
    load = scores.topk(2).indices.flatten().bincount(minlength=4)
    assert load.max() > 1.2 * load.min()
    torch.testing.assert_close(scores.grad, ((load / 25 - 1) / 50).expand(50, 4))


def rows_that_differ():
    """Scores ``[3, 40, 4]`` and which tokens are real: two rows that lean on different experts, and one of padding."""
    scores = torch.randn(3, 40, 4, generator=torch.manual_seed(0))
    scores[0, :, 0] += 2
    scores[1, :, 3] += 2
    real = torch.ones(3, 40, dtype=torch.bool)
    real[1, 30:] = real[2] = False
    return scores, real


def test_every_row_is_balanced_by_itself(mixture):
    """What one row has too much of and another too little is too much: the experts are of no row's subject."""
    mixture.config.router_z_loss_coef, mixture.config.router_aux_loss_coef = 0.0, 1.0
    scores, real = rows_that_differ()
    scores.requires_grad_()
    balance_loss(mixture.config, [scores.flatten(0, 1)], real).backward()
    for row, tokens in ((0, 40), (1, 30)):
        load = scores[row, :tokens].topk(2).indices.flatten().bincount(minlength=4)
        assert load.max() > 1.5 * load.min()
        torch.testing.assert_close(scores.grad[row, :tokens], ((load / (tokens / 2) - 1) / 70).expand(tokens, 4))
    assert not scores.grad[~real].any()


def test_the_balance_of_a_batch_is_that_of_its_rows(mixture):
    """However it is split: the mean over all tokens, as with the cross-entropy."""
    scores, real = rows_that_differ()
    whole = balance_loss(mixture.config, [scores.flatten(0, 1)], real)
    parts = [balance_loss(mixture.config, [scores[i]], real[i : i + 1]) * tokens for i, tokens in ((0, 40), (1, 30))]
    torch.testing.assert_close(whole, sum(parts) / 70)


@pytest.mark.parametrize("balance", [1.0, 0.0])
def test_a_collapsed_router_gets_a_gradient_that_restores_it(mixture, balance):
    """Down its slope the favourite, which was first for every token, loses and those that are idle gain."""
    router, real = mixture.model.layers[0].mlp.gate, torch.ones(1, 400, dtype=torch.bool)
    mixture.config.router_aux_loss_coef, mixture.config.router_z_loss_coef = balance, 0.0
    states = torch.randn(400, 32, generator=torch.manual_seed(0)) + 1
    with torch.no_grad():
        router.weight.mul_(0.01)[0] += 0.1
    odds, idle = [], []
    for _ in range(2):
        scores, _, chosen = router(states)
        idle.append(chosen.flatten().bincount(minlength=4) < 400 * 2 / 4)
        odds.append(scores.detach().softmax(-1).mean(0))
        assert bool((chosen == 0).any(-1).all())
        router.weight.grad = None
        balance_loss(mixture.config, [scores], real).backward()
        with torch.no_grad():
            router.weight -= 0.01 * router.weight.grad
    assert float(odds[0][0]) > 0.8
    assert bool(odds[1][0] < odds[0][0] - 0.01) is bool(balance)
    assert idle[0].any()
    assert bool((odds[1] > odds[0])[idle[0]].all()) is bool(balance)


@pytest.mark.parametrize("balance", [BALANCE, 0.0])
def test_loads_become_even_on_tokens_never_seen(mixture, balance):
    """Of few frequent words and many rare ones around what all have in common: within a tenth after 200 steps."""
    router = mixture.model.layers[0].mlp.gate
    mixture.config.router_aux_loss_coef, mixture.config.router_z_loss_coef = balance, 0.0
    draw = torch.Generator().manual_seed(0)
    words = torch.randn(400, 32, generator=draw) + 0.5
    odds = 1 / torch.arange(10.0, 410.0)
    with torch.no_grad():
        router.weight.mul_(0.2)  # to about its size at the start
    groups = parameter_groups({"layers.0.mlp.gate.weight": router.weight}, OptimizerConfig(), {})[1]
    optimizer = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95), weight_decay=0)

    def scores(tokens):
        states = words[odds.multinomial(tokens, replacement=True, generator=draw)]
        return router(states + 0.5 * torch.randn(tokens, 32, generator=draw))[0]

    for step in range(200):
        set_rates(optimizer, 3e-3 * learning_rate_factor(step, 200, 20, "wsd", 0.05))
        optimizer.zero_grad()
        balance_loss(mixture.config, [scores(2048)], torch.ones(1, 2048, dtype=torch.bool)).backward()
        optimizer.step()
    with torch.no_grad():
        load = scores(50_000).topk(2).indices.flatten().bincount(minlength=4) / 25_000
    assert bool((load - 1).abs().max() < 0.1) is bool(balance), load


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
