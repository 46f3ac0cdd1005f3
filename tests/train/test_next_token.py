"""Next-token training: the right parts learn, on the right tokens."""

import pytest
import torch
import torch.nn.functional as F
from tiny import LANGUAGE, SEED, SIDE, ask, make_language, make_model, weights

from jvlm.errors import UsageError
from jvlm.images.shards import ShardReader, write_shards
from jvlm.model.config import LanguageConfig
from jvlm.model.directory import load_directory, write_model_files
from jvlm.model.experts import router_scores
from jvlm.model.processor import Processor
from jvlm.train.config import LoopConfig, OptimizerConfig, PackingConfig
from jvlm.train.engine import ROUTER_RATE, parameter_groups
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import NextToken, language_model, packed_hidden, train_only
from jvlm.train.source import ImageSamples, PackedRows, TokenDocuments
from jvlm.train.world import World

PARTS = ("tower", "projector", "language")


def quiet(_):
    """Progress is not looked at."""


def objective(model, processor, shards, rows=2):
    packed = PackedRows(ImageSamples(shards, processor), 400, SEED, processor.pad)
    return NextToken(model, packed, PackingConfig(row_length=400, rows=rows))


def loop(steps, **optimizer):
    return LoopConfig(steps=steps, log_every=1, optimizer=OptimizerConfig(warmup=1, **optimizer))


@pytest.mark.parametrize("parts", [["projector"], ["projector", "language"], list(PARTS), ["tower"]], ids=str)
def test_train_only_freezes_exactly_the_rest(processor, model, instruct_shards, tmp_path, parts):
    train_only(model, parts)
    before = weights(model)
    one = objective(model, processor, instruct_shards)
    train(one, loop(2, learning_rate=1e-2, eps=1e-12), tmp_path, quiet, lambda _: None)
    moved = {name for name, value in weights(model).items() if not torch.equal(value, before[name])}
    unused = {"tower.visual.proj"}  # CLIP's joint space: no patch feature goes through it
    part = {"markers": "projector"}
    of_part = {name: name.split(".")[0] for name in before}
    assert moved == {name for name, own in of_part.items() if part.get(own, own) in parts} - unused


def test_train_only_can_be_undone_and_knows_its_parts(model):
    train_only(model, ["projector"])
    train_only(model, PARTS)
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == []
    with pytest.raises(UsageError, match="'head' is no part"):
        train_only(model, ["head"])


def test_the_loss_is_cross_entropy_of_the_trained_tokens(processor, model, instruct_shards):
    one = objective(model, processor, instruct_shards)
    (batch,) = one.micro_batches(0)
    with torch.no_grad():
        logits = model.language.lm_head(
            model(batch.input_ids, batch.position_ids, batch.doc_lens, batch.pixels)
        ).flatten(0, 1)
        expected = F.cross_entropy(logits, batch.labels.flatten(), ignore_index=-100, reduction="sum")
        torch.testing.assert_close(one.loss_sum(batch), expected, atol=1e-3, rtol=1e-6)
    assert batch.weight == int((batch.labels != -100).sum()) > 0


def test_a_language_model_alone_and_inside_give_the_same(processor, tokenizer, text_shards):
    inside, alone = make_model(tokenizer), make_language(tokenizer)
    assert language_model(inside) is inside.language
    assert language_model(alone) is alone
    rows = PackedRows(TokenDocuments(text_shards, processor), 64, SEED, processor.pad)
    batch = rows.batch(range(2))
    with torch.no_grad():
        assert torch.equal(packed_hidden(inside, batch), packed_hidden(alone, batch))


def test_training_learns_a_tiny_set_by_heart_and_needs_the_images(processor, model, caption_shards, tmp_path):
    one = objective(model, processor, caption_shards)
    train(one, loop(60, learning_rate=1e-2), tmp_path, quiet, lambda _: None)
    model.eval()
    with torch.no_grad():
        (batch,) = one.micro_batches(0)
        loss = float(one.loss_sum(batch)) / batch.weight
        shuffled = type(batch)(**vars(batch) | {"pixels": batch.pixels.roll(1, 0)})
        mismatched = float(one.loss_sum(shuffled)) / batch.weight
    untrained = make_model(processor.tokenizer)
    with torch.no_grad():
        before = float(objective(untrained, processor, caption_shards).loss_sum(batch)) / batch.weight
    assert loss < before / 3
    assert mismatched > loss


def test_rows_must_divide_by_accumulation(processor, model, instruct_shards):
    packed = PackedRows(ImageSamples(instruct_shards, processor), 400, SEED, processor.pad)
    one = NextToken(model, packed, PackingConfig(row_length=400, rows=6, accumulation=4))
    with pytest.raises(UsageError, match="6 rows cannot be split into 4 micro-batches"):
        one.micro_batches(0)
    with pytest.raises(UsageError, match="6 rows cannot be split into 1 micro-batches on each of 4 processes"):
        one.micro_batches(0, World(rank=1, size=4))


def test_processes_share_the_rows_that_one_process_has(processor, model, instruct_shards):
    packed = PackedRows(ImageSamples(instruct_shards, processor), 400, SEED, processor.pad)
    one = NextToken(model, packed, PackingConfig(row_length=400, rows=8, accumulation=4))
    whole = torch.cat([batch.input_ids for batch in one.micro_batches(2)])
    for size, pieces in ((2, 2), (4, 1), (8, 1)):
        for rank in range(size):
            own = one.micro_batches(2, World(rank, size))
            assert len(own) == pieces
            assert torch.equal(torch.cat([batch.input_ids for batch in own]), whole[rank::size])


def test_micro_batches_cut_the_same_rows(processor, model, instruct_shards):
    packed = PackedRows(ImageSamples(instruct_shards, processor), 400, SEED, processor.pad)
    whole = NextToken(model, packed, PackingConfig(row_length=400, rows=4)).micro_batches(2)
    parts = NextToken(model, packed, PackingConfig(row_length=400, rows=4, accumulation=4)).micro_batches(2)
    assert torch.equal(whole[0].input_ids, torch.cat([part.input_ids for part in parts]))
    assert whole[0].sample_ids == [identity for part in parts for identity in part.sample_ids]


# --- a mixture of experts -----------------------------------------------------------------------------------------

EXPERTS = LANGUAGE.model_copy(update={"num_experts": 4, "experts_per_token": 1})


def text_objective(model, tokenizer, text_shards, rows=4):
    processor = Processor(tokenizer)
    packed = PackedRows(TokenDocuments(text_shards, processor), 64, SEED, processor.pad)
    return NextToken(model, packed, PackingConfig(row_length=64, rows=rows))


def busiest(model, batch):
    """The share of a layer's tokens that goes to its busiest expert, in the mean over layers."""
    with torch.no_grad(), router_scores(model) as scores:
        packed_hidden(model, batch)
    real = (batch.input_ids != 3).flatten()
    shares = [torch.bincount(layer[real].argmax(-1), minlength=4).max() / real.sum() for layer in scores]
    return float(sum(shares)) / len(shares)


def collapse(model):
    """A router that sends nearly every token to expert 0: its scores begin with what all tokens have in common."""
    with torch.no_grad():
        for layer in model.model.layers:
            layer.post_attention_layernorm.weight.abs_().add_(0.5)
            layer.mlp.gate.weight.mul_(0.01)
        model.get_input_embeddings().weight.add_(0.5)
        for layer in model.model.layers:
            layer.mlp.gate.weight[0] += 0.03


def test_the_loss_of_a_mixture_has_its_balance_in_it(tokenizer, text_shards):
    model = make_language(tokenizer, EXPERTS)
    one = text_objective(model, tokenizer, text_shards)
    (batch,) = one.micro_batches(0)
    config = model.config
    found = {}
    for balance, router_z in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.001), (0.5, 0.001)):
        config.router_aux_loss_coef, config.router_z_loss_coef = balance, router_z
        found[balance, router_z] = float(one.loss_sum(batch).detach()) / batch.weight
    with torch.no_grad():
        logits = model.lm_head(packed_hidden(model, batch)).flatten(0, 1)
        entropy = F.cross_entropy(logits, batch.labels.flatten(), ignore_index=-100)
        with router_scores(model) as scores:
            packed_hidden(model, batch)
    real = batch.input_ids != 3
    preference = 0.0
    for layer in scores:
        for row, counts in zip(layer.unflatten(0, real.shape), real, strict=True):
            load = F.one_hot(row[counts].argmax(-1), 4).float().mean(0)
            preference += float((4 * load - 1) @ row[counts].sum(0)) / int(real.sum()) / len(scores)
    layers = [layer[real.flatten()] for layer in scores]
    size = float(torch.cat(layers).logsumexp(-1).square().mean())
    assert preference > 0.01
    assert found[0.0, 0.0] == pytest.approx(float(entropy), rel=1e-5)
    assert found[0.5, 0.0] - found[0.0, 0.0] == pytest.approx(0.5 * preference, rel=1e-2)
    assert found[0.0, 0.001] - found[0.0, 0.0] == pytest.approx(0.001 * size, rel=1e-2)
    assert found[0.5, 0.001] == pytest.approx(float(entropy) + 0.5 * preference + 0.001 * size, rel=1e-5)


def test_a_batch_without_a_target_moves_nothing(tokenizer, text_shards):
    model = make_language(tokenizer, EXPERTS)
    one = text_objective(model, tokenizer, text_shards)
    (batch,) = one.micro_batches(0)
    nothing = {"labels": torch.full_like(batch.labels, -100), "input_ids": torch.full_like(batch.input_ids, 3)}
    assert float(one.loss_sum(type(batch)(**vars(batch) | nothing))) == 0.0


@pytest.mark.parametrize("balance", [0.1, 0.0])
def test_balance_brings_a_collapsed_router_back(tokenizer, text_shards, tmp_path, balance):
    """Without it the router stays where it is: the loss is what keeps the experts in use, and it is on by default."""
    model = make_language(tokenizer, EXPERTS.model_copy(update={"balance": balance, "router_z": 0.0}))
    collapse(model)
    one = text_objective(model, tokenizer, text_shards)
    (batch,) = one.micro_batches(0)
    assert busiest(model, batch) > 0.95
    train(one, loop(200, learning_rate=3e-3), tmp_path, quiet, lambda _: None)
    assert (busiest(model, batch) < 0.7) is bool(balance)
    assert LanguageConfig(num_experts=4).balance >= 0.1


def test_a_mixture_trains_and_comes_back_from_its_directory(tokenizer, text_shards, tmp_path):
    model = make_language(tokenizer, EXPERTS)
    one = text_objective(model, tokenizer, text_shards)
    processor = Processor(tokenizer)
    (batch,) = one.micro_batches(0)
    before, loss = weights(model), float(one.loss_sum(batch))
    train(one, loop(12, learning_rate=1e-2), tmp_path, quiet, lambda new: write_model_files(model, processor, new))
    assert float(one.loss_sum(batch)) < 0.9 * loss
    assert not [name for name, value in weights(model).items() if torch.equal(value, before[name])]
    loaded = load_directory(tmp_path / "model")
    assert loaded.kind == "mixtral"
    assert all(torch.equal(weights(loaded.model)[name], value) for name, value in weights(model).items())
    model.eval()
    with torch.no_grad():
        assert torch.equal(packed_hidden(loaded.model, batch), packed_hidden(model, batch))


def test_stacked_experts_and_routers_are_decayed_by_adamw(tokenizer):
    model = make_language(tokenizer, EXPERTS)
    for_muon, for_adamw = parameter_groups(dict(model.named_parameters()), OptimizerConfig(), {})
    names = {id(p): name for name, p in model.named_parameters()}
    muon = {names[id(p)] for group in for_muon for p in group["params"]}
    decayed = {names[id(p)] for group in for_adamw if group["weight_decay"] for p in group["params"]}
    assert decayed == {n for n in names.values() if ".mlp." in n}
    assert muon == {n for n in names.values() if ".self_attn." in n}
    slow = {names[id(p)] for group in for_adamw if group["scale"] == ROUTER_RATE < 1 for p in group["params"]}
    assert slow == {n for n in names.values() if n.endswith(".mlp.gate.weight")}
    for group in for_adamw:
        assert group["betas"] == (0.0 if group["scale"] == ROUTER_RATE else 0.9, 0.95)


def test_the_largest_batch_has_the_most_pictures_of_the_first_epoch(tokenizer, processor, instruct_shards):
    rows = PackedRows(ImageSamples(instruct_shards, processor), 400, SEED, processor.pad)
    one = NextToken(make_model(tokenizer), rows, PackingConfig(row_length=400, rows=2, accumulation=2))
    steps = len(rows.views()) // 2
    counts = [[0 if b.pixels is None else len(b.pixels) for b in one.micro_batches(step)] for step in range(steps)]
    assert rows.views().tolist()[: 2 * steps] == [n for step in counts for n in step]
    assert len({sum(step) for step in counts}) > 1
    assert len(one.largest_batch().pixels) == max(max(step) for step in counts if sum(step) == max(map(sum, counts)))


def test_the_largest_batch_is_counted_in_views(tokenizer, tiled, tmp_path):
    """Many small pictures are less to look at than one large one."""
    few = [ask(f"few{n}", "何ですか。", [n, n, n], "丸です。" * 12) for n in range(5)]
    many = ask("many", "何ですか。", [1], "丸です。" * 12, sizes=[(3 * SIDE, 2 * SIDE)])
    write_shards([*few, many], tmp_path / "shards")
    data = ImageSamples(ShardReader(tmp_path / "shards"), tiled)
    row_length = int(data.lengths.max())
    assert data.lengths.min() > row_length / 2
    rows = PackedRows(data, row_length, SEED, tiled.pad)
    one = NextToken(make_model(tokenizer), rows, PackingConfig(row_length=row_length, rows=1))
    assert sorted(rows.views().tolist()) == [3] * 5 + [7]
    assert one.largest_batch().sample_ids == ["many"]


def test_of_text_any_batch_is_the_largest(tokenizer, processor, text_shards):
    rows = PackedRows(TokenDocuments(text_shards, processor), 64, SEED, processor.pad)
    one = NextToken(make_language(tokenizer), rows, PackingConfig(row_length=64, rows=2))
    assert torch.equal(one.largest_batch().input_ids, one.micro_batches(0)[0].input_ids)
