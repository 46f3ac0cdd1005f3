"""The plan's operations against those counted from a model."""

from dataclasses import replace

import pytest
import torch

from jvlm.config import load_config
from jvlm.model.config import LanguageConfig, LoraConfig, ProjectorConfig, VisionConfig
from jvlm.model.flops import Flops
from jvlm.model.jvlm import JvlmModel
from jvlm.model.language import build_language_model
from jvlm.model.lora import add_lora
from jvlm.model.packed import PackedBatch
from jvlm.model.processor import ImageIds
from jvlm.model.vision import build_tower
from jvlm.plan.adapters import adapters_of
from jvlm.plan.gpus import GPUS
from jvlm.plan.memory import memory
from jvlm.plan.operations import by_part, operations, recomputed
from jvlm.plan.parameters import (
    active_parameters,
    language_parameters,
    projector_parameters,
    tower_parameters,
)
from jvlm.plan.time import cost
from jvlm.plan.work import Like, Work, works
from jvlm.recipe import Recipe
from jvlm.train.config import EngineConfig
from jvlm.train.objectives.next_token import train_only

VOCAB, ROWS, LENGTH = 200, 3, 64
LANGUAGE = LanguageConfig(hidden_size=64, num_layers=3, num_heads=4, num_kv_heads=2, intermediate_size=160)
EXPERTS = LANGUAGE.model_copy(update={"num_experts": 4, "experts_per_token": 2})
VISION = VisionConfig(image_size=64, patch_size=8, width=64, layers=3, head_width=16, embed_dim=16)
TRUNK = VisionConfig(image_size=32, timm_model="test_efficientnet_gn", layers=5, feature_layers=[2], width=32)
PROJECTOR = ProjectorConfig(kind="mlp")


def batch(views, targets):
    labels = torch.full((ROWS, LENGTH), -100)
    labels[:, :targets] = 1
    pixels = torch.zeros(views, 3, 64, 64, dtype=torch.uint8) if views else None
    ids = torch.zeros(ROWS, LENGTH, dtype=torch.long)
    return PackedBatch(ids, labels, ids, [LENGTH] * ROWS, pixels, [], [""] * ROWS, [])


@pytest.mark.parametrize("shape", [LANGUAGE, EXPERTS], ids=["dense", "experts"])
def test_text_takes_the_operations_counted_from_the_model(shape):
    work = Work(
        "pretrain",
        {"language": language_parameters(shape, VOCAB)},
        {"language": 1.0},
        1,
        ROWS,
        LENGTH,
        language=shape,
        vocab_size=VOCAB,
    )
    counted = Flops(build_language_model(shape, VOCAB, 0, 1, 2))(batch(0, LENGTH))
    assert operations(work) == pytest.approx(counted, rel=1e-6)
    assert recomputed(work) == 0
    again = replace(work, engine=EngineConfig(recompute=True))
    assert 0.25 < recomputed(again) / operations(again) < 1 / 3
    assert active_parameters(EXPERTS, VOCAB) < language_parameters(EXPERTS, VOCAB)


@pytest.mark.parametrize("vision", [VISION, TRUNK], ids=["vit", "trunk"])
@pytest.mark.parametrize(
    "learns", [["projector"], ["projector", "language"], ["tower", "projector", "language"], ["language"]], ids=str
)
def test_images_take_the_operations_counted_from_the_model(vision, learns):
    language = build_language_model(LANGUAGE, VOCAB, 0, 1, 2)
    model = JvlmModel(language, build_tower(vision), PROJECTOR, ImageIds(9, 10, 11, 12))
    train_only(model, learns)
    parts = {
        "language": language_parameters(LANGUAGE, VOCAB),
        "tower": tower_parameters(vision),
        "projector": projector_parameters(PROJECTOR, vision, 64),
    }
    work = Work(
        "align",
        parts,
        dict.fromkeys(learns, 1.0),
        1,
        ROWS,
        LENGTH,
        language=LANGUAGE,
        vocab_size=VOCAB,
        vision=vision,
        projector=PROJECTOR,
        views=2 / ROWS,
        targets=16 / LENGTH,
    )
    counted = Flops(model)(batch(2, 16))
    assert operations(work) == pytest.approx(counted, rel=0.05)
    assert by_part(work)["tower"] > 0


@pytest.mark.parametrize("targets", [pytest.param("language", marks=pytest.mark.long), "both"])
def test_adapters_take_the_operations_counted_from_the_model(targets):
    language = build_language_model(LANGUAGE, VOCAB, 0, 1, 2)
    model = JvlmModel(language, build_tower(VISION), PROJECTOR, ImageIds(9, 10, 11, 12))
    before = sum(p.numel() for p in model.parameters())
    lora, learns = LoraConfig(rank=2, targets=targets, base_weights="int4"), ["tower", "projector", "language"]
    learns = learns[targets == "language" :]
    found = adapters_of(lora, LANGUAGE, VOCAB, VISION, PROJECTOR)
    targeted = add_lora(model, lora, 0)
    assert sum(found.parameters.values()) == sum(p.numel() for p in model.parameters()) - before
    assert found.saved == 3.5 * sum(
        model.get_submodule(name).base_layer.weight.numel() for name in targeted if name.startswith("language.")
    )
    train_only(model, learns)
    recipe = {
        "language": "none",
        "tower": "none",
        "data": [{"shards": "a/b"}],
        "projector": PROJECTOR.model_dump(),
        "train": learns,
        "lora": lora.model_dump(),
        "packing": {"rows": ROWS, "row_length": LENGTH},
        "loop": {"steps": 1},
    }
    like = Like(LANGUAGE, VOCAB, VISION, 16)
    (work,) = works(load_config(Recipe, None, [], {"name": "t", "stages": {"align": recipe}}), like)
    work = replace(work, views=2 / ROWS, targets=16 / LENGTH)
    assert work.parameters == sum(p.numel() for p in model.parameters())
    assert work.trained == pytest.approx(sum(p.numel() for p in model.parameters() if p.requires_grad))
    assert operations(work) == pytest.approx(Flops(model)(batch(2, 16)), rel=0.05)
    assert memory(work, 1, None).parts["weights"] == 4 * work.parameters - work.saved


def test_time_energy_and_money_follow():
    work = Work(
        "pretrain",
        {"language": language_parameters(LANGUAGE, VOCAB)},
        {"language": 1.0},
        10,
        ROWS,
        LENGTH,
        language=LANGUAGE,
        vocab_size=VOCAB,
        engine=EngineConfig(precision="bfloat16"),
    )
    one, eight = (cost(work, GPUS["h100"], n, 0.5, 300) for n in (1, 8))
    assert one.seconds == pytest.approx(operations(work) / (0.5 * 989e12))
    assert one.seconds == pytest.approx(8 * eight.seconds)
    assert eight.gpu_hours == pytest.approx(one.gpu_hours)
    assert eight.kwh == pytest.approx(0.7 * eight.gpu_hours)
    assert eight.yen == pytest.approx(300 * eight.gpu_hours)
    assert one.tokens_per_second == pytest.approx(work.tokens / one.seconds)
    slow = cost(replace(work, engine=EngineConfig()), GPUS["h100"], 1, 0.5)
    assert slow.seconds > 10 * one.seconds  # float32
