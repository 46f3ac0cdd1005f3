"""Stages with adapters: what learns and what is written, phases on the same adapters, going on after a stop."""

import pytest
import torch
from tiny import PROJECTOR, VISION, make_language, make_model, samples, weights

from jvlm.config import load_config
from jvlm.errors import DataError, Stopped, UsageError
from jvlm.files import read_json, read_json_lines, sha256_file
from jvlm.images.shards import write_shards
from jvlm.model.directory import load_directory, save_model
from jvlm.model.lora import is_adapter
from jvlm.model.processor import Processor
from jvlm.model.tensors import TensorFolder
from jvlm.model.towers import save_tower
from jvlm.model.vision import build_tower
from jvlm.recipe import Recipe, load_recipe, stage_keys
from jvlm.sample import Message, Sample
from jvlm.stages.context import StageContext
from jvlm.stages.prefer import prefer
from jvlm.stages.vision_language import align, instruct, medical
from jvlm.train import loop as training

LOOP = {
    "steps": 4,
    "checkpoint_every": 2,
    "log_every": 1,
    "optimizer": {"learning_rate": 1e-2, "warmup": 1, "muon": False},
}


@pytest.fixture
def run(tmp_path, tokenizer):
    run = tmp_path / "run"
    save_model(run / "align" / "model", make_model(tokenizer), Processor(tokenizer, VISION, PROJECTOR))
    write_shards(samples("captions_train", 8), run / "data" / "shards" / "captions_train")
    return run


def context(run, stage, **stages):
    return StageContext(run, stage, load_config(Recipe, None, [], {"name": "t", "stages": stages}))


def phase(lora, train=("projector", "language"), loop=None, **settings):
    shape = {"row_length": 300, "rows": 2}
    given = {"data": [{"shards": "captions_train"}], "train": list(train), "packing": shape, "loop": loop or LOOP}
    return given | ({"lora": lora} if lora else {}) | settings


def run_medical(run, **phases):
    stages = {"align": phase(None), "medical": {"phases": phases}}
    return medical(context(run, "medical", **stages))


def moved(folder, other):
    before, after = (weights(load_directory(path).model) for path in (other, folder))
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(
    ("targets", "train"),
    [
        pytest.param("language", ["projector", "language"], marks=pytest.mark.long),
        pytest.param("tower", ["tower"], marks=pytest.mark.long),
        ("both", ["tower", "language", "projector"]),
    ],
)
def test_a_phase_leaves_an_adapter_of_what_it_trained(run, targets, train, capsys):
    base = run / "align" / "model"
    before = sha256_file(base / "model.safetensors")
    run_medical(run, one=phase({"rank": 4, "targets": targets, "rate": 3.0}, train))
    assert sha256_file(base / "model.safetensors") == before
    names = set(TensorFolder(run / "medical" / "model", "model"))
    kept = {name.split(".")[0] for name in names}
    assert kept == set(train) | ({"markers"} if "projector" in train else set())
    assert all(is_adapter(name) for name in names if not name.startswith(("projector.", "markers.")))
    assert read_json(run / "medical" / "model" / "config.json")["base"]["path"] == str(base.resolve())
    changed = moved(run / "medical" / "model", base)
    assert {name.split(".")[0] for name in changed} == kept
    if "language" in train:
        assert "language.model.layers.1.mlp.down_proj.weight" in changed
        assert "language.model.embed_tokens.weight" not in changed
    if "tower" in train:
        assert "tower.visual.transformer.resblocks.0.attn.in_proj_weight" in changed
        assert "tower.visual.conv1.weight" not in changed
    assert "parameters trained" in capsys.readouterr().out


def test_a_training_that_was_stopped_goes_on_bit_by_bit_dropout_included(run, tmp_path, monkeypatch):
    lora = {"rank": 4, "targets": "both", "dropout": 0.3}
    one = phase(lora, ["tower", "projector", "language"])
    run_medical(run, one=one)
    whole = dict(TensorFolder(run / "medical" / "model", "model"))
    other = tmp_path / "other"
    other.mkdir()
    for part in ("align", "data"):
        (other / part).symlink_to(run / part)
    save = training.save_checkpoint

    def save_and_die(folder, progress, *more):
        save(folder, progress, *more)
        if progress.step == 2:
            raise Stopped("killed")

    monkeypatch.setattr(training, "save_checkpoint", save_and_die)
    with pytest.raises(Stopped):
        run_medical(other, one=one)
    monkeypatch.setattr(training, "save_checkpoint", save)
    assert {p.name for p in (other / "medical" / "1-one" / "checkpoints").iterdir()} == {"step-00000002"}
    half = dict(TensorFolder(other / "medical" / "1-one" / "checkpoints" / "step-00000002", "model"))
    assert not all(torch.equal(value, half[name]) for name, value in whole.items())
    torch.manual_seed(99)  # whatever was drawn before
    run_medical(other, one=one)
    found = dict(TensorFolder(other / "medical" / "model", "model"))
    assert found.keys() == whole.keys()
    assert all(torch.equal(value, found[name]) for name, value in whole.items())
    files = [folder / "medical" / "1-one" / "metrics.jsonl" for folder in (run, other)]
    first, second = ([(r["loss"], r["grad_norm"]) for r in read_json_lines(file)] for file in files)
    assert first == second
    assert len(first) == 4


def test_a_checkpoint_of_another_base_is_refused(run, tokenizer):
    one = phase({"rank": 4})
    run_medical(run, one=one)
    model = load_directory(run / "align" / "model").model
    with torch.no_grad():
        model.language.model.norm.weight.add_(1e-3)
    save_model(run / "align" / "model", model, Processor(tokenizer, VISION, PROJECTOR))
    with pytest.raises(DataError, match="belongs to another config, model or data set"):
        run_medical(run, one=one)


def test_phases_go_on_with_the_same_adapters_and_one_without_makes_them_whole(run):
    lora = {"rank": 4}
    phases = {"one": phase(lora), "two": phase(lora | {"dropout": 0.1}, ["language"]), "three": phase(None)}
    run_medical(run, **phases)
    folders = [run / "medical" / name / "model" for name in ("1-one", "2-two", "3-three")]
    first, second = (dict(TensorFolder(folder, "model")) for folder in folders[:2])
    assert first.keys() == second.keys()
    rested = {name for name in first if torch.equal(first[name], second[name])}
    assert rested == {name for name in first if name.startswith(("projector.", "markers."))}
    assert read_json(folders[1] / "config.json")["base"]["path"] == str((run / "align" / "model").resolve())
    assert read_json(folders[2] / "config.json")["model_type"] == "jvlm"
    (run / "medical").rename(run / "instruct")  # an adapter to go on from
    (run / "instruct" / "model").rename(run / "whole")
    (run / "instruct" / "2-two" / "model").rename(run / "instruct" / "model")
    stages = {"instruct": {"phases": {"a": phase(lora)}}, "medical": {"phases": {"one": phase({"rank": 8})}}}
    with pytest.raises(UsageError, match="have rank 4"):
        medical(context(run, "medical", align=phase(None), **stages))


@pytest.mark.long
def test_instruct_and_prefer_with_adapters(run):
    lora = {"rank": 4}
    pairs = [
        Sample(s.id, s.messages, s.images, [Message("assistant", ["ちがいます。"])], s.meta)
        for s in samples("captions_train", 6)
    ]
    write_shards(pairs, run / "data" / "shards" / "pairs")
    settings = {"shards": "pairs", "pairs": 2, "loop": LOOP, "lora": lora}
    stages = {"align": phase(None), "instruct": {"phases": {"a": phase(lora)}}, "prefer": settings}
    instruct(context(run, "instruct", **stages))
    prefer(context(run, "prefer", **stages))
    one, two = (dict(TensorFolder(run / stage / "model", "model")) for stage in ("instruct", "prefer"))
    assert one.keys() == two.keys()
    assert not any(torch.equal(one[name], two[name]) for name in one if is_adapter(name))


@pytest.mark.long
def test_align_with_a_ready_language_model_and_adapters_keeps_its_base(tmp_path, tokenizer):
    run = tmp_path / "run"
    save_model(tmp_path / "language", make_language(tokenizer), Processor(tokenizer))
    torch.manual_seed(0)
    save_tower(tmp_path / "tower", build_tower(VISION))
    write_shards(samples("captions_train", 8), run / "data" / "shards" / "captions_train")
    ready = {"language": str(tmp_path / "language"), "tower": str(tmp_path / "tower"), "projector": {"shuffle": 2}}
    stage = phase({"rank": 4}, ["projector", "language"]) | ready
    align(context(run, "align", align=stage))
    assert read_json(run / "align" / "base" / "config.json")["model_type"] == "jvlm"
    changed = {name.split(".")[0] for name in moved(run / "align" / "model", run / "align" / "base")}
    assert changed == {"projector", "markers", "language"}
    save_model(tmp_path / "language", make_model(tokenizer), Processor(tokenizer, VISION, PROJECTOR))
    with pytest.raises(UsageError, match="no language model alone"):
        align(context(run, "align", align=stage))


@pytest.mark.long
@pytest.mark.parametrize("base_weights", ["int8", "int4"])
def test_beside_a_rounded_base_a_phase_learns(run, base_weights):
    pytest.importorskip("torchao", reason="the extra quant is not installed")
    lora = {"rank": 4, "base_weights": base_weights}
    loop = LOOP | {"steps": 12, "checkpoint_every": 12}
    run_medical(run, one=phase(lora, loop=loop))
    losses = [record["loss"] for record in read_json_lines(run / "medical" / "1-one" / "metrics.jsonl")]
    assert losses[-1] < losses[0] - 0.3
    changed = moved(run / "medical" / "model", run / "align" / "model")
    assert "language.model.layers.0.self_attn.q_proj.weight" in changed


FAULTS = [
    ({"lora": {"targets": "tower"}}, "lora.targets is tower, but the tower does not learn"),
    ({"lora": {}, "train": ["projector"]}, "the language does not learn"),
    ({"lora": {}, "train": ["tower", "language"], "tower_layers": 1}, "name layers in lora.targets"),
    ({"lora": {"base_weights": "int4"}, "loop": {"engine": {"zero": 2}}}, "leave loop.engine.zero out"),
    ({"lora": {"targets": []}}, "lora.targets"),
]


@pytest.mark.parametrize(("settings", "told"), FAULTS)
def test_what_does_not_go_together_is_told_by_the_recipe(settings, told):
    one = {"data": [{"shards": "a/b"}]} | settings
    with pytest.raises(UsageError, match=told):
        load_config(Recipe, None, [], {"name": "t", "stages": {"medical": {"phases": {"one": one}}}})


def test_a_recipe_from_ready_parts_has_no_stage_for_them(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(
        "name: r\nstages:\n  align: {language: a/b, tower: c/d, data: [{shards: e/f}]}\n"
        "  medical: {phases: {one: {data: [{shards: e/f}], lora: {}}}}\n"
    )
    assert load_recipe(file, []).stages.medical.phases["one"].lora.rank == 16
    with pytest.raises(UsageError, match="leave the stage 'pretrain' out"):
        load_recipe(file, ["stages.pretrain={start_from: x}", "stages.corpus={inputs: [{path: p, source: s}]}"])
    with pytest.raises(UsageError, match="stage 'align' needs stage 'pretrain'"):
        load_recipe(file, ["stages.align.language=null"])


ALIKE = [
    {"align": {"data": [{"shards": "a/b"}]}, "medical": {"phases": {"one": {"data": [{"shards": "a/b"}]} | lora}}}
    for lora in ({}, {"lora": {}})
]


def test_stages_without_adapters_have_the_keys_they_had():
    """A run that was begun before there were adapters goes on: its settings are written as they were."""
    without, given = (load_config(Recipe, None, [], {"name": "t", "stages": stages}) for stages in ALIKE)
    names = ["train", "tower_layers", "tower_rate", "data", "tiles", "loop", "packing"]
    assert list(without.stages.medical.phases["one"].model_dump()) == names
    assert list(without.stages.align.model_dump()) == [*names, "tower", "projector"]
    assert "lora" in given.stages.medical.phases["one"].model_dump()
    before, after = ([key.key for key in stage_keys(recipe)] for recipe in (without, given))
    assert before[0] == after[0]
    assert before[1] != after[1]
