"""The forecast of a recipe against the modules it forecasts."""

import pytest

from jvlm.assets import asset
from jvlm.config import load_config
from jvlm.model.config import LanguageConfig, ProjectorConfig, VisionConfig
from jvlm.plan import language_parameters, plan, projector_parameters, tower_parameters
from jvlm.recipe import Recipe, load_recipe


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
    VisionConfig(open_clip="PE-Core-T-16-384", image_size=192),
    VisionConfig(image_size=32, timm_model="test_efficientnet_gn", layers=5, feature_layers=[2], width=32),
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
    assert list(rows)[:5] == ["pretrain", "clip", "align", "pretrain_vl", name]
    longer = load_recipe(asset("configs", "minute.yaml"), ["stages.instruct.phases.captions.loop.steps=30"])
    assert {r.stage: r for r in plan(longer)}[name].tokens == 2 * rows[name].tokens


def test_every_training_stage_has_its_line(minute):
    stages = {row.stage.split("/")[0] for row in plan(minute)}
    assert stages == {"pretrain", "clip", "align", "pretrain_vl", "instruct", "prefer", "medical"}


def test_parameters_of_each_line_are_those_of_the_model_trained(minute):
    from jvlm.model.jvlm import JvlmModel
    from jvlm.model.processor import ImageIds
    from jvlm.model.vision import build_clip, build_tower

    stages, vocab = minute.stages, minute.stages.tokenizer.vocab_size
    language = build_language(stages.pretrain.language, vocab)
    model = JvlmModel(language, build_tower(stages.clip.vision), stages.align.projector, ImageIds(9, 10, 11, 12))
    rows = {row.stage: row.parameters for row in plan(minute)}
    assert rows["pretrain"] == count(language)
    assert rows["clip"] == count(build_clip(stages.clip.vision, vocab, 3, 8))
    assert rows["align"] == rows["pretrain_vl"] == rows["instruct/3-conversations"] == count(model)


PROJECTORS = [
    ProjectorConfig(kind="linear"),
    ProjectorConfig(kind="mlp"),
    ProjectorConfig(shuffle=4),
    ProjectorConfig(kind="resampler", queries=5),
]


@pytest.mark.parametrize("config", PROJECTORS, ids=str)
def test_projector_parameters_are_those_of_the_module(config):
    from jvlm.model.projector import build_projector

    vision = VISIONS[2]
    marks = 3 * 20
    assert projector_parameters(config, vision, 20) == count(build_projector(config, vision, 20)) + marks


def test_a_ready_tower_is_counted_as_it_is(minute, tmp_path):
    from jvlm.files import write_json
    from jvlm.model.jvlm import JvlmModel
    from jvlm.model.processor import ImageIds
    from jvlm.model.towers import save_tower
    from jvlm.model.vision import build_tower

    vision = VisionConfig(image_size=32, patch_size=8, width=32, layers=3, head_width=16, embed_dim=16)
    save_tower(tmp_path / "tower", build_tower(vision))
    shape = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "head_width": 16}
    published = {"embed_dim": 16, "vision_cfg": shape}
    write_json(tmp_path / "clip" / "open_clip_config.json", {"model_cfg": published})
    rows = []
    for folder in ("tower", "clip"):
        start = f"{{start_from: {tmp_path / folder}, image_size: 64, feature_layers: [0, -1]}}"
        overrides = ["stages.clip=null", f"stages.align.tower={start}"]
        rows.append({row.stage: row for row in plan(load_recipe(asset("configs", "minute.yaml"), overrides))})
    assert "clip" not in rows[0]
    vision = vision.changed(image_size=64, feature_layers=[0, -1])
    language = build_language(minute.stages.pretrain.language, minute.stages.tokenizer.vocab_size)
    whole = count(JvlmModel(language, build_tower(vision), minute.stages.align.projector, ImageIds(9, 10, 11, 12)))
    assert [found["align"].parameters for found in rows] == [whole, whole]


# of the published models where there is one: all parameters, with both matrices of embeddings where they are two
SIZES = {
    "1m": 1e6,
    "10m": 10e6,
    "30m": 30e6,
    "152m": 152e6,
    "980m": 980e6,
    "1.8b": 1.87e9,
    "3.8b": 3.8e9,
    "7.3b": 7.3e9,
    "8b": 8e9,
    "13b": 13.7e9,
}


def test_every_size_is_listed():
    assert {path.stem for path in asset("configs", "sizes").glob("[0-9]*.yaml")} == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_a_size_is_what_its_name_says(name):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    recipe = load_recipe(asset("configs", "sizes", f"{name}.yaml"), [])
    assert recipe.name == name
    (row,) = plan(recipe)
    shape, vocab = recipe.stages.pretrain.shape, recipe.stages.tokenizer.vocab_size
    with torch.device("meta"):
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocab,
                hidden_size=shape.hidden_size,
                intermediate_size=shape.intermediate_size,
                num_hidden_layers=shape.num_layers,
                num_attention_heads=shape.num_heads,
                num_key_value_heads=shape.num_kv_heads or shape.num_heads,
                tie_word_embeddings=shape.tie_embeddings,
            )
        )
    assert row.parameters == count(model)
    assert row.parameters == pytest.approx(SIZES[name], rel=0.03)
    packing, loop = recipe.stages.pretrain.packing, recipe.stages.pretrain.loop
    pieces = max(1, packing.accumulation // recipe.processes)
    assert packing.rows % (recipe.processes * pieces) == 0
    assert packing.row_length == shape.max_length
    assert loop.optimizer.warmup < loop.steps
    tokens_a_parameter = row.tokens / row.parameters
    assert tokens_a_parameter > 19


def test_a_model_to_start_from_brings_its_size(tmp_path, tokenizer):
    from tiny import LANGUAGE, make_language, make_model

    from jvlm.model.directory import save_model
    from jvlm.model.processor import Processor

    model = make_language(tokenizer)
    save_model(tmp_path / "text", model, Processor(tokenizer))
    whole = make_model(tokenizer)
    save_model(tmp_path / "images", whole, Processor(tokenizer))
    for folder in ("text", "images"):
        start = {"start_from": str(tmp_path / folder)}
        stages = {"corpus": {"inputs": [{"path": "x", "source": "x"}]}, "pretrain": start}
        stages["prefer"] = {"shards": "sets/pairs", "pairs": 3, "loop": {"steps": 10}}
        rows = {row.stage: row for row in plan(load_config(Recipe, None, [], {"name": "a", "stages": stages}))}
        assert rows["pretrain"].parameters == rows["prefer"].parameters == count(model)
        assert rows["prefer"].tokens == 10 * 3 * 2 * LANGUAGE.max_length
