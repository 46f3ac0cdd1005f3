"""The projector's input: standardised channel by channel over images, and nothing else changed by it."""

import torch
from tiny import PROJECTOR, VISION

from jvlm.model.projector import Projector


def test_fitting_standardises_every_channel() -> None:
    torch.manual_seed(0)
    projector = Projector(PROJECTOR, VISION, 32)
    scales = torch.logspace(-3, 3, VISION.width)
    features = torch.randn(50, VISION.grid**2, VISION.width) * scales + 5 * scales
    projector.fit(features)
    standard = (projector.fold(features) - projector.mean) * projector.gain
    torch.testing.assert_close(standard.mean((0, 1)), torch.zeros(standard.shape[-1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(standard.std((0, 1), correction=0), torch.ones(standard.shape[-1]), atol=1e-4, rtol=0)


def test_a_channel_that_never_varies_stays_finite() -> None:
    projector = Projector(PROJECTOR, VISION, 32)
    features = torch.randn(8, VISION.grid**2, VISION.width)
    features[..., 0] = 3.0
    projector.fit(features)
    assert torch.isfinite(projector(features)).all()
    assert float(projector.gain.detach()[0]) == 1.0


def test_it_learns_from_the_fitted_start() -> None:
    projector = Projector(PROJECTOR, VISION, 32)
    features = torch.randn(8, VISION.grid**2, VISION.width)
    projector.fit(features)
    tokens = projector(features)
    (tokens * torch.randn_like(tokens)).sum().backward()
    for name, parameter in projector.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 1e-3, name


def test_a_place_keeps_its_share_of_a_token_however_large_the_weights_grow() -> None:
    torch.manual_seed(0)
    projector = Projector(PROJECTOR, VISION, 32)
    features = torch.randn(8, VISION.grid**2, VISION.width)
    projector.fit(features)
    for growth in (1.0, 50.0):
        with torch.no_grad():
            projector.output.weight.mul_(growth)
            content = projector(features) - projector.position
        torch.testing.assert_close(content.pow(2).mean(-1).sqrt(), torch.ones(content.shape[:2]), atol=1e-3, rtol=0)
    assert 0.2 < float(projector.position.detach().std()) < 0.4
