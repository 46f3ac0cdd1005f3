"""The loop: the same numbers however a batch is split and however often the run is killed."""

import math

import pytest
import torch
from tiny import LANGUAGE, SEED, make_language, make_model, weights

from jvlm.errors import DataError, JvlmError
from jvlm.files import read_json_lines
from jvlm.model.tensors import TensorFolder
from jvlm.train.config import LoopConfig, OptimizerConfig, PackingConfig
from jvlm.train.engine import TorchEngine
from jvlm.train.loop import train
from jvlm.train.muon import Muon
from jvlm.train.objectives.next_token import NextToken, train_only
from jvlm.train.source import ImageSamples, PackedRows, TokenDocuments
from jvlm.train.world import ONE_PROCESS


class Killed(BaseException):
    """Stands for a kill: nothing in the loop may catch it."""


def quiet(_):
    """Progress is not looked at."""


def no_files(_):
    """The model directories of these runs are not read."""


def config(**changes):
    optimizer = OptimizerConfig(learning_rate=1e-2, warmup=2, **changes.pop("optimizer", {}))
    return LoopConfig(**{"steps": 6, "checkpoint_every": 2, "log_every": 1, "optimizer": optimizer} | changes)


@pytest.fixture
def objective(tokenizer, processor, text_shards, instruct_shards):
    """Makes a fresh objective: a language model on documents, or a jvlm model on conversations."""

    def make(kind="text", seed=SEED, rows=4, accumulation=1, row_length=64, parts=None, rate_scale=None):
        if kind == "text":
            model, data = make_language(tokenizer), TokenDocuments(text_shards, processor)
        else:
            model, row_length = make_model(tokenizer), 400
            data = ImageSamples(instruct_shards, processor)
            if parts:
                train_only(model, parts)
        packing = PackingConfig(row_length=row_length, rows=rows, accumulation=accumulation)
        return NextToken(model, PackedRows(data, row_length, seed, processor.pad), packing, rate_scale)

    return make


def same(ours, theirs):
    return [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


# --- the global batch -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "images"])
def test_accumulation_changes_nothing(objective, tmp_path, kind):
    results = []
    for accumulation in (1, 2, 4, 8):
        one = objective(kind, rows=8, accumulation=accumulation)
        assert len(one.micro_batches(0)) == accumulation
        # a large epsilon: Adam's first steps otherwise blow rounding of near-zero gradients up to full steps
        last = train(one, config(steps=2, optimizer={"eps": 1e-2}), tmp_path / str(accumulation), quiet, no_files)
        results.append((last["loss"], last["grad_norm"], weights(one.model)))
    for loss, norm, parameters in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-6)
        assert norm == pytest.approx(results[0][1], rel=1e-5)
        for name, value in parameters.items():
            torch.testing.assert_close(value, results[0][2][name], atol=1e-6, rtol=0)


def test_micro_batches_of_unequal_weight_count_by_their_tokens(objective, tmp_path):
    """The loss of a step is the mean over the tokens of the whole batch, not the mean of means."""
    one = objective("images", rows=4, accumulation=4)
    batches = one.micro_batches(0)
    assert len({batch.weight for batch in batches}) > 1
    with torch.no_grad():
        expected = sum(float(one.loss_sum(b)) for b in batches) / sum(b.weight for b in batches)
    assert train(one, config(steps=1), tmp_path, quiet, no_files)["loss"] == pytest.approx(expected, rel=1e-6)


# --- kill and continue ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "images"])
@pytest.mark.parametrize("killed_in", [3, 4, 5])
def test_a_killed_run_continues_bit_for_bit(objective, tmp_path, kind, killed_in):
    whole = objective(kind)
    expected = train(whole, config(), tmp_path / "whole", quiet, no_files)

    interrupted = objective(kind)
    compute = interrupted.loss_sum

    def until_killed(batch):
        if len(read_json_lines(tmp_path / "cut" / "metrics.jsonl")) == killed_in:
            raise Killed
        return compute(batch)

    interrupted.loss_sum = until_killed
    with pytest.raises(Killed):
        train(interrupted, config(), tmp_path / "cut", quiet, no_files)

    said = []
    again = objective(kind)
    last = train(again, config(), tmp_path / "cut", said.append, no_files)
    assert f"continuing from step {killed_in // 2 * 2}" in said
    assert last["loss"] == expected["loss"]
    assert same(weights(again.model), weights(whole.model))
    records = [read_json_lines(tmp_path / name / "metrics.jsonl") for name in ("whole", "cut")]
    assert [[r["step"] for r in rows] for rows in records] == [[1, 2, 3, 4, 5, 6]] * 2
    for key in ("loss", "grad_norm", "lr", "tokens"):
        assert [r[key] for r in records[0]] == [r[key] for r in records[1]]


def test_killed_while_it_says_something_also_continues(objective, tmp_path):
    whole = objective()
    train(whole, config(log_every=3), tmp_path / "whole", quiet, no_files)

    def say(text):
        if text.startswith("step 3/"):
            raise Killed

    with pytest.raises(Killed):
        train(objective(), config(log_every=3), tmp_path / "cut", say, no_files)
    again = objective()
    train(again, config(log_every=3), tmp_path / "cut", quiet, no_files)
    assert same(weights(again.model), weights(whole.model))
    assert [r["step"] for r in read_json_lines(tmp_path / "cut" / "metrics.jsonl")] == [3, 6]


@pytest.mark.parametrize("kind", ["text", "images"])
def test_batches_prepared_in_threads_change_nothing(objective, tmp_path, kind):
    def trained(workers):
        one = objective(kind)
        train(one, config(workers=workers), tmp_path / str(workers), quiet, no_files)
        return weights(one.model)

    assert same(trained(0), trained(3))


def test_a_finished_run_is_not_run_again(objective, tmp_path):
    first, second = objective(), objective()
    expected = train(first, config(), tmp_path, quiet, no_files)
    second.loss_sum = None
    assert train(second, config(), tmp_path, quiet, no_files) == expected
    assert same(weights(first.model), TensorFolder(tmp_path / "model", "model"))


def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_ends_the_same(objective, tmp_path):
    first, second = objective(), objective()
    train(first, config(), tmp_path, quiet, no_files)
    file = tmp_path / "checkpoints" / "step-00000006" / "optimizer.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    said = []
    train(second, config(), tmp_path, said.append, no_files)
    assert any("step-00000006 is damaged" in line for line in said)
    assert "continuing from step 4" in said
    assert same(weights(first.model), weights(second.model))
    assert [r["step"] for r in read_json_lines(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("changed", "settings"),
    [
        ({}, {"optimizer": {"eps": 1e-7}}),
        ({}, {"optimizer": {"betas": (0.9, 0.99)}}),
        ({}, {"steps": 8}),
        ({"seed": SEED + 1}, {}),
        ({"rows": 2}, {}),
        ({"row_length": 32}, {}),
        ({"kind": "images"}, {}),
        ({"rate_scale": {"model.": 0.5}}, {}),
    ],
    ids=str,
)
def test_a_checkpoint_of_another_run_is_refused(objective, tmp_path, changed, settings):
    train(objective(), config(), tmp_path, quiet, no_files)
    with pytest.raises(DataError, match="belongs to another"):
        train(objective(**changed), config(**settings), tmp_path, quiet, no_files)


def test_a_checkpoint_of_other_trained_parts_is_refused(objective, tmp_path):
    train(objective("images", parts=["projector"]), config(), tmp_path, quiet, no_files)
    with pytest.raises(DataError):
        train(objective("images", parts=["projector", "language"]), config(), tmp_path, quiet, no_files)


def test_how_often_it_is_logged_saved_and_split_may_change(objective, tmp_path):
    first, second = objective(), objective(accumulation=2)
    train(first, config(), tmp_path, quiet, no_files)
    said = []
    train(second, config(checkpoint_every=5, log_every=3, keep=1), tmp_path, said.append, no_files)
    assert "continuing from step 6" in said


# --- numbers that are none --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["times nan", "times inf", "plus nan"])
def test_a_loss_that_is_not_finite_stops_the_run_and_changes_no_weight(objective, tmp_path, how):
    """`plus nan`: the gradient is finite although the loss is not."""
    one = objective("images")
    compute, before = one.loss_sum, {}
    bad = one.micro_batches(3)[0]

    def poisoned(batch):
        if batch.sample_ids != bad.sample_ids:
            return compute(batch)
        before.update(weights(one.model))
        loss = compute(batch)
        return loss + math.nan if how == "plus nan" else loss * float(how.split()[1])

    one.loss_sum = poisoned
    with pytest.raises(JvlmError, match="not finite at step 4") as caught:
        train(one, config(), tmp_path, quiet, no_files)
    assert str(tmp_path / "not_finite.jsonl") in str(caught.value)
    (record,) = read_json_lines(tmp_path / "not_finite.jsonl")
    assert record["step"] == 4
    assert record["ids"] == bad.sample_ids
    assert [r["step"] for r in read_json_lines(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000002"]
    assert same(before, weights(one.model))


def test_the_last_step_may_be_left_out(objective, tmp_path):
    one = objective()
    compute, calls = one.loss_sum, []

    def poisoned(batch):
        calls.append(batch)
        return compute(batch) * (math.nan if len(calls) == 7 else 1.0)  # the first call is the dry step

    one.loss_sum = poisoned
    train(one, config(go_back=1), tmp_path, quiet, no_files)
    before = TensorFolder(tmp_path / "checkpoints" / "step-00000004", "model")
    assert same(TensorFolder(tmp_path / "model", "model"), before)


def test_a_step_without_any_target_changes_nothing_and_the_run_goes_on(objective, tmp_path):
    """Every sample of a batch may fail to decode; all its labels are masked then."""
    one = objective("images", rows=1)
    build = one.micro_batches

    def masked(step, world):
        batches = build(step, world)
        if step == 1:
            batches[0].labels.fill_(-100)
        return batches

    one.micro_batches = masked
    last = train(one, config(steps=3), tmp_path, quiet, no_files)
    assert last["step"] == 3
    assert math.isfinite(last["loss"])


# --- the optimizer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("muon", [True, False])
def test_the_optimizers_are_what_the_config_says(tokenizer, muon):
    model = make_model(tokenizer)
    settings = OptimizerConfig(learning_rate=3e-3, muon=muon, betas=(0.8, 0.9), eps=1e-5, weight_decay=0.3)
    engine = TorchEngine(model, LoopConfig(optimizer=settings), {"tower.": 0.1}, ONE_PROCESS)
    assert [type(optimizer) for optimizer in engine.optimizers] == [torch.optim.AdamW, Muon][: 1 + muon]
    names = {parameter: name for name, parameter in model.named_parameters()}
    seen = {}
    for optimizer in engine.optimizers:
        for group in optimizer.param_groups:
            if isinstance(optimizer, torch.optim.AdamW):
                assert (group["betas"], group["eps"], group["amsgrad"]) == ((0.8, 0.9), 1e-5, False)
            assert group["lr"] == 3e-3
            for parameter in group["params"]:
                seen[names[parameter]] = (group["weight_decay"], group["scale"], type(optimizer))
    assert seen.keys() == dict(model.named_parameters()).keys()
    for name, (decay, scale, optimizer) in seen.items():
        vectors = ("bias", "projector.mean", "projector.gain", "projector.size")
        kept = any(part in name for part in ("norm", ".ln_", "embed", "markers")) or name.endswith(vectors)
        assert decay == (0.0 if kept else 0.3), name
        assert scale == (0.1 if name.startswith("tower.") else 1.0), name
        block = ".layers." in name and name.endswith("_proj.weight")
        matrix = block or name in ("projector.hidden.weight", "projector.output.weight")
        assert (optimizer is Muon) == (muon and matrix), name
    assert seen["language.model.embed_tokens.weight"][0] == 0.0
    assert seen["language.model.norm.weight"][0] == 0.0
    assert seen["tower.visual.positional_embedding"][0] == 0.0
    assert seen["language.model.layers.0.mlp.up_proj.weight"][0] == 0.3
    assert seen["tower.visual.conv1.weight"][0] == 0.3


def test_a_language_model_alone_has_the_same_muon_matrices(tokenizer):
    engine = TorchEngine(make_model(tokenizer).language, LoopConfig(), {}, ONE_PROCESS)
    assert isinstance(engine.optimizers[1], Muon)
    assert len(engine.optimizers[1].param_groups[0]["params"]) == 7 * LANGUAGE.num_layers


def test_a_step_equals_adamw_written_out(tokenizer):
    """Two steps with clipping, decay and a schedule factor against the formula of Loshchilov & Hutter 2019."""
    model = torch.nn.Linear(3, 2)
    settings = OptimizerConfig(learning_rate=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.2, clip=0.5)
    engine = TorchEngine(model, LoopConfig(optimizer=settings), {"bias": 0.25}, ONE_PROCESS)
    state = {name: [p.detach().double(), 0.0, 0.0] for name, p in model.named_parameters()}
    for step, factor in ((1, 1.0), (2, 0.4)):
        inputs = torch.randn(5, 3, generator=torch.manual_seed(step))
        engine.backward(model(inputs).square().sum(), last=True)
        gradients = {name: p.grad.double() for name, p in model.named_parameters()}
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients.values()))
        assert engine.step(factor) == pytest.approx(norm, rel=1e-5)
        assert norm > settings.clip
        for name, values in state.items():
            gradient = gradients[name] * settings.clip / norm
            rate = 0.1 * factor * (0.25 if name == "bias" else 1.0)
            decay = 0.2 if name == "weight" else 0.0
            values[1] = 0.8 * values[1] + 0.2 * gradient
            values[2] = 0.9 * values[2] + 0.1 * gradient**2
            root = (values[2] / (1 - 0.9**step)).sqrt() + 1e-3
            values[0] = values[0] * (1 - rate * decay) - rate * values[1] / (1 - 0.8**step) / root
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.detach().double(), state[name][0], atol=1e-5, rtol=1e-5)


def test_the_rate_follows_the_schedule(objective, tmp_path):
    train(objective(), config(optimizer={"schedule": "cosine", "final": 0.1}), tmp_path, quiet, no_files)
    rates = [record["lr"] for record in read_json_lines(tmp_path / "metrics.jsonl")]
    cosine = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4)]
    assert rates == pytest.approx([1e-2 * factor for factor in [0.5, 1.0, *cosine]])
