"""The forecast of a recipe against the modules it forecasts."""

import pytest

from jvlm.assets import asset
from jvlm.model.config import LanguageConfig, ProjectorConfig, VisionConfig
from jvlm.plan import language_parameters, plan, tower_parameters
from jvlm.recipe import load_recipe


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def build_language(config, vocab_size):
    from jvlm.model.language import build_language_model

    return build_language_model(config, vocab_size, 3, 1, 2)


LANGUAGES = [
    LanguageConfig(),
    LanguageConfig(hidden_size=64, num_layers=3, num_heads=4, num_kv_heads=2, intermediate_size=100),
    LanguageConfig(hidden_size=48, num_layers=1, num_heads=3, num_kv_heads=1, tie_embeddings=False),
    LanguageConfig(hidden_size=64, num_layers=2, num_heads=4, intermediate_size=80, num_experts=3),
]
VISIONS = [
    VisionConfig(),
    VisionConfig(image_size=56, patch_size=14, width=64, layers=3, head_width=16, embed_dim=40),
    VisionConfig(image_size=32, patch_size=4, width=32, layers=1, head_width=8, text_width=64, text_layers=3),
]


@pytest.mark.parametrize("config", LANGUAGES, ids=str)
def test_language_parameters_are_those_of_the_module(config):
    assert language_parameters(config, 700) == count(build_language(config, 700))


@pytest.mark.parametrize("config", VISIONS, ids=str)
def test_tower_parameters_are_those_of_the_module(config):
    from jvlm.model.vision import build_tower

    assert tower_parameters(config) == count(build_tower(config))


@pytest.fixture(scope="module")
def minute():
    return load_recipe(asset("configs", "minute.yaml"), [])


def test_tokens_operations_and_memory_follow_from_the_settings(minute):
    rows = {row.stage: row for row in plan(minute)}
    phase, name = minute.stages.instruct.phases["captions"], "instruct/1-captions"
    loop, packing = phase.loop, phase.packing
    assert rows[name].tokens == loop.steps * packing.rows * packing.row_length
    for row in rows.values():
        assert row.operations == 6 * row.parameters * row.tokens
        assert row.state_gib == pytest.approx(16 * row.parameters / 2**30)
    assert list(rows)[:4] == ["pretrain", "clip", "align", name]
    longer = load_recipe(asset("configs", "minute.yaml"), ["stages.instruct.phases.captions.loop.steps=30"])
    assert {r.stage: r for r in plan(longer)}[name].tokens == 2 * rows[name].tokens


def test_every_training_stage_has_its_line(minute):
    stages = {row.stage.split("/")[0] for row in plan(minute)}
    assert stages == {"pretrain", "clip", "align", "instruct", "prefer", "medical"}


def test_parameters_of_each_line_are_those_of_the_model_trained(minute):
    from jvlm.model.jvlm import JvlmModel
    from jvlm.model.vision import build_clip, build_tower

    stages, vocab = minute.stages, minute.stages.tokenizer.vocab_size
    language = build_language(stages.pretrain.language, vocab)
    model = JvlmModel(language, build_tower(stages.clip.vision), ProjectorConfig(**vars(stages.align.projector)), 9)
    rows = {row.stage: row.parameters for row in plan(minute)}
    assert rows["pretrain"] == count(language)
    assert rows["clip"] == count(build_clip(stages.clip.vision, vocab, 3, 8))
    assert rows["align"] == rows["instruct/3-conversations"] == count(model)
