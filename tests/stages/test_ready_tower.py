"""align with a ready tower in the place of one that was trained in the run."""

import pytest
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from tiny import VISION, make_language, shake

from jvlm.config import load_config
from jvlm.files import read_json, write_json
from jvlm.model.directory import load_directory, save_model
from jvlm.model.processor import Processor
from jvlm.model.towers import save_tower
from jvlm.model.vision import build_tower
from jvlm.recipe import Recipe
from jvlm.stages.context import StageContext
from jvlm.stages.vision_language import align

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 3},
    "text_cfg": {"context_length": 8, "vocab_size": 60, "width": 32, "heads": 2, "layers": 1},
}
LOOP = {"steps": 2, "checkpoint_every": 2, "log_every": 1, "optimizer": {"learning_rate": 3e-3, "warmup": 1}}


@pytest.fixture
def aligned(tmp_path, tokenizer, caption_shards):
    """Runs align with a tower and further settings; returns the model it leaves."""
    run = tmp_path / "run"
    save_model(run / "pretrain" / "model", make_language(tokenizer), Processor(tokenizer))

    def start(tower, **settings):
        align_stage = {
            "data": [{"shards": str(caption_shards.folder)}],
            "tower": tower,
            "projector": {"shuffle": 2},
            "packing": {"row_length": 160, "rows": 2},
            "loop": LOOP,
        } | settings
        recipe = load_config(Recipe, None, [], {"name": "t", "stages": {"pretrain": {}, "align": align_stage}})
        align(StageContext(run, "align", recipe))
        return load_directory(run / "align" / "model")

    return start


def same(tower, other):
    return {name for name, value in tower.named_parameters() if torch.equal(value, other[name])}


def test_a_published_clip_is_brought_in_and_bridged(aligned, tmp_path):
    folder = tmp_path / "published"
    torch.manual_seed(0)
    tensors = dict(shake(CLIP(**MODEL), 1, 0.1).state_dict())
    folder.mkdir()
    save_file(tensors, folder / "open_clip_model.safetensors")
    write_json(folder / "open_clip_config.json", {"model_cfg": MODEL, "preprocess_cfg": {"mean": [0.1, 0.2, 0.3]}})
    loaded = aligned({"start_from": str(folder), "feature_layers": [-2, 0]})
    config = loaded.model.vision_config
    assert (config.feature_layers, config.mean, config.layers) == ([-2, 0], (0.1, 0.2, 0.3), 3)
    names = {name for name, _ in loaded.model.tower.named_parameters()}
    assert same(loaded.model.tower, tensors) == names == {name for name in tensors if name.startswith("visual.")}
    assert len(loaded.model.projector.mean) == 4 * 2 * 32
    assert read_json(tmp_path / "run" / "align" / "tower" / "config.json")["model_type"] == "jvlm_tower"


def test_the_top_of_a_ready_directorys_tower_learns(aligned, tmp_path):
    tower = shake(build_tower(VISION), 2, 0.05)
    save_tower(tmp_path / "tower", tower)
    settings = {"train": ["tower", "projector"], "tower_layers": 1}
    loaded = aligned(str(tmp_path / "tower"), **settings)
    assert not (tmp_path / "run" / "align" / "tower").exists()
    before = dict(tower.named_parameters())
    kept = same(loaded.model.tower, before)
    moved = before.keys() - kept
    assert {"visual.ln_post.weight", "visual.transformer.resblocks.1.mlp.c_fc.weight"} <= moved
    assert all(name.startswith(("visual.ln_post.", "visual.transformer.resblocks.1.")) for name in moved)
