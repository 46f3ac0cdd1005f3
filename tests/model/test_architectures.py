"""Shapes read from open_clip's descriptions, against the towers that open_clip builds from them."""

import subprocess
import sys

import open_clip
import pytest
import torch
from pydantic import ValidationError

from jvlm.config import load_config
from jvlm.errors import UsageError
from jvlm.model.config import VisionConfig
from jvlm.model.vision import build_tower

FAMILIES = [
    "EVA02-L-14-336",
    "PE-Core-T-16-384",
    "ViT-B-32-SigLIP2-256",
    "ViT-H-14-CLIPA-336",
    "ViT-SO400M-14-SigLIP2-378",
]


def known():
    """Every name that a recipe may give."""
    for name in open_clip.list_models():
        try:
            VisionConfig(open_clip=name, feature_norm=False)
        except ValidationError:
            continue
        yield name


def check(name):
    """What the config promises is what a tower without weights gives; it refuses anything else itself."""
    config = VisionConfig(open_clip=name, feature_layers=[-1, 0], feature_norm=False)
    with torch.device("meta"):
        tower = build_tower(config)
        features = tower(torch.zeros(1, 3, config.image_size, config.image_size, dtype=torch.uint8))
    assert features.shape == (1, config.grid**2, 2 * config.width) == (1, config.grid**2, config.feature_width)
    trunk = getattr(tower.visual, "trunk", None)
    blocks = tower.visual.transformer.resblocks if trunk is None else trunk.blocks
    assert len(blocks) == config.layers
    assert tower.visual.image_size == (config.image_size, config.image_size)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_name_is_enough(name):
    check(name)


@pytest.mark.slow
@pytest.mark.long
def test_every_name_is_enough():
    names = list(known())
    assert len(names) > 80
    for name in names:
        check(name)


def test_pixels_are_normalised_as_the_published_weights_want_it():
    others, compared = set(), 0
    for name in known():
        config = VisionConfig(open_clip=name, feature_norm=False)
        tags = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
        inputs = {(tuple(tag["mean"]), tuple(tag["std"])) for tag in tags}
        compared += len(tags)
        if inputs and (config.mean, config.std) not in inputs:
            others.add(name)
    assert compared > 90
    assert all("CLIPA" in name for name in others), others  # trained on ImageNet's, which their folders say


def test_a_recipe_needs_one_line_and_reads_it_without_torch():
    code = (
        "import sys\n"
        "from jvlm.model.config import VisionConfig\n"
        "config = VisionConfig(open_clip='ViT-L-14-336')\n"
        "assert not {'torch', 'open_clip', 'timm'} & sys.modules.keys()\n"
        "print(config.image_size, config.patch_size, config.width, config.layers, config.head_width, config.embed_dim)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["336", "14", "1024", "24", "64", "768"]


def test_a_config_comes_back_without_the_list_it_was_taken_from(monkeypatch):
    config = VisionConfig(open_clip="ViT-B-16-SigLIP2", image_size=256, feature_layers=[-2, -5])
    monkeypatch.setattr("jvlm.model.config.architecture", lambda name: pytest.fail("looked up again"))
    assert VisionConfig(**config.model_dump()) == config
    assert VisionConfig.model_validate_json(config.model_dump_json()) == config
    assert config.changed(feature_norm=False).feature_layers == [-2, -5]


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"open_clip": "ViT-B-33"}, "no architecture 'ViT-B-33', but ViT-B-3"),
        ({"open_clip": "ViT-B-32", "width": 512, "layers": 12}, "the tower has width 768: leave width out"),
        ({"open_clip": "ViT-B-32", "timm_model": "convnext_atto"}, "leave one out"),
        ({"open_clip": "RN50"}, "a ResNet has no features"),
        ({"open_clip": "convnext_base"}, "name it as timm_model"),
        ({"open_clip": "coca_ViT-B-32"}, "set feature_norm: false"),
        ({"open_clip_cfg": {"embed_dim": 8, "vision_cfg": {"image_size": [224, 336]}}}, "only square ones"),
        ({"open_clip_cfg": {"embed_dim": 8, "vision_cfg": {"patch_size": [16, 8]}}}, "only square ones"),
        ({"layers": 4, "feature_layers": [-5]}, "another one of 4 layers"),
        ({"layers": 4, "feature_layers": [3, -1]}, "another one of 4 layers"),
        ({"feature_layers": []}, "at least 1 item"),
    ],
)
def test_what_cannot_be_is_said(settings, fault):
    with pytest.raises(UsageError, match=fault):
        load_config(VisionConfig, None, [], settings)
