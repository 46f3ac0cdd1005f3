"""Combined checkpoints: the formulas, and what is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import LANGUAGE, PROJECTOR, SEED, VISION, corpus_texts, make_language, make_model, shake, weights
from typer.testing import CliRunner

from jvlm.cli import app
from jvlm.errors import DataError, UsageError
from jvlm.files import read_json, sha256_file, verify_folder
from jvlm.model import directory
from jvlm.model.combine import combine
from jvlm.model.config import TilesConfig
from jvlm.model.directory import load_directory, save_model, write_model_files
from jvlm.model.processor import Processor
from jvlm.model.tensors import plan_files, write_tensors
from jvlm.model.upcycle import upcycle
from jvlm.text.tokenizer import train_tokenizer


def saved(folder, model, processor):
    save_model(folder, model, processor)
    return folder


@pytest.fixture
def three(tokenizer, tmp_path):
    """Language models a and b, trained from base as it were."""
    processor = Processor(tokenizer)
    base = make_language(tokenizer)
    with torch.no_grad():
        base.model.norm.weight[0] = -0.0
    folders = {"base": saved(tmp_path / "base", base, processor)}
    for number, name in enumerate("ab"):
        model = make_language(tokenizer)
        folders[name] = saved(tmp_path / name, shake(model, 5 + number, 0.1), processor)
        if name == "a":
            with torch.no_grad():
                model.model.norm.weight[:2] = torch.tensor([-0.0, 3e-41])
            folders[name] = saved(tmp_path / name, model, processor)
    return folders


def tensors(folder):
    return load_file(folder / "model.safetensors")


def bytes_of(folder):
    return {name: tensor.numpy().tobytes() for name, tensor in tensors(folder).items()}


def test_all_the_weight_on_one_is_that_one_bit_for_bit(three, tmp_path):
    combine([(three["a"], 1), (three["b"], 0)], tmp_path / "out")
    assert bytes_of(tmp_path / "out") == bytes_of(three["a"])
    combine([(three["a"], 0), (three["b"], 3)], tmp_path / "out")
    assert bytes_of(tmp_path / "out") == bytes_of(three["b"])
    assert bytes_of(three["a"]) != bytes_of(three["b"])


@pytest.mark.parametrize("given", [(1, 1), (0.7, 0.3), (3, 1), (2, -1)])
def test_a_mean_is_the_mean(three, tmp_path, given):
    combine([(three["a"], given[0]), (three["b"], given[1])], tmp_path / "out")
    a, b, out = (tensors(folder) for folder in (three["a"], three["b"], tmp_path / "out"))
    for name, tensor in out.items():
        assert tensor.dtype == torch.float32
        one, two = (np.asarray(of[name], np.float64) for of in (a, b))
        expected = (given[0] * one + given[1] * two) / sum(given)
        np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-6, atol=1e-8)
    loaded = load_directory(tmp_path / "out")
    assert loaded.kind == "llama"
    with torch.no_grad():
        assert torch.isfinite(loaded.model(torch.arange(20)[None]).logits).all()


def test_what_was_learned_is_added_to_the_base(three, tmp_path):
    a, b, base = (tensors(three[name]) for name in ("a", "b", "base"))
    combine([(three["a"], 1)], tmp_path / "one", "task_arithmetic", three["base"])
    for name, tensor in tensors(tmp_path / "one").items():
        torch.testing.assert_close(tensor, a[name], atol=1e-7, rtol=1e-6)
    combine([(three["a"], 0.5), (three["b"], -0.25)], tmp_path / "out", "task_arithmetic", three["base"])
    for name, tensor in tensors(tmp_path / "out").items():
        one, two, start = (np.asarray(of[name], np.float64) for of in (a, b, base))
        expected = start + 0.5 * (one - start) - 0.25 * (two - start)
        np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-6, atol=1e-7)


def test_the_record_says_what_was_combined_and_hashes_hold(three, tmp_path):
    out = tmp_path / "out"
    record = combine([(three["a"], 0.5), (three["b"], 2)], out, "task_arithmetic", three["base"])
    verify_folder(out)
    assert read_json(out / "combined.json") == record
    hashes = {name: sha256_file(folder / "hashes.json") for name, folder in three.items()}
    assert record == {
        "method": "task_arithmetic",
        "base": {"path": str(three["base"]), "hashes": hashes["base"]},
        "models": [
            {"path": str(three["a"]), "hashes": hashes["a"], "weight": 0.5},
            {"path": str(three["b"]), "hashes": hashes["b"], "weight": 2},
        ],
    }
    names = {path.name for path in three["a"].iterdir()}
    assert {path.name for path in out.iterdir()} == names | {"combined.json", "README.md"}


@torch.no_grad()
def test_whole_models_are_combined_part_by_part(tokenizer, tmp_path):
    processor, models = Processor(tokenizer, VISION, PROJECTOR), [make_model(tokenizer), make_model(tokenizer)]
    shake(models[1], 9, 0.1)
    folders = [saved(tmp_path / str(number), model, processor) for number, model in enumerate(models)]
    combine([(folder, 1) for folder in folders], tmp_path / "out")
    loaded = load_directory(tmp_path / "out")
    assert loaded.kind == "jvlm"
    one, two, out = (weights(model) for model in (*models, loaded.model))
    assert {name.split(".")[0] for name in out} == {"language", "tower", "projector", "markers"}
    for name, value in out.items():
        torch.testing.assert_close(value, (one[name] + two[name]) / 2, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_experts_are_combined_however_they_lie_on_the_disk(three, tokenizer, tmp_path):
    """In files of several tensors, apart as an export has them or stacked as a training leaves them."""
    upcycle(three["a"], 2, 1, tmp_path / "apart")
    model = shake(load_directory(tmp_path / "apart").model, 3)
    stacked = tmp_path / "stacked"
    with directory.new_folder(stacked) as new:
        write_model_files(model, Processor(tokenizer), new)
        plan = plan_files("model", {name: p.shape for name, p in model.named_parameters()}, 60_000)
        write_tensors(new, "model", model.named_parameters(), plan)
    assert (stacked / "model.safetensors.index.json").is_file()
    combine([(tmp_path / "apart", 1), (stacked, 1)], tmp_path / "out")
    one, two, out = (
        weights(load_directory(folder).model) for folder in (tmp_path / "apart", stacked, tmp_path / "out")
    )
    for name, value in out.items():
        torch.testing.assert_close(value, (one[name] + two[name]) / 2, atol=1e-6, rtol=1e-5)


def refused(models, out, match, error=UsageError):
    with pytest.raises(error, match=match):
        combine(models, out)
    assert not out.exists()


def test_another_architecture_vocabulary_or_tokenizer_is_refused_by_its_first_difference(three, tokenizer, tmp_path):
    out, processor = tmp_path / "out", Processor(tokenizer)
    wide = make_language(tokenizer, LANGUAGE.model_copy(update={"intermediate_size": 64}))
    turned = make_language(tokenizer, LANGUAGE.model_copy(update={"rope_theta": 5000.0}))
    for model, how in ((wide, "intermediate_size is 48 and 64"), (turned, "rope_parameters.rope_theta is 10000.0 and")):
        refused([(three["a"], 1), (saved(tmp_path / "other", model, processor), 1)], out, how)
    larger = train_tokenizer(corpus_texts(120), 660, tmp_path / "larger", seed=SEED, threads=1)
    first = next(i for i in range(660) if tokenizer.piece(i) != larger.piece(i))
    folder = saved(tmp_path / "other", make_language(larger), Processor(larger))
    refused([(three["a"], 1), (folder, 1)], out, f"token {first} is ")
    whole = saved(tmp_path / "whole", make_model(tokenizer), Processor(tokenizer, VISION, PROJECTOR))
    refused([(three["a"], 1), (whole, 1)], out, "architectures is")
    tiled = Processor(tokenizer, VISION, PROJECTOR, TilesConfig(per_image=4))
    tiles = saved(tmp_path / "tiled", make_model(tokenizer), tiled)
    refused([(whole, 1), (tiles, 1)], out, r"tiles.per_image is 0 and 4")


def test_a_tensor_of_another_shape_is_refused_though_the_config_is_the_same(three, tokenizer, tmp_path):
    found = dict(tensors(three["b"]))
    found["model.norm.weight"] = torch.ones(7)
    with directory.new_folder(tmp_path / "odd") as new:
        write_model_files(make_language(tokenizer), Processor(tokenizer), new)
        write_tensors(new, "model", found.items(), plan_files("model", {n: t.shape for n, t in found.items()}))
    match = r"model.norm.weight has shape \(32,\) and \(7,\)"
    refused([(three["a"], 1), (tmp_path / "odd", 1)], tmp_path / "out", match)


def test_weights_and_bases_that_cannot_be_are_refused(three, tmp_path):
    out = tmp_path / "out"
    refused([(three["a"], 1), (three["b"], -1)], out, "must come to more than 0")
    refused([], out, "must come to more than 0")
    with pytest.raises(UsageError, match="task_arithmetic takes a base"):
        combine([(three["a"], 1)], out, "task_arithmetic")
    with pytest.raises(UsageError, match="linear takes no base"):
        combine([(three["a"], 1)], out, base=three["base"])
    file = three["b"] / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    refused([(three["a"], 1), (three["b"], 1)], out, "content differs", DataError)


def test_the_command(three, tmp_path):
    out, names = tmp_path / "out", [str(three[name]) for name in "ab"]
    shown = CliRunner().invoke(app, ["combine", *names, "--weights", "0.75,0.25", "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    assert f"linear of 0.75 × {names[0]}, 0.25 × {names[1]}" in shown.output
    assert [model["weight"] for model in json.loads((out / "combined.json").read_text())["models"]] == [0.75, 0.25]
    for wrong in (["--weights", "1"], ["--weights", "a,b"], ["--method", "slerp"], []):
        failed = CliRunner().invoke(app, ["combine", *names, *wrong, "--out", str(out)])
        assert isinstance(failed.exception, UsageError), wrong
