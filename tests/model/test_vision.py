"""The tower: a ViT's and a convolutional trunk's features in reading order, and image by image."""

import pytest
import torch

from jvlm.errors import UsageError
from jvlm.model.config import VisionConfig
from jvlm.model.vision import build_tower

VIT = VisionConfig(image_size=32, patch_size=8, width=32, layers=2, head_width=16, embed_dim=16)
TRUNK = VisionConfig(
    image_size=32, patch_size=8, width=32, layers=5, feature_layer=2, timm_model="test_efficientnet_gn", embed_dim=16
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
    tower = build_tower(TRUNK.model_copy(update={"feature_layer": 3}))
    with pytest.raises(UsageError, match="gives 4 features of width 48"):
        tower(pixels(0))
