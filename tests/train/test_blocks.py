"""Compiled and recomputed blocks: the same numbers, one program for every batch, and a failure that is said aloud."""

import pytest
import torch
from tiny import SEED, make_language, make_model, weights
from torch._dynamo.exc import BackendCompilerFailed
from torch._dynamo.utils import counters

from jvlm.errors import UsageError
from jvlm.files import read_json_lines
from jvlm.train.blocks import prepared_blocks
from jvlm.train.config import EngineConfig, LoopConfig, OptimizerConfig, PackingConfig
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import NextToken
from jvlm.train.source import ImageSamples, PackedRows, TokenDocuments


@pytest.fixture
def objective(tokenizer, processor, text_shards, instruct_shards):
    def make(kind="text"):
        if kind == "text":
            model, data, length = make_language(tokenizer), TokenDocuments(text_shards, processor), 64
        else:
            data, length = ImageSamples(instruct_shards, processor), 400
            model = make_model(tokenizer)
        return NextToken(model, PackedRows(data, length, SEED, processor.pad), PackingConfig(row_length=length, rows=4))

    return make


def loss_and_gradients(one, step):
    one.model.zero_grad()
    (batch,) = one.micro_batches(step)
    loss = one.loss_sum(batch) / batch.weight
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in one.model.named_parameters() if p.grad is not None}, batch


@pytest.mark.parametrize("kind", ["text", "images"])
def test_recomputed_blocks_give_the_same_bits_and_run_twice(objective, kind):
    one = objective(kind)
    one.model.train()
    before = [loss_and_gradients(one, step)[:2] for step in range(3)]
    language = one.model.language if kind == "images" else one.model
    calls = []
    language.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    with prepared_blocks(one.model, EngineConfig(recompute=True)):
        for step, (loss, gradients) in enumerate(before):
            again, same, _ = loss_and_gradients(one, step)
            assert again == loss
            assert all(torch.equal(same[name], gradients[name]) for name in gradients)
    assert len(calls) == 6
    assert "forward" not in vars(language.model.layers[0])


@pytest.mark.slow
def test_compiled_blocks_give_the_same_numbers_and_are_built_once(objective):
    one = objective()
    one.model.train()
    before = [loss_and_gradients(one, step) for step in range(5)]
    assert len({len(batch.doc_lens) for _, _, batch in before}) > 1
    counters.clear()
    with prepared_blocks(one.model, EngineConfig(compile=True)):
        programs = set()
        for step, (loss, gradients, _) in enumerate(before):
            again, found, _ = loss_and_gradients(one, step)
            assert again == pytest.approx(loss, rel=1e-5)
            for name, gradient in gradients.items():
                torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-3)
            programs.add(counters["stats"]["unique_graphs"])
    assert len(programs) == 1  # all in the first step
    assert 0 < programs.pop() <= 2 * 4  # of two blocks, and attention between their halves


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True], ids=["", "recomputed"])
def test_a_compiled_run_that_was_cut_goes_on_bit_for_bit(objective, tmp_path, recompute):
    config = LoopConfig(steps=6, checkpoint_every=2, engine=EngineConfig(compile=True, recompute=recompute))
    whole = objective()
    train(whole, config, tmp_path / "whole", print, lambda _: None)
    cut = objective()
    compute, calls = cut.loss_sum, []

    def until_cut(batch):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return compute(batch)

    cut.loss_sum = until_cut
    with pytest.raises(KeyboardInterrupt):
        train(cut, config, tmp_path / "cut", print, lambda _: None)
    again, said = objective(), []
    train(again, config, tmp_path / "cut", said.append, lambda _: None)
    assert "continuing from step 2" in said
    assert all(torch.equal(value, weights(again.model)[name]) for name, value in weights(whole.model).items())


def test_a_failing_compiler_is_said_aloud_and_training_goes_on(objective, tmp_path, monkeypatch):
    def broken(forward, dynamic):
        def call(*_, **__):
            raise BackendCompilerFailed(broken, RuntimeError("no C++ compiler"), None)

        return call

    monkeypatch.setattr(torch, "compile", broken)
    one, plain, said = objective(), objective(), []
    train(one, LoopConfig(steps=2, engine=EngineConfig(compile=True)), tmp_path / "a", said.append, lambda _: None)
    assert any(line.startswith("NOT COMPILED") and "no C++ compiler" in line for line in said)
    train(plain, LoopConfig(steps=2), tmp_path / "b", said.append, lambda _: None)
    assert all(torch.equal(value, weights(one.model)[name]) for name, value in weights(plain.model).items())


def test_what_cannot_be_compiled_is_refused():
    with (
        pytest.raises(UsageError, match="no decoder blocks"),
        prepared_blocks(torch.nn.Linear(2, 2), EngineConfig(recompute=True)),
    ):
        pass


def test_blocks_of_zero_3_are_not_compiled(tokenizer):
    with (
        pytest.raises(UsageError, match="ZeRO 3"),
        prepared_blocks(make_language(tokenizer), EngineConfig(compile=True, zero=3)),
    ):
        pass


# --- branches and scores ----------------------------------------------------------------------------------------


def test_a_branch_begins_with_weights_optimizer_and_step_of_another_run(objective, tmp_path):
    """A decay tried on a stable stretch is what a run with that decay would have been."""

    def config(steps, decay, **more):
        optimizer = OptimizerConfig(warmup=2, decay=decay)
        return LoopConfig(steps=steps, checkpoint_every=2, keep=9, log_every=1, optimizer=optimizer, **more)

    stable = objective()
    train(stable, config(20, 0.1), tmp_path / "stable", print, lambda _: None)  # decays from step 18
    straight = objective()
    train(straight, config(8, 0.5), tmp_path / "straight", print, lambda _: None)  # decays from step 4
    branch = objective()
    start = tmp_path / "stable" / "checkpoints" / "step-00000004"
    train(branch, config(8, 0.5, branch_from=start), tmp_path / "branch", print, lambda _: None)
    assert all(torch.equal(value, weights(branch.model)[name]) for name, value in weights(straight.model).items())
    assert [r["step"] for r in read_json_lines(tmp_path / "branch" / "metrics.jsonl")] == [5, 6, 7, 8]
    late = tmp_path / "stable" / "checkpoints" / "step-00000008"
    with pytest.raises(UsageError, match="the branch begins at step 8"):
        train(objective(), config(8, 0.5, branch_from=late), tmp_path / "late", print, lambda _: None)


def test_scores_come_after_each_checkpoint(objective, tmp_path):
    one, seen = objective(), []

    def evaluate():
        assert not one.model.training
        saved = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
        seen.append(saved[-1])
        return {"figure": float(len(seen))}

    train(one, LoopConfig(steps=5, checkpoint_every=2), tmp_path, print, lambda _: None, evaluate)
    assert seen == ["step-00000002", "step-00000004", "step-00000005"]
    assert read_json_lines(tmp_path / "scores.jsonl") == [
        {"step": 2, "figure": 1.0},
        {"step": 4, "figure": 2.0},
        {"step": 5, "figure": 3.0},
    ]
