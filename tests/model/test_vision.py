"""The tower: features of a ViT and of a convolutional trunk in reading order, layer by layer and image by image."""

import re

import open_clip
import pytest
import torch
from tiny import shake, weights

from jvlm.errors import UsageError
from jvlm.model.config import VisionConfig
from jvlm.model.vision import VisionTower, build_tower

VIT = VisionConfig(image_size=32, patch_size=8, width=32, layers=2, head_width=16, embed_dim=16)
TRUNK = VisionConfig(
    image_size=32, patch_size=8, width=32, layers=5, feature_layers=[2], timm_model="test_efficientnet_gn", embed_dim=16
)


@pytest.fixture(params=[VIT, TRUNK], ids=["vit", "trunk"])
def tower(request):
    torch.manual_seed(0)
    return build_tower(request.param).eval()


def pixels(seed: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_features_equal_the_librarys_own(tower):
    config, images = tower.config, pixels(0)
    for parameter in tower.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))  # initial values would hide a swapped weight
    normalised = (images.float() / 255 - torch.tensor(config.mean).view(3, 1, 1)) / torch.tensor(config.std).view(
        3, 1, 1
    )
    if config.timm_model:
        grids = tower.visual.trunk.forward_intermediates(normalised, indices=[2], intermediates_only=True)[0]
    else:
        x = tower.visual._embeds(normalised)
        for block in tower.visual.transformer.resblocks:
            x = block(x)
        grids = tower.visual.ln_post(x)[:, 1:].transpose(1, 2).reshape(3, config.width, 4, 4)
    features = tower(images)
    assert features.shape == (3, 16, config.width)
    for row in range(4):
        for column in range(4):
            torch.testing.assert_close(features[:, 4 * row + column], grids[:, :, row, column], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_image_does_not_see_its_batch_not_even_in_training(tower):
    images = pixels(1)
    together = tower.train()(images)
    torch.testing.assert_close(together[1:2], tower(images[1:2]), atol=1e-5, rtol=1e-5)


def test_a_wrong_shape_is_said_with_the_right_one():
    tower = build_tower(TRUNK.changed(feature_layers=[3]))
    with pytest.raises(UsageError, match="gives 4 features of width 48"):
        tower(pixels(0))


def of_the_library(name):
    """The image tower of open_clip's own factory with random weights, which it is quicker to draw here than there."""
    with torch.device("meta"):
        tower = open_clip.create_model(name, device="meta").visual
    tower.to_empty(device="cpu")
    for parameter in tower.parameters():
        parameter.normal_(std=0.03).add_(float(parameter.ndim == 1))
    return tower.eval()


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16-SigLIP", pytest.param("ViT-L-14-336", marks=pytest.mark.slow)])
@torch.no_grad()
def test_features_of_published_shapes_equal_the_librarys_own(name):
    """The tower of open_clip's own factory against one that is made from the name alone."""
    library = of_the_library(name)
    side = library.image_size[0]
    pictures = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
    for layers, norm in (([-2, 3, -1], True), ([-2], False)):
        config = VisionConfig(open_clip=name, feature_layers=layers, feature_norm=norm)
        with torch.device("meta"):
            visual = build_tower(config).visual
        visual.load_state_dict(library.state_dict(), assign=True)
        features = VisionTower(config, visual).eval()(pictures)
        mean, std = (torch.tensor(value).view(3, 1, 1) for value in (config.mean, config.std))
        found = library.forward_intermediates(
            (pictures / 255 - mean) / std, normalize_intermediates=norm, intermediates_only=True, output_fmt="NLC"
        )["image_intermediates"]
        assert len(found) == config.layers
        torch.testing.assert_close(features, torch.cat([found[layer] for layer in layers], dim=-1))
        assert features.shape == (1, (side // config.patch_size) ** 2, len(layers) * found[0].shape[-1])
        assert (features[..., : config.width] - found[-1]).abs().max() > 0.1  # another layer would be seen


def small(layers=4, **settings):
    config = VisionConfig(image_size=32, patch_size=8, width=32, layers=layers, head_width=16, embed_dim=16, **settings)
    torch.manual_seed(0)
    return shake(build_tower(config), 1, 0.05)


@torch.no_grad()
def test_layers_stand_side_by_side_in_the_order_they_are_listed():
    parts = [small(feature_layers=[layer]).eval()(pixels(0)) for layer in (2, 0, 3)]
    together = small(feature_layers=[-2, 0, -1]).eval()(pixels(0))
    assert torch.equal(together, torch.cat(parts, dim=-1))


def test_blocks_above_the_features_are_not_computed():
    tower = small(feature_layers=[1, 0])
    for block in tower.visual.transformer.resblocks[2:]:
        block.register_forward_hook(lambda *_: pytest.fail("a block above the features was run"))
    tower(pixels(0))


@pytest.mark.parametrize(
    ("layers", "settings", "expected"),
    [
        (1, {}, r"resblocks\.3\.|ln_post"),
        (2, {}, r"resblocks\.[23]\.|ln_post"),
        (4, {}, r"resblocks\.|ln_post"),
        (2, {"feature_layers": [0, -2], "feature_norm": False}, r"resblocks\.[12]\."),
    ],
)
def test_the_top_of_a_tower_learns_and_the_rest_keeps_its_bytes(layers, settings, expected):
    tower = small(**settings).train()
    before = weights(tower)
    tower.learn_only_top(layers)
    learning = [parameter for parameter in tower.parameters() if parameter.requires_grad]
    tower(pixels(0)).square().sum().backward()
    torch.optim.SGD(learning, lr=0.1).step()
    moved = {name for name, value in weights(tower).items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if re.search(expected, name)}


def test_the_top_of_a_tower_of_open_clips_own_words():
    with torch.device("meta"):
        tower = build_tower(VisionConfig(open_clip="ViT-B-16-SigLIP", feature_layers=[-2]))
    tower.learn_only_top(3)
    learning = {name for name, parameter in tower.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[3] for name in learning if ".blocks." in name} == {"8", "9", "10"}
    others = {name for name in learning if ".blocks." not in name}
    assert others == {"visual.trunk.norm.weight", "visual.trunk.norm.bias"}


def test_a_top_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="the features come through 3 blocks"):
        small(feature_layers=[2]).learn_only_top(4)
    with pytest.raises(UsageError, match="this is a timm trunk"):
        build_tower(TRUNK).learn_only_top(1)
