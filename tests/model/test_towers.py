"""Ready towers: out of every directory that holds one, in from open_clip, at another size than they were trained at."""

import json
import shutil

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tiny import PROJECTOR, VISION, make_language, make_model, shake
from typer.testing import CliRunner

from jvlm.cli import app
from jvlm.errors import DataError, UsageError
from jvlm.files import read_json, write_json
from jvlm.model.adopt_tower import adopt_tower, is_open_clip
from jvlm.model.config import VisionConfig
from jvlm.model.directory import load_directory, save_model
from jvlm.model.pickled import convert_pickled
from jvlm.model.processor import Processor
from jvlm.model.towers import filled_tower, fit_positions, load_tower, save_tower, tower_config
from jvlm.model.vision import build_clip, build_tower

MODEL = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 3, "patch_dropout": 0.5},
    "text_cfg": {"context_length": 8, "vocab_size": 60, "width": 32, "heads": 2, "layers": 1, "pool_type": "argmax"},
}
PIXELS = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "resize_mode": "longest"}


def pixels(side=32, count=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


@pytest.fixture
def published(tmp_path):
    """A folder as open_clip publishes a model; every weight is moved."""
    folder = tmp_path / "published"
    folder.mkdir()
    torch.manual_seed(0)
    clip = shake(open_clip.model.CLIP(**json.loads(json.dumps(MODEL))), 1, 0.1)
    save_file(dict(clip.state_dict()), folder / "open_clip_model.safetensors")
    write_json(folder / "open_clip_config.json", {"model_cfg": MODEL, "preprocess_cfg": PIXELS})
    return folder


def librarys(folder, images, layer):
    """Features by open_clip alone: its factory, its reading of the weights, its mean and deviation."""
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    settings = model.visual.preprocess_cfg
    mean, std = (torch.tensor(settings[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        out = model.visual.forward_intermediates(
            (images / 255 - mean) / std, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC"
        )
    return out["image_intermediates"][layer]


# --- in from open_clip ------------------------------------------------------------------------------------------


def test_a_published_tower_gives_the_features_it_gave(published, tmp_path):
    said = CliRunner().invoke(app, ["import", str(published), "--out", str(tmp_path / "tower")])
    assert said.exit_code == 0, said.output
    assert "3 blocks of width 32, 32 px in patches of 8" in said.output.replace("\n", "")
    assert "text tower is left behind" in said.output.replace("\n", "")
    tower = load_tower(tmp_path / "tower", feature_layers=[-2])
    with torch.no_grad():
        torch.testing.assert_close(tower(pixels()), librarys(published, pixels(), -2), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(tower.train()(pixels()), tower.eval()(pixels()))  # no patch is dropped
    kept = {name for name, _ in tower.named_parameters()}
    whole = load_file(published / "open_clip_model.safetensors").keys()
    assert kept == {name for name in whole if name.startswith("visual.")}
    assert tower_config(tmp_path / "tower").mean == (0.1, 0.2, 0.3)
    assert read_json(tmp_path / "tower" / "config.json")["model_type"] == "jvlm_tower"


def test_half_precision_becomes_float32(published, tmp_path):
    file = published / "open_clip_model.safetensors"
    halves = {name: value.half() for name, value in load_file(file).items()}
    save_file(halves, file)
    adopt_tower(str(published), tmp_path / "tower")
    for name, value in load_file(tmp_path / "tower" / "model.safetensors").items():
        assert value.dtype == torch.float32
        assert torch.equal(value, halves[name].float())


def test_a_name_of_the_hub_is_a_folder_of_its_files(published, tmp_path, monkeypatch):
    from huggingface_hub.errors import RemoteEntryNotFoundError

    asked = []

    def download(name, file):
        asked.append((name, file))
        if not (published / file).is_file():
            raise RemoteEntryNotFoundError.__new__(RemoteEntryNotFoundError)  # it is made from an answer
        return str(published / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    (published / "open_clip_model.safetensors").rename(published / "model.safetensors")
    adopt_tower("hf-hub:llm-jp/llm-jp-clip-vit-base-patch16", tmp_path / "tower")
    assert {name for name, _ in asked} == {"llm-jp/llm-jp-clip-vit-base-patch16"}
    assert [file for _, file in asked] == [
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "open_clip_pytorch_model.safetensors",
        "model.safetensors",
        "README.md",
    ]
    assert load_tower(tmp_path / "tower").config.layers == 3


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path):
    with pytest.raises(DataError, match="not to be had from the hub") as caught:
        adopt_tower("hf-hub:nobody/nothing", tmp_path / "tower")
    assert "\n" not in str(caught.value)
    assert "name the folder" in str(caught.value)


def test_a_folder_of_a_language_model_is_still_one(tmp_path):
    assert not is_open_clip(str(tmp_path))
    said = CliRunner().invoke(app, ["import", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "config.json is missing" in str(said.exception)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"model_cfg": {}}, "not a description of a CLIP: it has no vision_cfg"),
        ({"model_cfg": MODEL | {"vision_cfg": {"timm_model_name": "resnet50"}}}, "resnet50 is no ViT"),
        ({"model_cfg": MODEL | {"vision_cfg": MODEL["vision_cfg"] | {"layers": 4}}}, "missing .*resblocks.3"),
        ({"model_cfg": MODEL | {"vision_cfg": MODEL["vision_cfg"] | {"layers": 2}}}, "unknown .*resblocks.2"),
        ({"model_cfg": MODEL | {"vision_cfg": MODEL["vision_cfg"] | {"image_size": [32, 64]}}}, "only square ones"),
        ({"model_cfg": MODEL | {"vision_cfg": MODEL["vision_cfg"] | {"colour": 1}}}, "colour"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_written(published, tmp_path, change, fault):
    write_json(published / "open_clip_config.json", {"model_cfg": MODEL, "preprocess_cfg": PIXELS} | change)
    with pytest.raises(DataError, match=fault):
        adopt_tower(str(published), tmp_path / "tower")
    assert not (tmp_path / "tower").exists()


def test_an_existing_target_is_left_alone(published, tmp_path):
    (tmp_path / "tower").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        adopt_tower(str(published), tmp_path / "tower")


# --- pickled weights --------------------------------------------------------------------------------------------


def test_pickled_weights_are_read_by_conversion_alone(published, tmp_path):
    file = published / "open_clip_model.safetensors"
    expected = load_file(file)
    file.unlink()
    pickled = tmp_path / "epoch_3.pt"
    names = {f"module.{name}": value for name, value in expected.items()}
    torch.save({"epoch": 3, "state_dict": names, "optimizer": {"state": {}}}, pickled)
    shutil.copy(pickled, published / "open_clip_pytorch_model.bin")
    with pytest.raises(DataError, match="no safetensors; pickled weights can run code") as caught:
        adopt_tower(str(published), tmp_path / "tower")
    assert "jvlm convert-weights" in str(caught.value)
    said = CliRunner().invoke(app, ["convert-weights", str(pickled), "--out", str(file)])
    assert said.exit_code == 0, said.output
    converted = load_file(file)
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[name], value) for name, value in expected.items())
    adopt_tower(str(published), tmp_path / "tower")
    with pytest.raises(UsageError, match="exists already"):
        convert_pickled(pickled, file)


def test_two_names_for_the_same_memory_both_get_theirs(tmp_path):
    one = torch.arange(6.0).view(2, 3)
    torch.save({"a": one, "b": one, "c": one.T}, tmp_path / "shared.bin")
    assert convert_pickled(tmp_path / "shared.bin", tmp_path / "out.safetensors") == 3
    found = load_file(tmp_path / "out.safetensors")
    assert torch.equal(found["a"], one)
    assert torch.equal(found["c"], one.T)


class Harmful:
    """Does something when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


@pytest.mark.parametrize("content", ["code", "text", "none", "list", "absent"])
def test_what_holds_no_weights_or_more_than_data_is_refused(tmp_path, content):
    source, touched = tmp_path / "x.bin", tmp_path / "touched"
    if content == "code":
        torch.save({"weight": torch.ones(2), "more": Harmful(touched)}, source)
    elif content == "text":
        source.write_text("not a checkpoint")
    elif content != "absent":
        torch.save({"none": {"epoch": 3}, "list": [torch.ones(2)]}[content], source)
    with pytest.raises(DataError) as caught:
        convert_pickled(source, tmp_path / "x.safetensors")
    assert str(source) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not touched.exists()
    assert not (tmp_path / "x.safetensors").exists()


def test_the_target_of_a_conversion_is_called_what_it_is(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "x.bin")
    with pytest.raises(UsageError, match="end its name in"):
        convert_pickled(tmp_path / "x.bin", tmp_path / "y.bin")


# --- out of directories -----------------------------------------------------------------------------------------


@torch.no_grad()
def test_every_directory_with_a_tower_gives_it(tokenizer, tmp_path):
    model = make_model(tokenizer)
    save_model(tmp_path / "jvlm", model, Processor(tokenizer, VISION, PROJECTOR))
    clip = build_clip(VISION, tokenizer.vocab_size, 3, 8)
    clip.visual.load_state_dict(model.tower.visual.state_dict())
    save_model(tmp_path / "clip", clip, Processor(tokenizer, VISION))
    save_tower(tmp_path / "tower", model.tower)
    expected = model.tower(pixels())
    for name in ("jvlm", "clip", "tower"):
        found = load_tower(tmp_path / name)
        assert not found.training
        assert torch.equal(found(pixels()), expected), name
    both = load_tower(tmp_path / "clip", feature_layers=[0, 1], feature_norm=False)
    assert both(pixels()).shape == (2, 16, 64)


def test_a_directory_without_a_tower_and_a_tower_without_more_are_told_apart(tokenizer, tmp_path):
    save_model(tmp_path / "language", make_language(tokenizer), Processor(tokenizer))
    with pytest.raises(UsageError, match="'llama' holds no image tower"):
        load_tower(tmp_path / "language")
    save_tower(tmp_path / "tower", build_tower(VISION))
    with pytest.raises(UsageError, match="an image tower alone") as caught:
        load_directory(tmp_path / "tower")
    assert "align.tower" in str(caught.value)
    weights = tmp_path / "tower" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="differs from the hash"):
        load_tower(tmp_path / "tower")


# --- another image size -----------------------------------------------------------------------------------------


def interpolated(positions, old, new, others):
    """[others + old², d] -> [others + new², d], by torch alone."""
    grid = positions[others:].T.reshape(1, -1, old, old)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([positions[:others], grid.flatten(2)[0].T])


@pytest.mark.parametrize("side", [16, 32, 56, 96])
def test_positions_of_a_vit_are_interpolated(tmp_path, side):
    torch.manual_seed(0)
    tower = shake(build_tower(VISION), 1, 0.1)
    save_tower(tmp_path / "tower", tower)
    resized = load_tower(tmp_path / "tower", image_size=side)
    before, after = dict(tower.named_parameters()), dict(resized.named_parameters())
    name = "visual.positional_embedding"
    torch.testing.assert_close(after[name], interpolated(before[name], 4, side // 8, others=1))
    assert all(torch.equal(after[other], value) for other, value in before.items() if other != name)
    with torch.no_grad():
        assert resized(pixels(side)).shape == (2, (side // 8) ** 2, 32)
    save_tower(tmp_path / "resized", resized)
    again = load_tower(tmp_path / "resized")
    assert again.config.image_size == side
    assert torch.equal(dict(again.named_parameters())[name], after[name])


@pytest.mark.parametrize(("name", "others", "old"), [("ViT-B-16-SigLIP", 0, 14), ("EVA02-B-16", 1, 14)])
@pytest.mark.parametrize("side", [224, 448, 160])
def test_positions_of_timms_vits_are_interpolated(name, others, old, side):
    with torch.device("meta"):
        tower = build_tower(VisionConfig(open_clip=name, image_size=side))
    before = torch.randn(1, others + old**2, 768)
    after = fit_positions({"visual.trunk.pos_embed": before.clone()}, tower, "here")["visual.trunk.pos_embed"]
    torch.testing.assert_close(after[0], interpolated(before[0], old, side // 16, others), atol=1e-5, rtol=1e-5)
    assert after.shape == tower.visual.trunk.pos_embed.shape
    if side == 224:
        assert torch.equal(after, before)


@torch.no_grad()
def test_a_tower_with_rotary_positions_takes_another_size(tmp_path):
    """EVA's and PE's turn with the place, and timm fits that to the size: as its own way to another size gives it."""
    tower = shake(build_tower(VisionConfig(open_clip="PE-Core-T-16-384")), 1, 0.02).eval()
    save_tower(tmp_path / "tower", tower)
    resized = load_tower(tmp_path / "tower", image_size=192)
    tower.visual.set_input_size(192)
    tower.config = tower.config.changed(image_size=192)
    torch.testing.assert_close(resized(pixels(192)), tower(pixels(192)), atol=1e-5, rtol=1e-5)


def test_positions_of_what_is_no_square_are_refused():
    tower = build_tower(VISION)
    tensors = {name: value.detach() for name, value in tower.named_parameters()}
    tensors["visual.positional_embedding"] = torch.zeros(1 + 15, 32)
    with pytest.raises(DataError, match="15 patches, which are no square"):
        filled_tower(VISION, tensors, "here")
