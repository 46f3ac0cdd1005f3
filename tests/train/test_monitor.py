"""What is watched: loss by source, tokens seen, the share of the ceiling, and where the figures go."""

import sys
import time
from types import ModuleType

import pytest
import torch
from tiny import SEED, corpus_texts, make_language, make_model

from jvlm.errors import DataError, UsageError
from jvlm.files import append_json_line, read_json_lines
from jvlm.model.loss import token_log_probabilities
from jvlm.text.raw import Document
from jvlm.text.shards import TokenShards, write_token_shards
from jvlm.train import ceiling, monitor
from jvlm.train.config import LoopConfig, OptimizerConfig, PackingConfig
from jvlm.train.loop import train
from jvlm.train.monitor import LossBySource, Metrics
from jvlm.train.objectives.next_token import NextToken, packed_hidden
from jvlm.train.source import ImageSamples, PackedRows, TokenDocuments


def quiet(_):
    """Progress is not looked at."""


@pytest.fixture(scope="module")
def two_sources(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources") / "tokens"
    names = ("wiki", "web")
    documents = [Document(f"d{i}", text, names[i % 2]) for i, text in enumerate(corpus_texts(8))]
    write_token_shards(documents, tokenizer, folder)
    return TokenShards(folder)


@pytest.fixture
def objective(tokenizer, processor, two_sources):
    def make(accumulation=1):
        rows = PackedRows(TokenDocuments(two_sources, processor), 350, SEED, processor.pad)
        packing = PackingConfig(row_length=350, rows=2, accumulation=accumulation)
        return NextToken(make_language(tokenizer), rows, packing)

    return make


def config(**changes):
    optimizer = OptimizerConfig(learning_rate=1e-2, warmup=1)
    return LoopConfig(**{"steps": 4, "checkpoint_every": 2, "log_every": 1, "optimizer": optimizer} | changes)


# --- loss by source ---------------------------------------------------------------------------------------------


def by_hand(one, step):
    """Mean loss of each source's tokens at the weights as they are, token by token."""
    sums = {}
    for batch in one.micro_batches(step):
        with torch.no_grad():
            hidden = packed_hidden(one.model, batch).flatten(0, 1)
            losses = -token_log_probabilities(hidden, batch.labels.flatten(), one.model.lm_head)
        at = 0
        for length, identity in zip(batch.doc_lens, batch.sample_ids, strict=False):  # padding comes last, or never
            source = ("wiki", "web")[int(identity.removeprefix("document-")) % 2]
            total, count = sums.get(source, (0.0, 0))
            sums[source] = (total + float(losses[at : at + length].double().sum()), count + length)
            at += length
    return {source: total / count for source, (total, count) in sums.items()}


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_loss_of_each_source_is_the_mean_over_its_tokens(objective, tmp_path, accumulation):
    one = objective(accumulation)
    expected = by_hand(one, 0)
    last = train(one, config(steps=1), tmp_path, quiet, quiet)
    assert last["loss_by_source"] == pytest.approx(expected, rel=1e-5)
    assert abs(expected["wiki"] - expected["web"]) > 2e-4


def test_an_interval_adds_its_steps_up_and_tokens_are_counted_from_the_start(objective, tmp_path):
    train(objective(), config(), tmp_path / "each", quiet, quiet)
    train(objective(), config(log_every=4), tmp_path / "all", quiet, quiet)
    each = read_json_lines(tmp_path / "each" / "metrics.jsonl")
    (whole,) = read_json_lines(tmp_path / "all" / "metrics.jsonl")
    assert [record["tokens_seen"] for record in each] == [sum(r["tokens"] for r in each[: i + 1]) for i in range(4)]
    assert whole["tokens_seen"] == whole["tokens"] == each[-1]["tokens_seen"]
    low, high = ({s: f(r["loss_by_source"][s] for r in each) for s in ("wiki", "web")} for f in (min, max))
    assert all(low[s] < whole["loss_by_source"][s] < high[s] for s in low)


def test_losses_are_told_apart_by_pair_and_padding_has_no_source():
    one = LossBySource()
    one.add(["b", "a", "b", ""], torch.tensor([0, 1, 1, 2]), torch.tensor([1.0, 2.0, 4.0, 8.0]))
    one.add(["a"], torch.tensor([0]), torch.tensor([16.0]))
    assert one.take() == [("a", 6.0, 2), ("b", 9.0, 2), ("a", 16.0, 1)]
    assert one.take() == []


def test_a_picture_s_source_is_its_own_or_the_name_of_its_shards(processor, caption_shards):
    samples = ImageSamples(caption_shards, processor)
    record = caption_shards.record(0)["meta"]
    assert samples.example(0).source == record.get("source", "captions")
    assert samples.example(0).source


# --- going on ---------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for a kill."""


def test_an_interval_that_a_kill_cuts_is_whole_all_the_same(objective, tmp_path):
    settings = config(steps=6, log_every=3)
    train(objective(), settings, tmp_path / "whole", quiet, quiet)
    interrupted, calls = objective(), []

    def until_killed(batch, compute=interrupted.loss_sum):
        calls.append(1)
        if len(calls) == 6:  # the first is the dry step: killed in the fifth, after a save in the midst of an interval
            raise Killed
        return compute(batch)

    interrupted.loss_sum = until_killed
    with pytest.raises(Killed):
        train(interrupted, settings, tmp_path / "cut", quiet, quiet)
    train(objective(), settings, tmp_path / "cut", quiet, quiet)
    whole, cut = (read_json_lines(tmp_path / name / "metrics.jsonl") for name in ("whole", "cut"))
    for key in ("step", "loss", "grad_norm", "tokens", "tokens_seen", "loss_by_source"):
        assert [r[key] for r in whole] == [r[key] for r in cut], key


def test_a_leap_of_the_loss_is_seen_after_a_restart_too():
    said = []
    first = Metrics(None, 0, 1000, "tokens", said.append)
    for step in range(140):
        first.begin()
        first.step_done(step, 2000, 1.0 + step % 2 / 10, 0.0, 0.0, 1.0)
    second = Metrics(None, 140, 1000, "tokens", said.append)
    second.restore(first.state())
    second.begin()
    second.step_done(141, 2000, 3.0, 0.0, 0.0, 1.0)
    assert said[-1] == "the loss leaps at step 141: 3.0000, of late 1.0500"


# --- speed ------------------------------------------------------------------------------------------------------


def test_the_share_of_the_ceiling_is_what_was_done_over_what_could_be(objective, tmp_path, monkeypatch):
    monkeypatch.setattr("jvlm.train.loop.ceiling", lambda device, precision: 5e9)
    one = objective(accumulation=2)
    last = train(one, config(steps=1), tmp_path, quiet, quiet)
    done = sum(one.flops(batch) for batch in one.micro_batches(0))
    assert last["flops_per_s"] == pytest.approx(done / last["seconds"], rel=1e-6)
    assert last["mfu"] == pytest.approx(last["flops_per_s"] / 5e9, rel=1e-6)
    assert last["peak_gib"] > 0.01


def test_the_measured_ceiling_is_not_below_a_product_timed_here():
    best = ceiling.ceiling(torch.device("cpu"), "float32")
    left, right = torch.rand(512, 512), torch.rand(512, 512)
    seconds = []
    for _ in range(30):  # other work may have the processor for some of them
        begun = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - begun)
    assert 0.2 * best < 2 * 512**3 / min(seconds) < 5 * best


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA L4", 121),
        ("NVIDIA A10G", 70),
        ("NVIDIA L40S", 362),
    ],
)
def test_datasheets(name, tera):
    assert ceiling.datasheet(name) == tera * 1e12


def test_an_unknown_gpu_has_no_ceiling():
    assert ceiling.datasheet("Tesla K80") is None


# --- where the figures go ---------------------------------------------------------------------------------------


def test_what_is_not_installed_is_named(objective, tmp_path, monkeypatch):
    for name, package in (("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UsageError, match=f"{name} is not installed .*pip install {name}"):
            train(objective(), config(log_to=[name]), tmp_path / name, quiet, quiet)


def test_tensorboard_and_wandb_get_every_line(objective, tmp_path, monkeypatch):
    """Stand-ins with the calls of `SummaryWriter` and of wandb."""
    calls = []

    class SummaryWriter:
        def __init__(self, log_dir, purge_step):
            calls.append(("open", log_dir, purge_step))

        def add_scalar(self, name, value, step):
            calls.append((name, value, step))

        def flush(self):
            pass

        def close(self):
            calls.append(("close",))

    class Run:
        def log(self, figures, step):
            calls.append(("wandb", figures, step))

        def finish(self):
            calls.append(("finish",))

    board, weights = ModuleType("torch.utils.tensorboard"), ModuleType("wandb")
    board.SummaryWriter = SummaryWriter
    weights.init = lambda **settings: calls.append(("init", settings)) or Run()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    monkeypatch.setitem(sys.modules, "wandb", weights)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    train(objective(), config(steps=2, log_to=["tensorboard", "wandb"]), tmp_path / "run", quiet, quiet)
    first, second = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert ("open", str(tmp_path / "run" / "tensorboard"), 1) in calls
    for record in (first, second):
        assert ("loss", record["loss"], record["step"]) in calls
        assert ("loss/wiki", record["loss_by_source"]["wiki"], record["step"]) in calls
    (settings,) = (call[1] for call in calls if call[0] == "init")
    assert (settings["mode"], settings["dir"]) == ("offline", str(tmp_path / "run"))
    logged = [call for call in calls if call[0] == "wandb"]
    assert [step for _, _, step in logged] == [1, 2]
    assert logged[0][1]["grad_norm"] == first["grad_norm"]
    assert calls[-2:] == [("close",), ("finish",)]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_on_a_terminal_and_lines_elsewhere(objective, tmp_path, monkeypatch, terminal, capsys):
    monkeypatch.setattr(monitor.sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("FORCE_COLOR" if terminal else "NO_COLOR", "1")
    said = []
    train(objective(), config(steps=2), tmp_path, said.append, quiet)
    assert any(line.startswith("step 1/2 loss") for line in said) != terminal
    assert ("2/2" in capsys.readouterr().out) == terminal


# --- samples that do not decode ---------------------------------------------------------------------------------


def failing(one, places):
    """The objective with the named samples of each step's batch not decoded."""
    build = one.micro_batches

    def micro_batches(step, world):
        batches = build(step, world)
        for batch in batches:
            batch.undecoded.extend((batch.sample_ids[p], "truncated") for p in places if p < len(batch.sample_ids))
        return batches

    one.micro_batches = micro_batches
    return one


@pytest.fixture
def pictures(tokenizer, processor, caption_shards):
    rows = PackedRows(ImageSamples(caption_shards, processor), 200, SEED, processor.pad)
    return NextToken(make_model(tokenizer), rows, PackingConfig(row_length=200, rows=2))


def test_a_few_bad_samples_are_written_down_once_and_borne(pictures, tmp_path):
    bad = [pictures.micro_batches(step)[0].sample_ids[0] for step in range(5)]
    append_json_line(tmp_path / "errors.jsonl", {"id": bad[0], "error": "seen before a restart"})
    train(failing(pictures, [0]), config(steps=5, undecoded=0.0), tmp_path, quiet, quiet)
    ledger = read_json_lines(tmp_path / "errors.jsonl")
    assert [record["id"] for record in ledger] == list(dict.fromkeys(bad))
    assert [record["error"] for record in ledger][:2] == ["seen before a restart", "truncated"]


def test_too_many_bad_samples_are_an_error_that_names_the_ledger(pictures, tmp_path):
    with pytest.raises(DataError, match=r"could not be decoded, more than 5\.0%") as caught:
        train(failing(pictures, [0, 1]), config(), tmp_path, quiet, quiet)
    assert str(tmp_path / "errors.jsonl") in str(caught.value)
    assert "6 of " in str(caught.value)
    train(failing(pictures, [0, 1]), config(undecoded=1.0), tmp_path, quiet, quiet)
