"""Recipes: complete or refused, done stages kept, changed ones never overwritten."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from jvlm import recipe as recipes
from jvlm.assets import asset
from jvlm.config import dump_config, load_config
from jvlm.errors import JvlmError, UsageError
from jvlm.files import new_folder, read_json, write_json, write_text
from jvlm.recipe import STAGES, Recipe, load_recipe, run_recipe, stage_keys

MINUTE = asset("configs", "minute.yaml")


def quiet(_):
    """Progress is not looked at."""


def short_recipe(*overrides):
    """data, corpus and tokenizer only."""
    stages = {"data": {"captions_train": 5}, "corpus": {}, "tokenizer": {"vocab_size": 700}, "report": {}}
    return load_config(Recipe, None, overrides, {"name": "short", "stages": stages})


@pytest.fixture
def stage_processes(monkeypatch):
    """Stands in for the stages' processes; records which were started. `fail` names one that fails."""
    started, fail, codes = [], set(), {"code": 3}

    def run(command, env):
        module, folder, *stages = command[2:]
        assert module == "jvlm.stages"
        assert env["OMP_NUM_THREADS"] == "2"
        keys = {key.name: key.key for key in stage_keys(load_config(Recipe, Path(folder) / "recipe.yaml"))}
        for name in stages:
            started.append(name)
            write_text(Path(folder) / name / "key", keys[name])
            if name in fail:
                return SimpleNamespace(pid=0, wait=lambda: codes["code"])
            record = {"stage": name, "key": keys[name], "seconds": 1.0, "peak_gib": 0.1, "metrics": {}}
            write_json(Path(folder) / name / "done.json", record)
        return SimpleNamespace(pid=0, wait=lambda: 0)

    monkeypatch.setattr(recipes.subprocess, "Popen", run)
    return SimpleNamespace(started=started, fail=fail, codes=codes)


# --- reading ----------------------------------------------------------------------------------------------------


def test_every_missing_predecessor_is_named(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("name: r\nstages:\n  align: {data: [{shards: a}]}\n  tokenizer: {}\n  caption: {}\n")
    with pytest.raises(UsageError) as caught:
        load_recipe(file, [])
    text = str(caught.value)
    assert str(file) in text
    pairs = [("align", "pretrain"), ("align", "clip"), ("tokenizer", "corpus"), ("caption", "medical")]
    for stage, need in pairs:
        assert f"stage '{stage}' needs stage '{need}'" in text
    assert text.count("needs stage") == len(pairs)


def test_shipped_recipes_are_whole():
    for path in sorted(asset("configs").glob("*.yaml")):
        recipe = load_recipe(path, [])
        if path.stem == "ladder":  # the template of the runs of `jvlm scale`
            assert [key.name for key in stage_keys(recipe)] == ["corpus", "tokenizer", "pretrain"]
            continue
        if recipe.stages.data is None:  # from ready parts, such as medical-lora
            continue
        # nothing knows the truth about real pictures: no answer of the model's can be judged there
        left_out = ["prefer"] if recipe.stages.data.set == "real" else []
        if path.stem == "text":
            left_out = ["clip", "align", "medical", "eval", "caption"]
        if path.stem != "minute":
            left_out += ["pretrain_vl", "combine"]
        assert [key.name for key in stage_keys(recipe)] == [name for name in STAGES if name not in left_out], path


TEXT = """
name: t
stages:
  corpus: {inputs: [{path: texts, source: mine}]}
  tokenizer: {}
  pretrain: {}
  instruct: {phases: {chat: {data: [{shards: sets/chat}], train: [language]}}}
  prefer: {shards: sets/pairs, train: [language]}
"""


def text_recipe(tmp_path, *overrides):
    file = tmp_path / "r.yaml"
    file.write_text(TEXT)
    return load_recipe(file, list(overrides))


def test_a_language_model_alone_needs_no_image_stage(tmp_path):
    recipe = text_recipe(tmp_path)
    assert [key.name for key in stage_keys(recipe)] == ["corpus", "tokenizer", "pretrain", "instruct", "prefer"]


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("stages.corpus={}", "stage 'corpus' needs stage 'data'"),
        ("stages.instruct.phases.chat.data=[{shards: instruct_train}]", "stage 'instruct' needs stage 'data'"),
        ("stages.instruct.phases.chat.data=[{text: medical}]", "stage 'instruct' needs stage 'data'"),
        ("stages.prefer.shards=null", "stage 'prefer' needs stage 'align'"),
        ("stages.eval={}", "stage 'eval' needs stage 'align'"),
        ("stages.clip={}", "stage 'instruct' needs stage 'align'"),
        ("stages.pretrain_vl={data: [{shards: pages_train}]}", "stage 'pretrain_vl' needs stage 'align'"),
        ("stages.pretrain_vl={data: [{shards: pages_train}]}", "stage 'pretrain_vl' needs stage 'data'"),
        ("stages.pretrain_vl={data: [{text: general}]}", "it needs at least one set of image shards"),
        ("stages.instruct.phases.chat.tiles={per_image: 2}", "instruct.phases.chat.tiles: without stage 'align'"),
        ("stages.instruct.phases.chat.data=[{text: medical, crop: 0.5}]", "crop 0.5: documents have no pictures"),
        ("stages.prefer.train=[projector, language]", "train: [language]"),
        ("stages.instruct.phases.chat.train=[tower]", "instruct.phases.chat.train is ['tower']"),
        ("stages.pretrain.start_from=model", "leave the stage 'tokenizer' out"),
        ("stages.combine={models: [{model: medical}]}", "stage 'combine' needs stage 'medical'"),
        ("stages.combine={models: [{model: prefer}], exam: true}", "stage 'combine' needs stage 'data'"),
        ("stages.combine={models: [{model: prefer}], method: task_arithmetic}", "task_arithmetic needs a base"),
        ("stages.combine={models: [{model: prefer}], base: pretrain}", "a mean has no base"),
        ("stages.pretrain={start_from: model, language: {num_layers: 2}}", "leave pretrain.language out"),
    ],
)
def test_what_does_not_go_together_is_told_before_anything_runs(tmp_path, override, fault):
    with pytest.raises(UsageError, match=re.escape(fault)):
        text_recipe(tmp_path, override)


def test_a_recipe_that_starts_from_a_model_has_no_tokenizer_stage(tmp_path):
    recipe = text_recipe(tmp_path, "stages.tokenizer=null", "stages.pretrain.start_from=model")
    assert [key.name for key in stage_keys(recipe)] == ["corpus", "pretrain", "instruct", "prefer"]
    with pytest.raises(UsageError, match="stage 'pretrain' needs stage 'tokenizer'"):
        text_recipe(tmp_path, "stages.tokenizer=null")


READY = "stages.align={data: [{shards: sets/pictures}], tower: hf-hub:llm-jp/llm-jp-clip-vit-base-patch16}"


def test_a_ready_tower_takes_the_place_of_the_clip_stage(tmp_path):
    recipe = text_recipe(tmp_path, READY)
    assert [key.name for key in stage_keys(recipe)][2:4] == ["pretrain", "align"]
    start = recipe.stages.align.tower
    assert (start.start_from, start.changes) == ("hf-hub:llm-jp/llm-jp-clip-vit-base-patch16", {})
    (tmp_path / "run.yaml").write_text(dump_config(recipe))
    assert load_recipe(tmp_path / "run.yaml", []) == recipe
    more = text_recipe(tmp_path, READY, "stages.align.tower={start_from: a, image_size: 448, feature_layers: [-2]}")
    assert more.stages.align.tower.changes == {"image_size": 448, "feature_layers": [-2]}
    with pytest.raises(UsageError, match="leave the stage 'clip' out"):
        text_recipe(tmp_path, READY, "stages.clip={}", "stages.data={}")
    with pytest.raises(UsageError, match="stage 'align' needs stage 'clip'"):
        text_recipe(tmp_path, READY, "stages.align.tower={image_size: 448}")


def test_the_top_of_a_tower_learns_only_where_the_tower_does(tmp_path):
    text_recipe(tmp_path, READY, "stages.align.train=[tower, projector]", "stages.align.tower_layers=4")
    for stage in ("align", "prefer", "instruct.phases.chat"):
        with pytest.raises(UsageError, match="but the tower does not learn: add it to train"):
            text_recipe(tmp_path, READY, f"stages.{stage}.tower_layers=4")


def test_a_recipe_comes_back_from_its_run_folder(tmp_path):
    recipe = text_recipe(tmp_path, "stages.tokenizer=null", "stages.pretrain.start_from=model", "processes=3")
    (tmp_path / "run.yaml").write_text(dump_config(recipe))
    assert load_recipe(tmp_path / "run.yaml", []) == recipe


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ("{set: real, source_char: 5}", "unknown key, did you mean 'source_chars'?"),
        ("{set: real, image_size: 64}", "unknown key"),
        ("{captions_trian: 5}", "unknown key, did you mean 'captions_train'?"),
        ("{set: reel}", "toyworld', 'real"),
    ],
)
def test_faults_of_the_data_stage_name_the_key_of_its_own_kind(tmp_path, data, fault):
    file = tmp_path / "r.yaml"
    file.write_text(f"name: a\nstages:\n  data: {data}\n")
    with pytest.raises(UsageError, match=re.escape(fault)) as caught:
        load_recipe(file, [])
    assert "r.yaml:3:" in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_the_data_stage_is_the_toy_world_unless_it_says_otherwise(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("name: a\nstages:\n  data: {set: real, root: /x}\n")
    assert load_recipe(file, []).stages.data.root == Path("/x")
    assert load_recipe(file, ["stages.data.source_chars=2000"]).stages.data.source_chars == 2000
    file.write_text("name: a\nstages:\n  data: {captions_train: 5}\n")
    assert load_recipe(file, []).stages.data.captions_train == 5


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "a b"])
def test_a_name_that_leaves_the_runs_folder_is_refused(name):
    with pytest.raises(UsageError, match="name"):
        load_recipe(MINUTE, [f"name={name!r}"])


# --- keys -------------------------------------------------------------------------------------------------------


def keys(*overrides):
    return {key.name: key.key for key in stage_keys(load_recipe(MINUTE, list(overrides)))}


@pytest.mark.parametrize(
    ("override", "first_changed"),
    [
        ("seed=8", "data"),
        ("threads=1", "data"),
        ("stages.data.captions_train=601", "data"),
        ("stages.tokenizer.vocab_size=801", "tokenizer"),
        ("stages.align.projector.shuffle=1", "align"),
        ("stages.align.tiles={per_image: 4}", "align"),
        ("stages.pretrain_vl.packing.overlong=drop", "pretrain_vl"),
        ("stages.instruct.phases.captions.tower_rate=0.5", "instruct"),
        ("stages.medical.phases.instruct.data=[{shards: medical_training, crop: 0.5}]", "medical"),
        ("stages.medical.phases.instruct.loop.optimizer.eps=1e-7", "medical"),
        ("stages.combine.exam=false", "combine"),
        ("stages.eval.exam_cutoff=0.7", "eval"),
    ],
)
def test_a_key_covers_the_stages_settings_and_all_before_it(override, first_changed):
    before, after = keys(), keys(override)
    first = STAGES.index(first_changed)
    assert [before[name] == after[name] for name in STAGES] == [place < first for place in range(len(STAGES))]


def test_keys_are_stable_and_do_not_know_the_name():
    assert keys() == keys("name=other") == keys("stages.clip.batch_size=32") == keys("processes=4")
    assert len(set(keys().values())) == len(STAGES)


# --- running ----------------------------------------------------------------------------------------------------


def test_stages_run_in_order_and_done_ones_are_skipped(tmp_path, stage_processes):
    run, said = tmp_path / "run", []
    run_recipe(short_recipe(), run, quiet, until="corpus")
    assert stage_processes.started == ["data", "corpus"]
    run_recipe(short_recipe(), run, said.append)
    assert stage_processes.started == ["data", "corpus", "tokenizer", "report"]
    assert said[:2] == ["data: done (1 s)", "corpus: done (1 s)"]
    run_recipe(short_recipe(), run, quiet)
    assert len(stage_processes.started) == 4
    assert load_config(Recipe, run / "recipe.yaml") == short_recipe()


def test_a_failed_stage_stops_the_run_and_is_tried_again(tmp_path, stage_processes):
    run = tmp_path / "run"
    stage_processes.fail.add("corpus")
    for code, expected in ((3, 3), (4, 4), (5, 5), (-9, 1), (137, 1)):
        stage_processes.codes["code"] = code
        with pytest.raises(JvlmError, match=r"(failed|ended in).*the same command goes on") as caught:
            run_recipe(short_recipe(), run, quiet)
        assert "stage 'corpus'" in str(caught.value)
        assert caught.value.exit_code == expected
    assert stage_processes.started == ["data"] + ["corpus"] * 5
    stage_processes.fail.clear()
    run_recipe(short_recipe(), run, quiet)
    assert stage_processes.started[6:] == ["corpus", "tokenizer", "report"]


@pytest.mark.parametrize("override", ["stages.tokenizer.vocab_size=800", "stages.corpus.min_chars=5", "seed=1"])
def test_changed_settings_are_refused_with_what_to_do(tmp_path, stage_processes, override):
    run = tmp_path / "run"
    run_recipe(short_recipe(), run, quiet)
    started = list(stage_processes.started)
    stage = {"stages.tokenizer.vocab_size=800": "tokenizer", "stages.corpus.min_chars=5": "corpus", "seed=1": "data"}
    with pytest.raises(UsageError, match=f"stage '{stage[override]}' was run here with other settings") as caught:
        run_recipe(short_recipe(override), run, quiet)
    assert f"remove {run / stage[override]}" in str(caught.value)
    assert stage_processes.started == started


def test_settings_changed_half_way_through_a_stage_are_refused(tmp_path, stage_processes):
    run = tmp_path / "run"
    stage_processes.fail.add("tokenizer")
    with pytest.raises(JvlmError):
        run_recipe(short_recipe(), run, quiet)
    stage_processes.fail.clear()
    with pytest.raises(UsageError, match="stage 'tokenizer' was run here with other settings"):
        run_recipe(short_recipe("stages.tokenizer.vocab_size=800"), run, quiet)
    run_recipe(short_recipe(), run, quiet)


def test_a_refused_run_keeps_the_recipe_of_what_was_run(tmp_path, stage_processes):
    run = tmp_path / "run"
    run_recipe(short_recipe(), run, quiet)
    with pytest.raises(UsageError):
        run_recipe(short_recipe("stages.corpus.min_chars=5"), run, quiet)
    assert load_config(Recipe, run / "recipe.yaml") == short_recipe()


def test_a_run_in_use_is_refused(tmp_path, stage_processes):
    run = tmp_path / "run"
    run.mkdir()
    with open(run / ".lock", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(JvlmError, match="in use by another process"):
            run_recipe(short_recipe(), run, quiet)
    assert stage_processes.started == []
    run_recipe(short_recipe(), run, quiet)


def test_the_last_model_is_published_and_verified(tmp_path, stage_processes):
    run, recipe = tmp_path / "run", load_recipe(MINUTE, [])
    for name in ("instruct", "prefer"):
        with new_folder(run / name / "model") as folder:
            (folder / "config.json").write_text(json.dumps({"model_type": name}))
    run_recipe(recipe, run, quiet)
    assert read_json(run / "model" / "config.json") == {"model_type": "prefer"}
    assert "README.md" not in read_json(run / "model" / "hashes.json")  # a card may be added to
    assert "stage prefer" in (run / "model" / "README.md").read_text()
    assert read_json(run / "model" / "hashes.json") == read_json(run / "prefer" / "model" / "hashes.json")
    write_json(run / "prefer" / "model" / "config.json", {"model_type": "preferx"})
    with pytest.raises(JvlmError, match="differs from the hash"):
        run_recipe(recipe, run, quiet)


def test_a_real_stage_process_reports_its_error_and_leaves_nothing_done(tmp_path, capfd):
    recipe = short_recipe(f"stages.corpus.inputs=[{{path: {tmp_path / 'nowhere'}, source: mine}}]", "threads=1")
    run = tmp_path / "run"
    data = next(key for key in stage_keys(recipe) if key.name == "data")
    write_json(run / "data" / "done.json", {"stage": "data", "key": data.key, "seconds": 0.0})
    with pytest.raises(JvlmError, match="stage 'corpus' failed") as caught:
        run_recipe(recipe, run, quiet, until="corpus")
    assert caught.value.exit_code == 3
    error = capfd.readouterr().err
    assert "jvlm: error:" in error
    assert "nowhere" in error
    assert "Traceback" not in error
    assert not (run / "corpus" / "done.json").exists()


# --- children ---------------------------------------------------------------------------------------------------

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline().strip(), flush=True)
time.sleep(60)
"""
CHILD = "from jvlm.process import die_with_parent\n{call}print('ready', flush=True)\nimport time\ntime.sleep(60)\n"


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's help is Linux's")
@pytest.mark.parametrize("asks", [True, False])
def test_a_child_dies_with_its_parent(asks):
    """Without the call it lives on: the test can tell."""
    child_code = CHILD.format(call="die_with_parent()\n" if asks else "")
    parent = subprocess.Popen([sys.executable, "-c", PARENT, child_code], stdout=subprocess.PIPE, text=True)
    pid, word = parent.stdout.readline().split()
    try:
        assert word == "ready"
        assert alive(pid)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + (20 if asks else 0.3)
        while alive(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert alive(pid) != asks
    finally:
        parent.kill()
        parent.stdout.close()
        if alive(pid):
            os.kill(int(pid), signal.SIGKILL)


def test_the_process_of_the_stages_and_that_of_each_ask_for_it():
    before, after = Path(find_spec("jvlm.stages.__main__").origin).read_text().split('if __name__ == "__main__":')
    assert "die_with_parent()" in after
    places = [before.index(text) for text in ("if not child:", "die_with_parent()", "run_stage(run, name, keys[name])")]
    assert places == sorted(places)
