"""Several processes and ZeRO: the losses of one process, and checkpoints that any number of any kind goes on from."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from group import Group
from tally import times
from tiny import ask, corpus_texts, encoded_image, samples
from transformers import AutoModelForCausalLM, LlamaForCausalLM, MixtralForCausalLM

from jvlm.files import read_json_lines
from jvlm.images.shards import write_shards
from jvlm.model.tensors import TensorFolder
from jvlm.sample import ImageRef
from jvlm.text.corpus import Document
from jvlm.text.shards import write_token_shards

ENGINES = {"plain": {}, "zero1": {"zero": 1}, "zero2": {"zero": 2}, "zero3": {"zero": 3}}
MOST = [pytest.param(name, marks=pytest.mark.long) if name in ("zero1", "zero2") else name for name in ENGINES]
WORKER = Path(__file__).with_name("worker.py")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tokenizer, tmp_path_factory):
    """A folder with a tokenizer and the tokens of some documents."""
    folder = tmp_path_factory.mktemp("distributed")
    tokenizer.save(folder / "data" / "tokenizer")
    documents = [Document(f"d{i}", text, ("toyworld", "other")[i % 2]) for i, text in enumerate(corpus_texts(60))]
    write_token_shards(documents, tokenizer, folder / "data" / "tokens")
    pairs = samples("captions_train", 15)
    for bad in (3, 4, 11):  # so that processes come to have different numbers of them
        pairs[bad] = replace(pairs[bad], images=[ImageRef(data=encoded_image(bad)[:200])])
    write_shards(pairs, folder / "data" / "captions")
    return folder


@pytest.fixture(scope="module")
def launch(home):
    """Does jobs by so many processes; returns what they printed."""
    group = Group()

    def run(processes, jobs, fails=False):
        status, out = group.run(processes, write_jobs(home, jobs))
        assert bool(status) == fails, out[-8000:]
        return out

    yield run
    group.end()


def write_jobs(home, jobs):
    path = home / f"jobs-{time.monotonic_ns()}.json"
    path.write_text(json.dumps(jobs))
    return path


def losses(folder):
    return {record["step"]: record["loss"] for record in read_json_lines(folder / "metrics.jsonl")}


def test_one_batch_split_anyhow_gives_one_curve(home, launch):
    """1×8 = 4×2 = 2 processes × 4, and ZeRO 0 to 3, over 20 steps."""
    settings = {"steps": 20, "checkpoint_every": 20}
    alone, pair = ({}, {"accumulation": 4}), ({"zero": 0}, *ENGINES.values())
    for packing in alone:
        job = {"engine": {}, "settings": settings, "packing": packing, "folder": str(home / f"curve-1-{len(packing)}")}
        launch(1, [job])
    jobs = [{"engine": e, "settings": settings, "folder": str(home / f"curve-2-{i}")} for i, e in enumerate(pair)]
    split = {"engine": {"zero": 2}, "packing": {"accumulation": 8}, "folder": str(home / "curve-2-split")}
    launch(2, [*jobs, split | {"settings": settings}])
    expected, watched = losses(home / "curve-1-0"), read_json_lines(home / "curve-1-0" / "metrics.jsonl")
    assert watched[0]["loss_by_source"].keys() == {"toyworld", "other"}
    assert expected[20] < expected[1] - 1
    for name in ["curve-1-1", "curve-2-split", *(f"curve-2-{i}" for i in range(len(pair)))]:
        found = losses(home / name)
        assert found.keys() == expected.keys()
        assert found == pytest.approx(expected, rel=1e-5), name
        for mine, theirs in zip(read_json_lines(home / name / "metrics.jsonl"), watched, strict=True):
            assert mine["tokens_seen"] == theirs["tokens_seen"]
            assert mine["loss_by_source"] == pytest.approx(theirs["loss_by_source"], rel=1e-5)
            done = [record["flops_per_s"] * record["seconds"] for record in (mine, theirs)]
            assert done[0] == pytest.approx(done[1], rel=1e-6)


def test_pairs_of_one_batch_are_told_apart_across_processes(home, launch):
    """Negatives are global: one process, pieces of it, two processes and ZeRO 1 to 3 have one curve and one model."""
    settings = {"steps": 8, "checkpoint_every": 8, "undecoded": 0.5}
    # rounding alone would move what has no gradient, such as the bias of an attention's keys, were it not for eps
    common = {"settings": settings, "optimizer": {"learning_rate": 3e-3, "eps": 1e-5}}
    alone = {"alone": ({}, 1), "pieces": ({}, 3)}
    several = {f"two-{name}": (engine, 1) for name, engine in ENGINES.items()} | {"two-pieces": ({}, 2)}
    for processes, runs in ((1, alone), (2, several)):
        jobs = [
            common
            | {"engine": engine, "folder": str(home / f"{loss}-{name}")}
            | {"clip": {"loss": loss, "accumulation": pieces}}
            for loss in ("softmax", "sigmoid")
            for name, (engine, pieces) in runs.items()
        ]
        launch(processes, jobs)
    for loss in ("softmax", "sigmoid"):
        expected, weights = losses(home / f"{loss}-alone"), TensorFolder(home / f"{loss}-alone" / "model", "model")
        known = {record["id"] for record in read_json_lines(home / f"{loss}-alone" / "errors.jsonl")}
        assert expected[8] < expected[1]
        assert ("logit_bias" in weights) is (loss == "sigmoid")
        assert len(known) == 3
        for name in ("pieces", *several):
            folder = home / f"{loss}-{name}"
            assert losses(folder) == pytest.approx(expected, rel=1e-5), folder.name
            assert {record["id"] for record in read_json_lines(folder / "errors.jsonl")} == known
            found = TensorFolder(folder / "model", "model")
            for key in weights:
                torch.testing.assert_close(found[key], weights[key], atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "apart",
    [pytest.param((0, 5), id="24"), pytest.param(tuple(range(12)), id="all-144", marks=pytest.mark.long)],
)
def test_every_engine_goes_on_from_every_other(home, launch, apart):
    """{plain, ZeRO 1, 2, 3} × {1, 2, 4 processes}: of 144 continuations those to the settings so far `apart`.

    0 is going on as before, 5 changes both the engine and the number of processes.
    """
    sizes = (1, 2, 4)
    start = home / f"apart-{len(apart)}"
    for size in sizes:
        launch(size, [{"engine": e, "folder": str(start / f"{name}-{size}")} for name, e in ENGINES.items()])
    made = [f"{name}-{size}" for size in sizes for name in ENGINES]
    pairs = [(source, made[(place + step) % 12]) for place, source in enumerate(made) for step in apart]
    for size in sizes:
        jobs = [
            {
                "engine": ENGINES[target.partition("-")[0]],
                "from": str(start / source / "checkpoints" / "step-00000005"),
                "folder": str(start / f"{source}-to-{target}"),
            }
            for source, target in pairs
            if target.endswith(f"-{size}")
        ]
        launch(size, jobs)
    expected = {step: loss for step, loss in losses(start / "plain-1").items() if step > 5}
    weights = TensorFolder(start / "plain-1" / "model", "model")
    for source, target in pairs:
        folder = start / f"{source}-to-{target}"
        assert losses(folder) == pytest.approx(expected, rel=1e-5), folder.name
        if source == target:  # as if it had never stopped: to the bit without ZeRO
            own = {step: loss for step, loss in losses(start / source).items() if step > 5}
            plain = target.startswith("plain")
            assert losses(folder) == (own if plain else pytest.approx(own, rel=1e-6)), folder.name
        final = TensorFolder(folder / "model", "model")
        assert final.keys() == weights.keys()
        for key in weights:
            torch.testing.assert_close(final[key], weights[key], atol=2e-4, rtol=1e-3)


def test_a_checkpoint_of_zero_3_is_a_transformers_directory(home, launch):
    launch(2, [{"engine": {"zero": 3}, "folder": str(home / "directory")}])
    for folder in ("model", "checkpoints/step-00000005"):
        model = LlamaForCausalLM.from_pretrained(home / "directory" / folder)
        saved = TensorFolder(home / "directory" / folder, "model")
        assert all(torch.equal(saved[name], p) for name, p in model.named_parameters())
        assert model(torch.arange(20)[None]).logits.std() > 0.1


def test_processes_whose_tokens_go_to_different_experts_do_not_wait_for_ever(home, launch):
    """ZeRO 3 fetches weights when a part of the model needs them: every process must need the same."""
    # with a single expert for a token a router learns from its balance alone, which rounding moves by whole tokens
    shape = {"num_experts": 4, "experts_per_token": 1, "tie_embeddings": False, "balance": 0.01}
    # a large epsilon: rounding of near-zero gradients would otherwise become full steps
    common = {"shape": shape, "one_expert": True, "optimizer": {"eps": 1e-5}}
    names = ["plain", "zero3"]
    for precision, bound in (("float32", 1e-5), ("bfloat16", 1e-3)):
        jobs = [
            common | {"engine": ENGINES[name] | {"precision": precision}, "folder": str(home / f"{precision}-{name}")}
            for name in names
        ]
        launch(2, jobs)
        plain, sharded = (losses(home / f"{precision}-{name}") for name in names)
        assert sharded == pytest.approx(plain, rel=bound)
        assert plain[10] < plain[1] - 0.5
        own, theirs = (read_json_lines(home / f"{precision}-{name}" / "metrics.jsonl")[0]["routers"] for name in names)
        for figure, layers in own.items():  # of both processes together
            assert layers == pytest.approx(theirs[figure], rel=0.05), figure
    weights = [TensorFolder(home / f"float32-{name}" / "model", "model") for name in names]
    for key in weights[0]:
        torch.testing.assert_close(weights[1][key], weights[0][key], atol=2e-4, rtol=1e-3)
    start, end = (weights[1][f"model.layers.0.mlp.experts.{part}"] for part in ("gate_up_proj", "down_proj"))
    for expert in range(4):  # two were used; the others have only been decayed
        moved = float(start[expert].std()) > 0.025 or float(end[expert].std()) > 0.015
        assert moved is (expert < 2)
    model = AutoModelForCausalLM.from_pretrained(home / "float32-zero3" / "model")
    assert type(model) is MixtralForCausalLM


def test_a_process_that_sees_no_picture_does_not_wait_for_ever(home, launch):
    """All pictures, in tiles, are one process's, the other has text alone: every stage of ZeRO learns what one does."""
    found = [ask(f"s{n}", "色は。", [n], "赤です。", sizes=[((16, 16), (30, 40), (60, 16))[n % 3]]) for n in range(24)]
    write_shards(found, home / "data" / "pictures")
    job = {"images": str(home / "data" / "pictures"), "settings": {"steps": 6, "checkpoint_every": 6}}
    launch(1, [job | {"engine": {}, "folder": str(home / "seen-alone")}])
    launch(2, [job | {"engine": e, "folder": str(home / f"seen-{name}")} for name, e in ENGINES.items()])
    expected, weights = losses(home / "seen-alone"), TensorFolder(home / "seen-alone" / "model", "model")
    assert expected[6] < expected[1] - 0.2
    for name in ENGINES:
        assert losses(home / f"seen-{name}") == pytest.approx(expected, rel=1e-5), name
        final = TensorFolder(home / f"seen-{name}" / "model", "model")
        assert final.keys() == weights.keys()
        for key in weights:
            if key != "tower.visual.proj":  # CLIP's joint space: no patch goes through it, and ZeRO decays it
                torch.testing.assert_close(final[key], weights[key], atol=2e-4, rtol=1e-3, msg=f"{name} {key}")
    begun = TensorFolder(home / "seen-zero3" / "model", "model")
    marks = begun["markers.weight"]
    table = begun["language.model.embed_tokens.weight"][[10, 11, 12]]
    assert (marks != table).any(1).all()  # all three have learned by themselves


@pytest.mark.parametrize("engine", MOST)
def test_a_loss_that_is_not_finite_on_one_process_ends_all_and_is_written_down(home, launch, engine):
    folder = home / f"nan-{engine}"
    job = {"engine": ENGINES[engine], "folder": str(folder), "fault": {"kind": "nan", "call": 9, "rank": 1}}
    out = launch(2, [job], fails=True)
    assert "not finite at step 8" in out  # the first call is the dry step
    (record,) = read_json_lines(folder / "not_finite.jsonl")
    assert record["step"] == 8
    assert len(record["ids"]) >= 8  # of both processes
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["step-00000005"]


@pytest.fixture(scope="module")
def gone_back(home, launch):
    """Runs, once each, a training by an engine that meets a loss that is not finite; its folder and what it printed."""

    @cache
    def run(engine):
        folder = home / f"back-{engine}"
        fault = {"kind": "nan", "call": 9, "rank": 1}
        job = {"engine": ENGINES[engine], "folder": str(folder), "fault": fault, "settings": {"go_back": 1}}
        return folder, launch(2, [job])

    return run


@pytest.mark.parametrize("engine", MOST)
def test_it_goes_back_and_leaves_the_steps_out(gone_back, engine):
    folder, out = gone_back(engine)
    assert "back to step 5; steps 6 to 8 are left out" in out
    state = json.loads((folder / "checkpoints" / "step-00000010" / "state.json").read_text())
    assert state["left_out"] == [[5, 8]]
    found = losses(folder)
    assert found.keys() == {*range(1, 8), 9, 10}
    if engine != "plain":
        assert found == pytest.approx(losses(gone_back("plain")[0]), rel=1e-5)


@pytest.mark.parametrize("engine", ["plain", pytest.param("zero2", marks=pytest.mark.long)])
def test_a_killed_process_ends_all_within_a_minute_and_nothing_is_lost(home, launch, engine, tally):
    processes = times(2, 4)
    folder, undisturbed = home / f"killed-{engine}", home / f"whole-{engine}"
    job = {"engine": ENGINES[engine], "folder": str(folder)}
    begun = time.monotonic()
    jobs = write_jobs(home, [job | {"fault": {"kind": "kill", "call": 9, "rank": 1}}])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), str(WORKER)]
    done = subprocess.run([*torchrun, str(jobs)], capture_output=True, text=True, timeout=600)
    seconds = time.monotonic() - begun
    assert done.returncode, done.stdout[-2000:] + done.stderr[-6000:]
    assert seconds < 60
    tally["processes_killed"] = tally.get("processes_killed", 0) + 1
    tally["seconds_until_all_ended"] = round(max(tally.get("seconds_until_all_ended", 0), seconds), 1)
    out = launch(processes, [job, job | {"folder": str(undisturbed)}])
    assert "continuing from step 5" in out
    assert losses(folder) == pytest.approx(losses(undisturbed), rel=1e-6)


@pytest.mark.long
def test_what_was_killed_goes_on_with_any_engine_and_any_number_of_processes(home, launch, tally):
    made = [(name, size) for size in (1, 2, 4) for name in ENGINES]
    undisturbed = home / "never-killed"
    launch(1, [{"engine": {}, "folder": str(undisturbed)}])
    apart = (1, 3, 5, 7)
    for place, (name, size) in enumerate(made):
        for step in apart:
            then, processes = made[(place + step) % len(made)]
            job = {"folder": str(home / f"{name}-{size}-killed-then-{then}-{processes}")}
            kill = {"kind": "kill", "call": 9, "rank": size - 1}
            launch(size, [job | {"engine": ENGINES[name], "fault": kill}], fails=True)
            out = launch(processes, [job | {"engine": ENGINES[then]}])
            assert "continuing from step 5" in out
            assert losses(Path(job["folder"])) == pytest.approx(losses(undisturbed), rel=1e-5), job
    tally["continued_by_another_engine"] = len(made) * len(apart)
