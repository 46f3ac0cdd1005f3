"""The plan's operations against those counted from a model."""

from dataclasses import replace

import pytest
import torch

from jvlm.model.config import LanguageConfig, ProjectorConfig, VisionConfig
from jvlm.model.flops import Flops
from jvlm.model.jvlm import JvlmModel
from jvlm.model.language import build_language_model
from jvlm.model.packed import PackedBatch
from jvlm.model.processor import ImageIds
from jvlm.model.vision import build_tower
from jvlm.plan.gpus import GPUS
from jvlm.plan.operations import by_part, operations, recomputed
from jvlm.plan.parameters import (
    active_parameters,
    language_parameters,
    projector_parameters,
    tower_parameters,
)
from jvlm.plan.time import cost
from jvlm.plan.work import Work
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
