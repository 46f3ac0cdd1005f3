"""pretrain_vl and what comes after it, on a model with images: which model is gone on from, tiles, samples too long."""

import json

import pytest
import torch
from jvlm_data.toyworld import pages
from tiny import PROJECTOR, SEED, SIDE, VISION, ask, corpus_texts, make_model, samples, weights

from jvlm.config import load_config
from jvlm.files import read_json_lines, write_text
from jvlm.images.shards import write_shards
from jvlm.model.config import ProjectorConfig, TilesConfig
from jvlm.model.directory import load_directory, save_model
from jvlm.model.processor import Processor
from jvlm.model.vision import build_clip
from jvlm.recipe import Recipe
from jvlm.stages.context import StageContext
from jvlm.stages.vision_language import align, instruct, pretrain_vl

STILL = {"steps": 1, "optimizer": {"learning_rate": 1e-12, "warmup": 0}}


@pytest.fixture
def run(tmp_path, tokenizer):
    """A run folder: a bridged model, pages, captions, large pictures and the cleaned corpus."""
    run = tmp_path / "run"
    save_model(run / "align" / "model", make_model(tokenizer), Processor(tokenizer, VISION, PROJECTOR))
    large = [ask(f"large-{n}", "色は。", [n], "赤です。" * (4 * n + 1), sizes=[(96, 64)]) for n in range(4)]
    sets = {
        "pages_train": [pages.page(SEED, index, SIDE) for index in range(8)],
        "captions_train": samples("captions_train", 6),
        "large": large,
    }
    for name, found in sets.items():
        write_shards(found, run / "data" / "shards" / name)
    rows = [json.dumps({"id": f"d{i}", "text": text, "source": "s"}) for i, text in enumerate(corpus_texts(6))]
    write_text(run / "corpus" / "text" / "train.jsonl", "\n".join(rows) + "\n")
    return run


def context(run, stage, **stages):
    recipe = load_config(Recipe, None, [], {"name": "t", "stages": stages})
    return StageContext(run, stage, recipe)


def beside(run):
    """Another run folder on the same data and bridged model."""
    other = run.parent / "other"
    other.mkdir()
    for part in ("align", "data"):
        (other / part).symlink_to(run / part)
    return other


def phase(*sets, loop=None, **settings):
    packing = {"row_length": 400, "rows": 2} | settings.pop("packing", {})
    return {"data": [{"shards": name} for name in sets], "loop": loop or STILL, "packing": packing} | settings


def test_instruct_goes_on_from_the_pages(run):
    loop = {"steps": 4, "log_every": 1, "optimizer": {"learning_rate": 1e-2, "warmup": 1}}
    vl = phase("pages_train", loop=loop, packing={"row_length": 700})
    vl["data"].append({"text": "general", "repeat": 0.5})
    chat = {"phases": {"chat": phase("captions_train")}}
    figures = pretrain_vl(context(run, "pretrain_vl", align=phase("captions_train"), pretrain_vl=vl))
    assert figures["samples"]["pages_train"] == 8
    assert figures["samples"]["general"] > 0
    assert figures["dropped"] == 0
    losses = [record["loss"] for record in read_json_lines(run / "pretrain_vl" / "metrics.jsonl")]
    assert losses[-1] < losses[0]
    before, after = (weights(load_directory(run / name / "model").model) for name in ("align", "pretrain_vl"))
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"language", "projector", "markers"}
    given = {"align": phase("captions_train"), "instruct": chat}
    for folder, stages, expected in ((run, given | {"pretrain_vl": vl}, after), (beside(run), given, before)):
        instruct(context(folder, "instruct", **stages))
        found = weights(load_directory(folder / "instruct" / "model").model)
        assert all(torch.allclose(found[name], value, atol=1e-8) for name, value in expected.items())


def test_tiles_stay_with_the_model_until_a_phase_changes_them(run):
    phases = {
        "first": phase("large"),
        "tiles": phase("large", tiles={"per_image": 6}),
        "on": phase("large"),
        "fewer": phase("large", tiles={"per_image": 2, "per_sample": 5}),
    }
    instruct(context(run, "instruct", align=phase("large"), instruct={"phases": phases}))
    folders = [f"instruct/{n}-{name}" for n, name in enumerate(phases, 1)]
    found = [load_directory(run / folder / "model").processor.tiles for folder in (*folders, "instruct")]
    more, fewer = TilesConfig(per_image=6), TilesConfig(per_image=2, per_sample=5)
    assert found == [TilesConfig(), more, more, fewer, fewer]


def test_what_is_left_out_for_its_length_is_said_and_written_down(run, capsys):
    tiles = {"tiles": {"per_image": 6}}
    short = phase("large", "captions_train", packing={"row_length": 60, "overlong": "drop"}, **tiles)
    figures = pretrain_vl(context(run, "pretrain_vl", align=phase("large"), pretrain_vl=short))
    rows = read_json_lines(run / "pretrain_vl" / "overlong.jsonl")
    assert 0 < len(rows) == figures["dropped"] == 4 - figures["samples"]["large"] < 4
    assert rows == [{"set": "large", "id": f"large-{n}"} for n in range(4 - len(rows), 4)]
    assert f"large: {len(rows)} samples are longer than a row and left out" in capsys.readouterr().out
    fewer = phase("large", "captions_train", packing={"row_length": 60, "overlong": "fewer_tiles"}, **tiles)
    figures = pretrain_vl(context(beside(run), "pretrain_vl", align=phase("large"), pretrain_vl=fewer))
    assert figures["dropped"] == 0
    assert figures["samples"]["large"] == 4


@pytest.mark.parametrize("kind", ["linear", "pixel_shuffle", "resampler"])
def test_align_bridges_with_any_projector_and_fits_the_one_that_is_fitted(run, tokenizer, kind):
    language = load_directory(run / "align" / "model").model.language
    save_model(run / "pretrain" / "model", language, Processor(tokenizer))
    clip = build_clip(VISION, tokenizer.vocab_size, 3, 8)
    save_model(run / "clip" / "model", clip, Processor(tokenizer, VISION))
    (run / "align").rename(run / "before")
    stage = phase("large", projector={"kind": kind}, tiles={"per_image": 2})
    align(context(run, "align", align=stage))
    loaded = load_directory(run / "align" / "model")
    assert loaded.model.projector_config == ProjectorConfig(kind=kind)
    assert loaded.processor.tiles.per_image == 2
    if kind == "pixel_shuffle":
        assert float((loaded.model.projector.gain.detach() - 1).abs().max()) > 0.5
