"""open_clip's towers in transformers: every published shape has its place, features are the same, the rest is named."""

import open_clip
import pytest
import torch
from open_clip.model import _build_vision_tower
from open_clip.transformer import QuickGELU
from torch import nn
from transformers import CLIPVisionModel, SiglipVisionModel
from transformers.models.clip.configuration_clip import CLIPVisionConfig
from transformers.models.siglip.configuration_siglip import SiglipVisionConfig

from jvlm.model.config import VisionConfig
from jvlm.model.export.vision import convert_tower
from jvlm.model.vision import VisionTower

SMALL = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}


def tower_of(settings, quick_gelu=False):
    visual = _build_vision_tower(16, settings, quick_gelu)
    return VisionTower(VisionConfig(image_size=settings.get("image_size", 224)), visual).eval()


@torch.no_grad()
@pytest.mark.parametrize("quick", [False, True])
def test_hidden_states_are_equal(quick):
    torch.manual_seed(0)
    tower = tower_of(SMALL, quick)
    for parameter in tower.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    converted = convert_tower(tower)
    assert converted.obstacles == []
    assert converted.config["hidden_act"] == ("quick_gelu" if quick else "gelu")
    theirs = CLIPVisionModel(CLIPVisionConfig(**converted.config)).eval()
    state = theirs.state_dict()
    prefix = next(iter(state)).partition("embeddings")[0]
    theirs.load_state_dict({prefix + name: tensor for name, tensor in converted.tensors.items()})
    pixels = torch.randn(2, 3, 32, 32)
    out = theirs(pixels, output_hidden_states=True)
    taken = tower.visual.forward_intermediates(pixels, output_fmt="NLC", output_extra_tokens=True)
    for number, (ours, first) in enumerate(
        zip(taken["image_intermediates"], taken["image_intermediates_prefix"], strict=True)
    ):
        expected = torch.cat([first, ours], 1)
        torch.testing.assert_close(out.hidden_states[number + 1], expected, atol=1e-5, rtol=1e-5)


PUBLISHED = {
    "ViT-B-32-quickgelu": (768, 3072, 12, 12, 224, 32, "quick_gelu", 1e-5),
    "ViT-L-14-336-quickgelu": (1024, 4096, 24, 16, 336, 14, "quick_gelu", 1e-5),
    "ViT-B-16-SigLIP": (768, 3072, 12, 12, 224, 16, "gelu", 1e-6),
    "ViT-SO400M-14-SigLIP-384": (1152, 4304, 27, 16, 384, 14, "gelu", 1e-6),
    "ViT-gopt-16-SigLIP2-256": (1536, 6144, 40, 16, 256, 16, "gelu_pytorch_tanh", 1e-6),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_towers_have_a_place_for_every_tensor(name):
    """Without memory for them: shapes alone."""
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        tower = tower_of(config["vision_cfg"], config.get("quick_gelu", False))
    converted = convert_tower(tower)
    assert converted.obstacles == []
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size")
    assert tuple(converted.config[key] for key in (*keys, "hidden_act", "layer_norm_eps")) == PUBLISHED[name]
    with torch.device("meta"):
        if converted.has_class_token:
            theirs = CLIPVisionModel(CLIPVisionConfig(**converted.config))
        else:
            theirs = SiglipVisionModel(SiglipVisionConfig(**converted.config))
    assert sum(p.numel() for p in theirs.parameters()) == sum(t.numel() for t in converted.tensors.values())


def with_activation(tower, activation):
    for block in tower.visual.transformer.resblocks:
        block.mlp.gelu = activation
    return tower


def with_epsilon(tower):
    tower.visual.ln_pre.eps = 1e-3
    return tower


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: tower_of(SMALL | {"ls_init_value": 0.1}), "encoder.layers.0.ls_1.gamma"),
        (lambda: tower_of(SMALL | {"no_ln_pre": True}), "pre_layrnorm.bias"),
        (lambda: tower_of(SMALL | {"qk_norm": True}), "encoder.layers.0.attn.ln_k.bias"),
        (lambda: with_activation(tower_of(SMALL), nn.ReLU()), "activation ReLU"),
        (lambda: with_epsilon(tower_of(SMALL)), "several epsilons"),
        (lambda: tower_of({"timm_model_name": "test_vit", "image_size": 160}), "cls_token"),
        (lambda: tower_of({"timm_model_name": "test_efficientnet_gn", "image_size": 64}), "kind EfficientNet"),
        (lambda: tower_of({"layers": (1, 1, 1, 1), "width": 16, "image_size": 64}), "kind ModifiedResNet"),
    ],
)
def test_other_towers_are_named(make, named):
    (obstacle,) = convert_tower(make()).obstacles
    assert named in obstacle


def test_an_activation_is_known_by_what_it_computes():
    for activation, name in ((QuickGELU(), "quick_gelu"), (nn.GELU(approximate="tanh"), "gelu_pytorch_tanh")):
        assert convert_tower(with_activation(tower_of(SMALL), activation)).config["hidden_act"] == name
