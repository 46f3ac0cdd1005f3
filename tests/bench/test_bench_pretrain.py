"""The pretraining benchmark: everybody is given the same targets, the arithmetic is right, a miniature runs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from tiny import flop_counter, shake
from torch.utils.data import default_collate
from transformers import AutoTokenizer, DataCollatorForLanguageModeling, LlamaForCausalLM
from typer.testing import CliRunner

from jvlm.bench import pretrain, pretrain_data, pretrain_quality, pretrain_trainer, race
from jvlm.bench.contestant import Settings, Spec
from jvlm.bench.pretrain import Plan
from jvlm.bench.race import OPTIMIZER, Trial
from jvlm.cli import app
from jvlm.files import read_json
from jvlm.model.directory import load_directory
from jvlm.model.packed import PackedBatch
from jvlm.text.shards import TokenShards
from jvlm.train.config import PackingConfig
from jvlm.train.objectives.next_token import NextToken
from jvlm.train.source import PackedRows, TokenDocuments

WORDS = ["血液", "検査", "東京", "山", "です", "を", "した", "患者", "の", "は", "見た", "大きい", "川", "に", "行く"]
ROW = 64
LANGUAGE = {"tiny": {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 48}}


def write_root(root: Path) -> None:
    rng = np.random.default_rng(1)
    texts = ["".join(rng.choice(WORDS, int(rng.integers(4, 120)))) for _ in range(160)]
    rows = "\n".join(json.dumps({"text": text}) for text in texts)
    (root / "text").mkdir(parents=True)
    (root / "text" / "made.jsonl.zst").write_bytes(zstandard.compress(rows.encode()))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every contestant reads, of a tiny size."""
    folder = tmp_path_factory.mktemp("pretrain")
    write_root(folder / "root")
    spec = pretrain_data.DataSpec(
        root=str(folder / "root"),
        work=str(folder),
        sizes=LANGUAGE,
        vocab_size=430,
        row_length=ROW,
        stride=2,
        held_out=5,
        held_out_chars=80,
        tokenizer_chars=10**6,
        threads=1,
    )
    pretrain_data.write_spec(spec, folder / "data_spec.json")
    pretrain_data.prepare(spec)
    return folder


@pytest.fixture
def spec(work: Path, tmp_path: Path) -> Spec:
    return Spec("packed", str(work), "tiny", str(tmp_path), Settings(rows=2), OPTIMIZER, ROW, 1, 1, 3)


def our_objective(work: Path) -> NextToken:
    loaded = load_directory(work / "tiny")
    documents = TokenDocuments(TokenShards(work / "tokens"), loaded.processor)
    rows = PackedRows(documents, ROW, pretrain_data.SEED, loaded.processor.pad)
    return NextToken(loaded.model, rows, PackingConfig(row_length=ROW, rows=4))


def our_batch(work: Path) -> PackedBatch:
    return our_objective(work).micro_batches(0)[0]


def test_padded_documents_hold_the_targets_that_are_counted(work: Path) -> None:
    documents = pretrain_trainer.Documents(work, ROW)
    tokens = TokenShards(work / "tokens")
    assert len(documents) == tokens.num_documents == 80
    collate = DataCollatorForLanguageModeling(AutoTokenizer.from_pretrained(work / "tiny"), mlm=False)
    batch = collate([documents[i] for i in range(len(documents))])
    # <s> text </s>, cut to a row: every token but the first is a target
    expected = [min(int(length) + 2, ROW) - 1 for length in tokens.lengths]
    assert max(expected) == ROW - 1
    assert min(expected) < ROW / 2
    assert pretrain_trainer.count_targets(batch) == sum(expected)
    assert read_json(work / "data.json")["targets_of_a_document"] == pytest.approx(np.mean(expected))


def test_packed_rows_are_ours_and_full_of_targets(work: Path) -> None:
    ours = our_batch(work)
    for masked in (True, False):
        rows = pretrain_trainer.Rows(work, masked)
        batch = default_collate([rows[i] for i in range(4)])
        assert torch.equal(batch["input_ids"], ours.input_ids)
        assert torch.equal(batch["shift_labels"], ours.labels)
        assert pretrain_trainer.count_targets(batch) == ours.weight == 4 * ROW
        assert ("attention_mask" in batch) == masked


def test_the_block_mask_gives_the_loss_and_gradients_of_our_documents(work: Path) -> None:
    objective, rows = our_objective(work), pretrain_trainer.Rows(work, masked=True)
    (ours,) = objective.micro_batches(0)
    assert len(ours.doc_lens) > 4  # rows
    shake(objective.model)
    rival = LlamaForCausalLM.from_pretrained(work / "tiny", attn_implementation="sdpa")
    rival.load_state_dict(objective.model.state_dict())
    loss = objective.loss_sum(ours) / ours.weight
    batch = default_collate([rows[i] for i in range(4)])
    theirs = rival(**batch, num_items_in_batch=torch.tensor(ours.weight)).loss
    torch.testing.assert_close(loss, theirs, atol=1e-5, rtol=0)
    loss.backward()
    theirs.backward()
    for (name, p), q in zip(objective.model.named_parameters(), rival.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-5, rtol=1e-4, msg=name)
    without = default_collate([pretrain_trainer.Rows(work, masked=False)[i] for i in range(4)])
    assert abs(float((rival(**without).loss - theirs).detach())) > 1e-3


def test_operations_are_those_that_torch_counts(work: Path) -> None:
    model = load_directory(work / "tiny").model
    counts = pretrain.parameter_counts(LANGUAGE["tiny"], 430)
    assert counts["all"] == sum(p.numel() for p in model.parameters())
    assert counts["embedding"] == model.get_input_embeddings().weight.numel()
    objective, batch = our_objective(work), our_batch(work)
    with flop_counter() as counter:
        objective.loss_sum(batch).backward()
    operations = counter.get_flop_counts()["Global"]
    products = sum(n for name, n in operations.items() if "attention" not in str(name))
    assert pretrain.flops_of_a_target(LANGUAGE["tiny"], 430, 0) * batch.weight == products
    # torch counts attention's forward pass without the causal half: 4 · len² · width a layer
    with flop_counter() as counter, torch.no_grad():
        objective.loss_sum(batch)
    full = sum(n for name, n in counter.get_flop_counts()["Global"].items() if "attention" in str(name))
    squares = sum(n * n for n in batch.doc_lens) / batch.weight
    attention = pretrain.flops_of_a_target(LANGUAGE["tiny"], 430, squares) * batch.weight - products
    assert attention == pytest.approx(3 * full / 2)
    documents = np.cumsum(batch.position_ids.numpy() == 0, axis=1)
    assert pretrain_data.squares_of_a_token(documents) == pytest.approx(squares)


def test_ratios_are_of_medians_and_the_worse_size_counts() -> None:
    rates = {"ours": [10.0, 30.0, 20.0], "litgpt": [9.0, 10.0, 100.0], "trainer_packed": [40.0, 1.0, 5.0]}
    found = pretrain.ratios(rates, 2.0, [50.0, 80.0, 100.0])
    assert found == {"over_litgpt": 2.0, "over_trainer_packed": 4.0, "of_gemm_ceiling": 0.5}
    other = {"over_litgpt": 1.5, "of_gemm_ceiling": 0.7}
    assert race.worst([found, other]) == {
        "over_litgpt": 1.5,
        "over_trainer_packed": 4.0,
        "of_gemm_ceiling": 0.5,
    }


def test_the_best_settings_are_the_leanest_of_the_fastest() -> None:
    trials = [
        Trial(Settings(rows=4), 98, 500),
        Trial(Settings(rows=8), 100, 900),
        Trial(Settings(rows=16), 90, 100),
        Trial(Settings(compile=True), error="no compiler"),
    ]
    assert race.best(trials).settings == Settings(rows=4)


def test_the_histogram_counts_every_document() -> None:
    found = pretrain_data.histogram(np.array([1, 32, 33, 64, 4096, 4097, 10**6]))
    assert found["<=32"] == found["<=64"] == found[">4096"] == 2
    assert found["<=4096"] == 1
    assert sum(found.values()) == 7


def test_our_loop_and_trainer_learn_the_same(spec: Spec) -> None:
    schedule = {"warmup": 1, "schedule": "cosine", "learning_rate": 3e-2}
    found = pretrain_quality.compare(replace(spec, optimizer=OPTIMIZER | schedule, span_steps=6))
    assert found["bpc_ours"] < found["bpc_start"] - 0.1
    assert found["bpc_ours_minus_trainer"] == pytest.approx(0, abs=1e-4)
    assert found["tokens"] == 6 * 2 * ROW


@pytest.mark.slow
def test_a_miniature_from_end_to_end(tmp_path: Path, monkeypatch) -> None:
    write_root(tmp_path / "root")
    small = Plan(
        LANGUAGE,
        vocab_size=430,
        row_length=ROW,
        stride=2,
        compiled=False,
        rows=(2,),
        span_rows=4,
        probe_rows=2,
        rounds=2,
        quality_steps=2,
        quality_rows=2,
        held_out=3,
    )
    monkeypatch.setattr(pretrain, "FULL", small)
    kept = ("ours", "trainer_causal", "litgpt")
    monkeypatch.setattr(pretrain, "MODULES", {name: pretrain.MODULES[name] for name in kept})
    command = ["bench", "pretrain", "--json", "--threads", "1", "--data-root", str(tmp_path / "root")]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert set(result["ratios"]) == {"over_trainer_causal", "of_gemm_ceiling"}
    assert result["not_run"] == {"litgpt": "no --litgpt-python was given"}
    size = result["sizes"]["tiny"]
    assert {who: len(rates) for who, rates in size["tokens_per_s_of_rounds"].items()} == dict.fromkeys(kept[:2], 2)
    assert all(50 < peak < 5000 for peak in size["peak_mib"].values())
    assert all(0 < share <= 1.2 for share in size["share_of_processors"].values())
    assert all(trial["error"] is None for trials in size["tried"].values() for trial in trials)
    assert sum(result["data"]["length_histogram"].values()) == result["data"]["documents"] == 80
    assert abs(result["quality"]["bpc_ours_minus_trainer"]) < 1e-3
    assert "round 2" in found.stderr


def test_settings_are_searched_one_after_another(monkeypatch) -> None:
    bench = pretrain._Bench(Path(), 1, None, lambda text: None, Plan(LANGUAGE, again=2))

    def probe(who, size, settings, data):
        rate = 100 + settings.rows - 50 * (settings.precision == "bfloat16") + 30 * settings.compile
        rate *= 0.5 if settings.group else 1
        return Trial(settings, rate, 1.0)

    monkeypatch.setattr(bench, "probe", probe)
    tried = bench.search("trainer_padded", "small", {}, [])
    assert [trial.settings for trial in tried] == [
        Settings("float32", False, 8, True),
        Settings("bfloat16", False, 8, True),
        Settings("float32", False, 4, True),
        Settings("float32", False, 16, True),
        Settings("float32", False, 16, False),
        Settings("float32", True, 16, False),
    ]
    again = bench.search("trainer_padded", "large", {}, tried)
    assert [trial.settings for trial in again] == [tried[5].settings, tried[4].settings]
    assert not any(trial.settings.group for trial in bench.search("ours", "small", {}, []))


def test_a_contestant_that_fails_is_recorded(work: Path, monkeypatch) -> None:
    bench = pretrain._Bench(work, 1, None, print, Plan(LANGUAGE, row_length=ROW))
    monkeypatch.setitem(pretrain.MODULES, "ours", "no_such_module")
    trial = bench.probe("ours", "tiny", Settings(), {})
    assert "no_such_module" in str(trial.error)
    assert trial.tokens_per_s == 0
    assert not list(work.glob("run-*"))
