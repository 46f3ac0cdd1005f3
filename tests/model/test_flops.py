"""Operations counted from structure against torch's counter of products that are really computed."""

import pytest
import torch
from tiny import LANGUAGE, PROJECTOR, SEED, VISION, flop_counter, make_language, make_model
from transformers import MixtralConfig, MixtralForCausalLM

from jvlm.model.config import num_image_tokens
from jvlm.model.flops import Flops, counted
from jvlm.train.config import PackingConfig
from jvlm.train.objectives.contrastive import Contrastive
from jvlm.train.objectives.next_token import NextToken, train_only
from jvlm.train.source import ImageSamples, PackedRows, TokenDocuments

PARTS = ("tower", "projector", "language")
PRODUCTS = ("mm", "addmm", "addmm_", "bmm", "convolution", "convolution_backward")


def really(objective, batch):
    """Operations of products and of attention, of forward and backward."""
    with flop_counter() as counter:
        objective.loss_sum(batch).backward()
    counts = {str(op).removeprefix("aten."): n for op, n in counter.get_flop_counts()["Global"].items()}
    attention = sum(n for name, n in counts.items() if "scaled_dot_product" in name)
    return sum(counts.get(name, 0) for name in PRODUCTS), attention


def attention_of(model, batch):
    heads = LANGUAGE.num_layers * LANGUAGE.hidden_size
    return 2 * heads * sum(length**2 for length in batch.doc_lens)


def test_of_a_language_model_they_are_those_that_are_computed(tokenizer, processor, text_shards):
    model = make_language(tokenizer).train()
    rows = PackedRows(TokenDocuments(text_shards, processor), 350, SEED, processor.pad)
    one = NextToken(model, rows, PackingConfig(row_length=350, rows=4))
    (batch,) = one.micro_batches(0)
    products, attention = really(one, batch)
    assert len(batch.doc_lens) > 4
    assert one.flops(batch) == products + 3 * attention_of(model, batch)
    # torch counts the masked half too, and QKᵀ once more in the backward pass: 7/2 products for 3
    assert attention == pytest.approx(7 / 6 * 2 * 3 * attention_of(model, batch), rel=1e-6)
    matrices = sum(p.numel() for name, p in model.model.layers.named_parameters() if p.ndim == 2)
    kaplan = 6 * (matrices + model.lm_head.weight.numel()) * batch.weight
    assert one.flops(batch) == pytest.approx(kaplan + 3 * attention_of(model, batch), rel=1e-6)


@pytest.mark.parametrize(
    "parts", [["projector"], ["language"], ["projector", "language"], ["tower", "projector", "language"]], ids=str
)
def test_frozen_parts_are_counted_as_they_are_computed(tokenizer, processor, instruct_shards, parts):
    model = make_model(tokenizer).train()
    train_only(model, parts)
    rows = PackedRows(ImageSamples(instruct_shards, processor), 400, SEED, processor.pad)
    one = NextToken(model, rows, PackingConfig(row_length=400, rows=2))
    (batch,) = one.micro_batches(0)
    assert batch.pixels is not None
    products, _ = really(one, batch)
    passes = 3 if "language" in parts else 2
    in_tower = VISION.layers * 4 * VISION.width * (VISION.grid**2 + 1) ** 2 * len(batch.pixels)
    in_tower *= 3 if "tower" in parts else 1
    ours = one.flops(batch) - passes * attention_of(model, batch) - in_tower
    # nothing asks for the gradient of pixels, of the first layer's input when all before is frozen, and the like
    assert ours == pytest.approx(products, rel=0.05)
    assert num_image_tokens(VISION, PROJECTOR)


def test_of_a_tower_whose_top_learns_its_share_is_counted(tokenizer, processor, instruct_shards):
    rows = PackedRows(ImageSamples(instruct_shards, processor), 400, SEED, processor.pad)

    def operations(*parts, top=None):
        model = make_model(tokenizer).train()
        train_only(model, parts, top)
        one = NextToken(model, rows, PackingConfig(row_length=400, rows=2))
        (batch,) = one.micro_batches(0)
        return torch.tensor([one.flops(batch), really(one, batch)[0]])

    frozen, top, whole = operations("projector"), operations("tower", "projector", top=1), operations(*PARTS[:2])
    for counted_more, computed_more in (whole - top, top - frozen):  # of two blocks; patches and positions are others
        assert float(counted_more) == pytest.approx(float(computed_more), rel=0.35)


def test_of_a_mixture_those_of_the_experts_that_a_token_goes_to():
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape |= {"num_key_value_heads": 2, "vocab_size": 40, "num_experts_per_tok": 2}
    few, many = (Flops(MixtralForCausalLM(MixtralConfig(**shape, num_local_experts=n))) for n in (2, 8))
    routers = 6 * 2 * 16 * (8 - 2)
    assert many.per_token - few.per_token == routers
    assert few.per_token == 6 * 2 * (4 * 16 * 16 + 2 * 3 * 16 * 24 + 2 * 16)


def test_of_contrastive_training(tokenizer, caption_shards, processor):
    from jvlm.model.vision import build_clip

    clip = build_clip(VISION, tokenizer.vocab_size, processor.pad, processor.end)
    one = Contrastive(clip, VISION, processor, caption_shards, 8, SEED)
    (batch,) = one.micro_batches(0)
    assert one.flops(batch) == pytest.approx(sum(really(one, batch)), rel=0.1)


def test_counting_changes_nothing():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).train()
    before = module[1].running_mean.clone()
    assert counted(module, lambda: module(torch.ones(2, 3, 5, 5))) == 2 * 2 * 4 * 9 * 27
    assert torch.equal(module[1].running_mean, before)
    assert module.training
    assert torch.backends.mha.get_fastpath_enabled()
