"""Model directories: what is saved is what is loaded, and damage is seen."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from tiny import LANGUAGE, PROJECTOR, TILES, VISION, make_language, make_model, shake, weights

from jvlm.errors import DataError
from jvlm.files import read_json, sha256_file, write_json
from jvlm.model.config import TilesConfig
from jvlm.model.directory import load_directory, load_named_tensors, save_model
from jvlm.model.processor import Processor
from jvlm.model.tensors import TensorFolder
from jvlm.model.vision import build_clip

KINDS = ("llama", "llama, untied", "jvlm", "jvlm_clip", "jvlm_clip, sigmoid")


def save(kind, folder, tokenizer):
    """Saves a model of that kind; returns it."""
    if kind.startswith("llama"):
        model = make_language(tokenizer, LANGUAGE.model_copy(update={"tie_embeddings": "untied" not in kind}))
        save_model(folder, model, Processor(tokenizer))
    elif kind == "jvlm":
        model = make_model(tokenizer)
        save_model(folder, model, Processor(tokenizer, VISION, PROJECTOR, TILES))
    else:
        model = shake(build_clip(VISION, tokenizer.vocab_size, 3, 8, "sigmoid" in kind)).eval()
        save_model(folder, model, Processor(tokenizer, VISION))
    return model


def outputs(model, kind):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(13, 600, (2, 24), generator=generator)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), generator=generator, dtype=torch.uint8)
    with torch.no_grad():
        if kind.startswith("llama"):
            return [model(ids).logits]
        if kind == "jvlm":
            ids[:, 2:6] = model.image_ids.image
            ids[:, [1, 6, 9]] = torch.tensor(model.image_ids.marks)
            return [model(ids, torch.arange(24).expand(2, 24), [24, 24], pixels), model.language(ids).logits]
        ids[:, -1] = 8
        return [model.encode_image(pixels / 255), model.encode_text(ids)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_what_is_loaded_whatever_the_folder_is_called(tokenizer, tmp_path, kind):
    original = save(kind, tmp_path / "model", tokenizer)
    misleading = tmp_path / "clip-llava-jvlm-lora"
    shutil.move(tmp_path / "model", misleading)
    loaded = load_directory(misleading)
    assert loaded.kind == kind.split(",")[0]
    assert not loaded.model.training
    ours, theirs = weights(original), weights(loaded.model)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for before, after in zip(outputs(original, kind), outputs(loaded.model, kind), strict=True):
        assert torch.equal(before, after)
    assert loaded.processor.tokenizer.fingerprint == tokenizer.fingerprint
    assert loaded.processor.num_image_tokens == (4 if kind == "jvlm" else 0)
    assert loaded.processor.tiles == (TILES if kind == "jvlm" else TilesConfig())
    assert not [p for p in misleading.iterdir() if p.suffix not in (".json", ".safetensors", ".model", ".jinja")]


@pytest.mark.parametrize("kind", ["llama", "jvlm", "jvlm_clip"])
def test_a_flipped_bit_anywhere_is_refused(tokenizer, tmp_path, kind):
    save(kind, tmp_path / "model", tokenizer)
    for file in sorted((tmp_path / "model").iterdir()):
        if file.name == "hashes.json":
            continue
        whole = file.read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 1):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(DataError, match="differs from the hash") as caught:
                load_directory(tmp_path / "model")
            assert file.name in str(caught.value)
        file.unlink()
        with pytest.raises(DataError, match="missing"):
            load_directory(tmp_path / "model")
        file.write_bytes(whole)
    load_directory(tmp_path / "model")


def rehash(folder):
    names = [file.name for file in sorted(folder.iterdir()) if file.name != "hashes.json"]
    hashes = {n: {"sha256": sha256_file(folder / n), "bytes": (folder / n).stat().st_size} for n in names}
    write_json(folder / "hashes.json", hashes)


@pytest.mark.parametrize("kind", ["opt", None, 3])
def test_an_unknown_model_type_is_refused(tokenizer, tmp_path, kind):
    folder = tmp_path / "llama"
    save("llama", folder, tokenizer)
    config = read_json(folder / "config.json") | {"model_type": kind}
    (folder / "config.json").write_text(json.dumps(config))
    rehash(folder)
    with pytest.raises(DataError, match="unknown model_type") as caught:
        load_directory(folder)
    assert "known: llama, mistral, mixtral, qwen2, qwen3, jvlm, jvlm_clip, jvlm_tower" in str(caught.value)


def test_no_model_directory_at_all(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match=r"not a model directory: config\.json is missing"):
            load_directory(folder)


def test_an_index_names_files_beside_it_alone(tmp_path):
    folder, outside = tmp_path / "model", tmp_path / "outside.safetensors"
    save_file({"a": torch.ones(2)}, outside)
    for name in ("../outside.safetensors", str(outside), "sub/../../outside.safetensors", 3, None):
        write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": name}})
        with pytest.raises(DataError, match="not an index of weight files beside it"):
            TensorFolder(folder, "model")
    shutil.copy(outside, folder / "beside.safetensors")
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": "beside.safetensors"}})
    assert TensorFolder(folder, "model")["a"].tolist() == [1, 1]


def test_a_config_of_another_shape_does_not_fit_the_weights(tokenizer, tmp_path):
    folder = tmp_path / "model"
    save("jvlm", folder, tokenizer)
    config = read_json(folder / "config.json")
    config["language"]["intermediate_size"] += 1
    write_json(folder / "config.json", config)
    rehash(folder)
    with pytest.raises(DataError, match=r"has shape \(48, 32\) instead of \(49, 32\)"):
        load_directory(folder)
    config["vision"]["colour"] = "red"
    write_json(folder / "config.json", config)
    rehash(folder)
    with pytest.raises(DataError, match="cannot be loaded"):
        load_directory(folder)


def test_weights_missing_or_unknown_are_named(tokenizer):
    model = make_language(tokenizer)
    tensors, before = weights(model), weights(model)
    norm = tensors.pop("model.norm.weight")
    with pytest.raises(DataError, match=r"missing \['model.norm.weight'\]"):
        load_named_tensors(model, tensors, "here")
    with pytest.raises(DataError, match=r"unknown \['norm'\]"):
        load_named_tensors(model, tensors | {"model.norm.weight": norm, "norm": norm}, "here")
    assert all(torch.equal(before[name], now) for name, now in weights(model).items())


def test_tied_embeddings_are_stored_once_and_stay_tied(tokenizer, tmp_path):
    save("llama", tmp_path / "model", tokenizer)
    model = load_directory(tmp_path / "model").model
    assert "lm_head.weight" not in TensorFolder(tmp_path / "model", "model")
    assert model.lm_head.weight is model.get_input_embeddings().weight
