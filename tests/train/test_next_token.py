"""Next-token training: the right parts learn, on the right tokens."""

import pytest
import torch
import torch.nn.functional as F
from tiny import SEED, make_language, make_model, weights

from jvlm.errors import UsageError
from jvlm.train.config import LoopConfig, OptimizerConfig, PackingConfig
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
    assert moved == {name for name in before if name.split(".")[0] in parts} - unused


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
