"""Adapters: what they are put beside, that they learn and nothing else, that they merge exactly, on the right base."""

import json
import shutil

import pytest
import torch
from tiny import LANGUAGE, PROJECTOR, VISION, ask, make_language, make_model, samples, weights
from typer.testing import CliRunner

import jvlm
from jvlm.cli import app
from jvlm.commands.eval import load_to_ask
from jvlm.errors import DataError, UsageError
from jvlm.files import new_folder, read_json, sha256_file
from jvlm.images.load import load_image
from jvlm.model.adapter import Adapted, Base, adapt, merge, probe_logits, stored_names, write_adapter_files
from jvlm.model.config import LoraConfig, TilesConfig
from jvlm.model.directory import WEIGHTS, load_directory, load_processor, save_model
from jvlm.model.export import export
from jvlm.model.lora import add_lora, is_adapter, merge_lora
from jvlm.model.packed import Example, pack
from jvlm.model.processor import Processor
from jvlm.model.tensors import plan_files, write_tensors
from jvlm.train.objectives.next_token import packed_hidden, train_only

BOTH = LoraConfig(rank=4, alpha=12, targets="both")


def move_adapters(model, seed=5, size=0.2):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_adapter(name):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
    return model.eval()


def pixels(count=2):
    return torch.randint(256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def packable(processor, sample):
    encoded = processor.encode_sample(sample)
    shown = zip(encoded.images, encoded.grids, strict=True)
    views = [processor.pixels(load_image(sample.images[i]), grid) for i, grid in shown]
    return Example(sample.id, *encoded.shifted(sample.id), views)


def write_adapter(folder, adapted: Adapted, config):
    """As a stage leaves it."""
    model, processor = adapted.loaded.model, adapted.loaded.processor
    stored = stored_names(model, adapted.stored)
    with new_folder(folder) as new:
        write_adapter_files(adapted.base, config, processor, new)
        kept = {name: p for name, p in model.named_parameters() if name in stored}
        write_tensors(new, WEIGHTS, kept.items(), plan_files(WEIGHTS, {n: p.shape for n, p in kept.items()}))


@pytest.fixture
def base(tmp_path, tokenizer):
    save_model(tmp_path / "base", make_model(tokenizer), Processor(tokenizer, VISION, PROJECTOR))
    return tmp_path / "base"


@pytest.fixture
def adapter(tmp_path, base):
    """An adapter directory with moved weights, a projector that learned whole, and the model that it is of."""
    adapted = adapt(base, BOTH, 3)
    train_only(adapted.loaded.model, ["tower", "projector", "language"])
    move_adapters(adapted.loaded.model, size=0.05)
    with torch.no_grad():
        adapted.loaded.model.projector.output.bias.add_(0.3)
    write_adapter(tmp_path / "adapter", adapted, BOTH)
    return tmp_path / "adapter", adapted.loaded.model


# --- in a model -------------------------------------------------------------------------------------------------


def test_adapters_stand_at_every_matrix_of_the_blocks_and_nowhere_else(tokenizer):
    found = add_lora(make_model(tokenizer), BOTH, 0)
    per_block = {f"self_attn.{m}_proj" for m in "qkvo"} | {f"mlp.{m}_proj" for m in ("gate", "up", "down")}
    language = {f"language.model.layers.{i}.{m}" for i in range(LANGUAGE.num_layers) for m in per_block}
    block = "tower.visual.transformer.resblocks"
    tower = {f"{block}.{i}.{m}" for i in range(VISION.layers) for m in ("attn", "mlp.c_fc", "mlp.c_proj")}
    assert set(found) == language | tower
    lower = make_model(tokenizer)
    lower.tower.config = VISION.changed(feature_layers=[0])
    assert not [name for name in add_lora(lower, BOTH, 0) if f"{block}.1." in name]
    named = add_lora(make_model(tokenizer), LoraConfig(targets=["q_proj", "resblocks.1.attn"]), 0)
    assert {name.rsplit(".", 1)[-1] for name in named} == {"q_proj", "attn"}
    assert len(named) == LANGUAGE.num_layers + 1
    with pytest.raises(UsageError, match=r"no layer is named 'qproj'.*known: .*q_proj"):
        add_lora(make_model(tokenizer), LoraConfig(targets=["q_proj", "qproj"]), 0)
    with pytest.raises(UsageError, match="tower has no layer"):
        add_lora(make_language(tokenizer), LoraConfig(targets="both"), 0)


def test_a_new_adapter_changes_nothing_and_a_moved_one_changes_every_part(tokenizer, processor):
    model = make_model(tokenizer)
    before, features = probe_logits(model, processor), model.tower(pixels()).detach()
    add_lora(model, BOTH, 0)
    torch.testing.assert_close(probe_logits(model, processor), before, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.eval().tower(pixels()), features, atol=1e-6, rtol=1e-5)
    move_adapters(model)
    assert float((model.tower(pixels()) - features).abs().max()) > 0.1
    assert float((probe_logits(model, processor) - before).abs().max()) > 0.1


@pytest.mark.parametrize("targets", ["language", "tower", "both"])
def test_the_gradient_reaches_every_adapter_and_nothing_frozen(tokenizer, processor, targets):
    model = make_model(tokenizer).train()
    add_lora(model, LoraConfig(rank=4, targets=targets), 0)
    move_adapters(model).train()
    parts = {"both": ["tower", "language"]}.get(targets, [targets])
    train_only(model, [*parts, "projector"])
    batch = pack([[packable(processor, samples("captions_train", 1)[0])]], 300, processor.pad)
    before = weights(model)
    packed_hidden(model, batch).square().sum().backward()
    for name, parameter in model.named_parameters():
        learns = is_adapter(name) or name.startswith("projector.")
        assert parameter.requires_grad == (learns or name.startswith("markers.")), name
        if learns:
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().max()) > 0, name
    # the tower's weights are not moved by being looked at, as they are by peft's own layer of this attention
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    again = packed_hidden(model, batch)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_adapter(name) and parts[0] in name:
                parameter.sub_(0.05 * parameter.grad.sign())
    assert float((packed_hidden(model, batch) - again).abs().max()) > 1e-3


def test_the_adapted_attention_is_torchs_own_on_weights_that_hold_the_update(tokenizer):
    model, plain = make_model(tokenizer), make_model(tokenizer)
    add_lora(model, LoraConfig(rank=3, alpha=6, targets=["attn"]), 0)
    move_adapters(model)
    for i, block in enumerate(model.tower.visual.transformer.resblocks):
        inner, target = block.attn, plain.tower.visual.transformer.resblocks[i].attn
        with torch.no_grad():
            target.in_proj_weight.add_(2.0 * inner.lora_B.default.weight @ inner.lora_A.default.weight)
            out = inner.base_layer.out_proj
            target.out_proj.weight.add_(2.0 * out.lora_B.default.weight @ out.lora_A.default.weight)
    with torch.no_grad():
        torch.testing.assert_close(model.tower(pixels()), plain.tower(pixels()), atol=1e-5, rtol=1e-5)


def test_packed_documents_with_adapters_do_not_see_each_other(tokenizer, processor):
    model = make_model(tokenizer)
    add_lora(model, BOTH, 0)
    move_adapters(model, size=0.05)
    texts = [ask(f"d{n}", "何ですか。", [n], "丸です。" * (n + 1)) for n in range(3)]
    examples = [packable(processor, sample) for sample in texts]
    with torch.no_grad():
        together = packed_hidden(model, pack([examples], 300, processor.pad))[0]
        begin = 0
        for example in examples:
            alone = packed_hidden(model, pack([[example]], len(example.inputs), processor.pad))[0]
            torch.testing.assert_close(together[begin : begin + len(alone)], alone, atol=2e-5, rtol=1e-4)
            begin += len(alone)


def test_dropout_is_of_training_alone(tokenizer, processor):
    model = make_model(tokenizer)
    add_lora(model, LoraConfig(rank=4, dropout=0.5, targets="both"), 0)
    move_adapters(model)
    assert torch.equal(probe_logits(model, processor), probe_logits(model, processor))
    model.train()
    assert not torch.equal(model.tower(pixels()), model.tower(pixels()))


# --- as a directory ---------------------------------------------------------------------------------------------


def test_a_directory_is_loaded_onto_its_base_and_answers_as_the_adapted_model(adapter, base):
    folder, model = adapter
    loaded = load_directory(folder)
    assert loaded.kind == "jvlm"
    assert not [name for name in weights(loaded.model) if is_adapter(name)]
    processor = loaded.processor
    expected, found = probe_logits(model, processor), probe_logits(loaded.model, processor)
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    plain = probe_logits(load_directory(base).model, processor)
    assert float((found - plain).abs().max()) > 0.1
    torch.testing.assert_close(loaded.model.tower(pixels()), model.tower(pixels()), atol=1e-5, rtol=1e-5)
    record = read_json(folder / "config.json")
    assert record["base"]["kind"] == "jvlm"
    assert record["base"]["hashes"]["model.safetensors"] == sha256_file(base / "model.safetensors")
    stored = set(json.loads((folder / "hashes.json").read_text()))
    assert stored == {"config.json", "model.safetensors"}
    assert (folder / "model.safetensors").stat().st_size < (base / "model.safetensors").stat().st_size


def test_merged_it_is_a_plain_directory_and_the_base_is_untouched(adapter, base, tmp_path):
    folder, model = adapter
    before = {path.name: sha256_file(path) for path in base.iterdir()}
    done = CliRunner().invoke(app, ["merge", str(folder), "--out", str(tmp_path / "whole"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["max_logit_difference"] <= 1e-5
    assert {path.name: sha256_file(path) for path in base.iterdir()} == before
    shutil.rmtree(base)
    whole = load_directory(tmp_path / "whole")
    assert read_json(tmp_path / "whole" / "config.json")["model_type"] == "jvlm"
    expected = probe_logits(model, whole.processor)
    torch.testing.assert_close(probe_logits(whole.model, whole.processor), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(UsageError, match="exists already"):
        merge(folder, tmp_path / "whole")
    with pytest.raises(UsageError, match="no adapter"):
        merge(tmp_path / "whole", tmp_path / "more")


def test_another_base_is_refused_wherever_it_is_named(adapter, base, tmp_path, monkeypatch, tokenizer):
    folder, _ = adapter
    other = tmp_path / "other"
    model = load_directory(base).model
    with torch.no_grad():
        model.language.model.norm.weight[0] += 1e-6  # the least of differences
    save_model(other, model, Processor(tokenizer, VISION, PROJECTOR))
    refused = r"other: not the base that the adapter in .*adapter was trained on: .*model.safetensors differ"
    with pytest.raises(DataError, match=refused):
        load_directory(folder, other)
    with pytest.raises(DataError, match=refused):
        merge(folder, tmp_path / "whole", other)
    assert not (tmp_path / "whole").exists()
    monkeypatch.setenv("JVLM_BASE", str(other))
    with pytest.raises(DataError, match=refused):
        jvlm.load(folder)
    monkeypatch.delenv("JVLM_BASE")
    base.rename(tmp_path / "moved")
    with pytest.raises(DataError, match=r"base of the adapter in .* is not there .*JVLM_BASE"):
        jvlm.load(folder)
    other.rename(base)  # another one at the very place: a name proves nothing
    with pytest.raises(DataError, match="not the base"):
        jvlm.load(folder)
    monkeypatch.setenv("JVLM_BASE", str(tmp_path / "moved"))
    assert jvlm.load(folder).chat([], "何ですか。", max_new_tokens=2) is not None
    monkeypatch.delenv("JVLM_BASE")
    assert jvlm.load(folder, base=tmp_path / "moved").model is not None
    arguments = [str(folder), "--out", str(tmp_path / "w"), "--base", str(tmp_path / "moved")]
    done = CliRunner().invoke(app, ["merge", *arguments])
    assert done.exit_code == 0, done.output


def test_records_of_two_adapters_never_mix(adapter, base, tmp_path):
    """They may hold the same tensors, which another alpha makes another model of."""
    folder, _ = adapter
    other = BOTH.model_copy(update={"alpha": 2.0})
    with new_folder(tmp_path / "other") as new:
        write_adapter_files(Base.of(base), other, load_directory(base).processor, new)
        shutil.copyfile(folder / "model.safetensors", new / "model.safetensors")
    (one, first), (two, second) = (load_to_ask(path, "plain") for path in (folder, tmp_path / "other"))
    assert first != second
    assert not torch.equal(probe_logits(one.model, one.processor), probe_logits(two.model, two.processor))


def test_a_damaged_adapter_or_base_is_refused(adapter, base):
    folder, _ = adapter
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataError, match="content differs from the hash"):
        load_directory(folder)
    (folder / "model.safetensors").write_bytes(data)
    data = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataError, match="content differs from the hash"):
        load_directory(folder)


def test_tensors_that_do_not_fit_are_named(tokenizer):
    model, config = make_model(tokenizer), LoraConfig(rank=4)
    a, b = torch.ones(4, 32), torch.ones(32, 4)
    layer = "language.model.layers.0.self_attn.q_proj"
    one, two = f"{layer}.lora_A.default.weight", f"{layer}.lora_B.default.weight"
    giant = torch.ones(1).expand(10**7, 4)  # of what two of them make there is no memory
    for tensors, told in (
        ({one: a}, "no place for"),
        ({two: b}, "no place for"),
        ({one.replace("q_proj", "x_proj"): a, two.replace("q_proj", "x_proj"): b}, "no place for"),
        ({one: a[:, 1:], two: b}, r"lora_A.* has shape \(4, 31\) instead of \(4, 32\)"),
        ({one: a[1:], two: b[:, 1:]}, r"lora_A.* has shape \(3, 32\)"),
        ({one: a[0], two: b}, r"lora_A.* has shape \(32,\)"),
        ({one: giant.T, two: giant}, r"lora_A.* has shape"),
        ({one: a, two: giant}, r"lora_B.* has shape"),
        ({"projector.output.bias": a}, r"projector.output.bias has shape"),
    ):
        with pytest.raises(DataError, match=told):
            merge_lora(model, tensors, config, "here")


def test_adapters_are_gone_on_with_by_the_same_settings_alone(adapter, base):
    folder, model = adapter
    on = adapt(folder, BOTH, 9)
    assert on.base.path == base.resolve()
    mine, theirs = weights(on.loaded.model), weights(model)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    train_only(on.loaded.model, ["tower", "language"])  # the projector rests now, and is still kept
    assert stored_names(on.loaded.model, on.stored) >= {n for n in mine if n.startswith("projector.")}
    with pytest.raises(UsageError, match=r"have rank 4, alpha 12, targets both.*jvlm merge"):
        adapt(folder, BOTH.model_copy(update={"rank": 8}), 9)
    with pytest.raises(UsageError, match="an adapter is no base"):
        Base.of(folder)


def test_tiles_of_the_phase_come_back(base, tmp_path):
    adapted = adapt(base, BOTH, 0)
    train_only(adapted.loaded.model, ["tower", "language"])
    tiled = adapted.loaded.processor.with_tiles(TilesConfig(per_image=3))
    with new_folder(tmp_path / "a") as new:
        write_adapter_files(adapted.base, BOTH, tiled, new)
        kept = {n: p for n, p in adapted.loaded.model.named_parameters() if p.requires_grad}
        write_tensors(new, WEIGHTS, kept.items(), plan_files(WEIGHTS, {n: p.shape for n, p in kept.items()}))
    assert load_directory(tmp_path / "a").processor.tiles.per_image == 3
    assert load_processor(tmp_path / "a").tiles.per_image == 3
    assert load_directory(base).processor.tiles.per_image == 0


def test_export_and_a_language_models_adapter(adapter, tmp_path, tokenizer):
    folder, _ = adapter
    assert "LlamaForCausalLM" in export(folder, tmp_path / "hf", "hf")
    exported = load_directory(tmp_path / "hf").model
    expected = load_directory(folder).model.language
    assert all(torch.equal(p, dict(expected.named_parameters())[n]) for n, p in exported.named_parameters())
    save_model(tmp_path / "text", make_language(tokenizer), Processor(tokenizer))
    config = LoraConfig(rank=2)
    adapted = adapt(tmp_path / "text", config, 0)
    train_only(adapted.loaded.model, ["language"])
    move_adapters(adapted.loaded.model, size=0.05)
    write_adapter(tmp_path / "text-adapter", adapted, config)
    assert merge(tmp_path / "text-adapter", tmp_path / "whole") <= 1e-5
    found = probe_logits(load_directory(tmp_path / "whole").model, adapted.loaded.processor)
    expected = probe_logits(adapted.loaded.model, adapted.loaded.processor)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    done = CliRunner().invoke(app, ["eval", str(tmp_path / "text-adapter"), "--tasks", "jnli"])
    assert isinstance(done.exception, UsageError)
    assert "jvlm merge" in str(done.exception)


# --- rounded bases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "least", "most"), [("int8", 1e-5, 0.05), ("int4", 1e-3, 0.5)])
def test_beside_rounded_weights_adapters_learn_what_they_learn_beside_whole_ones(
    tokenizer, processor, kind, least, most
):
    pytest.importorskip("torchao", reason="the extra quant is not installed")
    gradients, hidden = [], []
    batch = pack([[packable(processor, samples("captions_train", 1)[0])]], 300, processor.pad)
    for base_weights in ("float32", kind):
        model = make_model(tokenizer)
        add_lora(model, LoraConfig(rank=4, base_weights=base_weights), 0)
        move_adapters(model, size=0.05).train()
        train_only(model, ["projector", "language"])
        states = packed_hidden(model, batch)
        states.square().sum().backward()
        hidden.append(states.detach())
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    off = float((hidden[1] - hidden[0]).norm() / hidden[0].norm())
    assert least < off < most
    assert gradients[0].keys() == gradients[1].keys()
    # down to the projector, through every rounded layer
    for name, one in gradients[0].items():
        if float(one.norm()) > 1e-3:
            likeness = torch.nn.functional.cosine_similarity(one.flatten(), gradients[1][name].flatten(), dim=0)
            assert float(likeness) > 0.5, name
