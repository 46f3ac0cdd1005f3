"""Every kind of projector keeps to one contract; what is special to each is held against another program."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from tiny import PROJECTOR, VISION, make_model, shake
from torch import nn
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from jvlm.errors import UsageError
from jvlm.model.config import ProjectorConfig, num_image_tokens
from jvlm.model.directory import load_directory, save_model
from jvlm.model.processor import Processor
from jvlm.model.projector import KINDS, PixelShuffleProjector, build_projector
from jvlm.model.resampler import Resampler, positions
from jvlm.train.config import OptimizerConfig
from jvlm.train.engine import parameter_groups

CONFIGS = [
    ProjectorConfig(kind="linear"),
    ProjectorConfig(kind="mlp"),
    ProjectorConfig(kind="pixel_shuffle", shuffle=2),
    ProjectorConfig(kind="resampler", queries=5),
]
every_kind = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)


def features(number=3):
    return torch.randn(number, VISION.grid**2, VISION.feature_width, generator=torch.Generator().manual_seed(5))


def test_every_kind_is_tried() -> None:
    assert [config.kind for config in CONFIGS] == list(KINDS)


@every_kind
def test_it_gives_as_many_tokens_as_it_says_each_image_by_itself(config) -> None:
    torch.manual_seed(0)
    projector = shake(build_projector(config, VISION, 24))
    given = features()
    with torch.no_grad():
        tokens = projector(given)
        assert tokens.shape == (3, num_image_tokens(VISION, config), 24)
        for number in range(3):
            torch.testing.assert_close(projector(given[number : number + 1]), tokens[number : number + 1])
        assert not torch.allclose(tokens[0], tokens[1], atol=0.1)
        assert (tokens[:, 1:] - tokens[:, :1]).abs().amax(-1).min() > 0.01  # no two tokens of an image are alike


@every_kind
def test_every_weight_learns(config) -> None:
    torch.manual_seed(0)
    projector = build_projector(config, VISION, 24)
    tokens = projector(features())
    (tokens * torch.randn_like(tokens)).sum().backward()
    for name, parameter in projector.named_parameters():
        assert parameter.grad is not None, name
        if name != "key.bias":  # adds the same to the scores of all keys
            assert float(parameter.grad.abs().max()) > 1e-4, name


@every_kind
def test_a_model_comes_back_with_its_projector_and_its_matrices_are_muons(config, tokenizer, tmp_path) -> None:
    model = make_model(tokenizer, projector=config)
    save_model(tmp_path / "model", model, Processor(tokenizer, VISION, config))
    loaded = load_directory(tmp_path / "model")
    assert loaded.model.projector_config == config
    assert loaded.processor.num_image_tokens == num_image_tokens(VISION, config)
    with torch.no_grad():
        assert torch.equal(loaded.model.projector(features()), model.projector(features()))
    for_muon, for_adamw = parameter_groups(dict(model.named_parameters()), OptimizerConfig(), {})
    names = {id(p): name for name, p in model.named_parameters()}
    muon = {names[id(p)] for group in for_muon for p in group["params"]}
    linear = {f"projector.{name}.weight" for name, m in model.projector.named_modules() if isinstance(m, nn.Linear)}
    assert {name for name in muon if not name.startswith("language.")} == linear
    decayed = {names[id(p)] for group in for_adamw if group["weight_decay"] for p in group["params"]}
    assert not decayed & {"markers.weight", "projector.queries", "language.model.embed_tokens.weight"}


# --- settings ----------------------------------------------------------------------------------------------------


def test_left_out_settings_are_those_of_the_kind() -> None:
    assert ProjectorConfig() == ProjectorConfig(kind="pixel_shuffle", shuffle=2)
    assert ProjectorConfig(kind="resampler").queries == 64
    for config in (*CONFIGS, ProjectorConfig(kind="resampler")):
        assert ProjectorConfig(**config.model_dump()) == config


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "linear", "shuffle": 2},
        {"kind": "mlp", "queries": 8},
        {"kind": "resampler", "shuffle": 1},
        {"queries": 8},
        {"kind": "perceiver"},
        {"kind": ["mlp"]},
        {"shuffle": 0},
    ],
    ids=str,
)
def test_a_setting_that_a_kind_has_not_is_an_error(settings) -> None:
    with pytest.raises(ValidationError):
        ProjectorConfig(**settings)


def test_patches_that_do_not_fill_the_image_are_an_error_for_every_kind() -> None:
    for config in CONFIGS:
        with pytest.raises(UsageError, match="divisible"):
            num_image_tokens(VISION.model_copy(update={"image_size": 33}), config)


# --- linear and mlp ----------------------------------------------------------------------------------------------


def test_linear_is_one_matrix() -> None:
    projector = shake(build_projector(CONFIGS[0], VISION, 24))
    (weight, bias), given = projector.parameters(), features()
    torch.testing.assert_close(projector(given), given @ weight.T + bias)


def test_mlp_is_llavas() -> None:
    vision = CLIPVisionConfig(hidden_size=VISION.feature_width, num_attention_heads=2)
    language = LlamaConfig(hidden_size=24, num_attention_heads=2)
    theirs = LlavaMultiModalProjector(LlavaConfig(vision_config=vision, text_config=language))
    ours = build_projector(CONFIGS[1], VISION, 24)
    theirs.load_state_dict(shake(ours).state_dict())
    with torch.no_grad():
        assert torch.equal(ours(features()), theirs(features()))


# --- resampler ---------------------------------------------------------------------------------------------------


def test_resampler_is_cross_attention_from_its_queries() -> None:
    """Against torch's own attention; several heads."""
    torch.manual_seed(0)
    one: Resampler = shake(build_projector(CONFIGS[3], VISION, 128))
    assert one.heads == 2
    theirs = nn.MultiheadAttention(128, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([one.query.weight, one.key.weight, one.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([one.query.bias, one.key.bias, one.value.bias]))
        theirs.out_proj.weight.copy_(torch.eye(128))
        theirs.out_proj.bias.zero_()
        content = one.norm_features(one.features(features()))
        queries = one.norm_queries(one.queries).expand(3, -1, -1)
        seen, _ = theirs(queries, content + one.position, content, need_weights=False)
        expected = one.output(F.layer_norm(seen, (128,), one.norm_seen.weight, one.norm_seen.bias))
        torch.testing.assert_close(one(features()), expected, atol=1e-5, rtol=1e-4)


def test_resampler_knows_where_a_patch_stands() -> None:
    one: Resampler = shake(build_projector(CONFIGS[3], VISION, 24))
    given, order = features(), torch.randperm(VISION.grid**2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert not torch.allclose(one(given[:, order]), one(given), atol=1e-3)
        one.position.zero_()
        torch.testing.assert_close(one(given[:, order]), one(given), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("grid", "width"), [(3, 8), (4, 30), (24, 64), (2, 3)])
def test_positions_are_rows_and_columns(grid, width) -> None:
    table = positions(grid, width).view(grid, grid, width)
    half = width // 4 * 2
    for cell in range(grid):
        assert torch.equal(table[cell, :, :half], table[cell, :1, :half].expand(grid, -1))
        assert torch.equal(table[:, cell, half : 2 * half], table[:1, cell, half : 2 * half].expand(grid, -1))
    assert (table[..., 2 * half :] == 0).all()
    assert len(table.flatten(0, 1).unique(dim=0)) == (grid**2 if half else 1)


# --- pixel-shuffle -----------------------------------------------------------------------------------------------


def test_pixel_shuffle_begins_as_it_always_has() -> None:
    """Its random numbers come in one order: two layers, then the places."""
    torch.manual_seed(3)
    ours = dict(build_projector(PROJECTOR, VISION, 32).named_parameters())
    torch.manual_seed(3)
    hidden, output = nn.Linear(4 * VISION.width, 64), nn.Linear(64, 32)
    assert list(ours) == [
        "mean", "gain", "size", "position", "hidden.weight", "hidden.bias", "output.weight", "output.bias"
    ]  # fmt: skip
    expected = [hidden.weight, hidden.bias, output.weight, output.bias]
    assert all(torch.equal(a, b) for a, b in zip(list(ours.values())[4:], expected, strict=True))
    assert torch.equal(ours["position"], torch.randn(4, 32) * 0.3)


def test_fitting_standardises_every_channel() -> None:
    torch.manual_seed(0)
    projector = PixelShuffleProjector(PROJECTOR, VISION, 32)
    scales = torch.logspace(-3, 3, VISION.width)
    features = torch.randn(50, VISION.grid**2, VISION.width) * scales + 5 * scales
    projector.fit(features)
    standard = (projector.fold(features) - projector.mean) * projector.gain
    torch.testing.assert_close(standard.mean((0, 1)), torch.zeros(standard.shape[-1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(standard.std((0, 1), correction=0), torch.ones(standard.shape[-1]), atol=1e-4, rtol=0)


def test_a_channel_that_never_varies_stays_finite() -> None:
    projector = PixelShuffleProjector(PROJECTOR, VISION, 32)
    features = torch.randn(8, VISION.grid**2, VISION.width)
    features[..., 0] = 3.0
    projector.fit(features)
    assert torch.isfinite(projector(features)).all()
    assert float(projector.gain.detach()[0]) == 1.0


def test_it_learns_from_the_fitted_start() -> None:
    projector = PixelShuffleProjector(PROJECTOR, VISION, 32)
    features = torch.randn(8, VISION.grid**2, VISION.width)
    projector.fit(features)
    tokens = projector(features)
    (tokens * torch.randn_like(tokens)).sum().backward()
    for name, parameter in projector.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 1e-3, name


def test_a_place_keeps_its_share_of_a_token_however_large_the_weights_grow() -> None:
    torch.manual_seed(0)
    projector = PixelShuffleProjector(PROJECTOR, VISION, 32)
    features = torch.randn(8, VISION.grid**2, VISION.width)
    projector.fit(features)
    for growth in (1.0, 50.0):
        with torch.no_grad():
            projector.output.weight.mul_(growth)
            content = projector(features) - projector.position
        torch.testing.assert_close(content.pow(2).mean(-1).sqrt(), torch.ones(content.shape[:2]), atol=1e-3, rtol=0)
    assert 0.2 < float(projector.position.detach().std()) < 0.4
