"""The curve of a pretraining's checkpoints over tokens seen."""

import json
import shutil
from dataclasses import asdict
from functools import partial
from xml.etree import ElementTree

import pytest
from tiny import SEED, corpus_texts, make_language
from typer.testing import CliRunner

from jvlm.cli import app
from jvlm.errors import DataError
from jvlm.eval import curve
from jvlm.files import read_json_lines
from jvlm.infer.likelihood import bits_per_character
from jvlm.model.directory import load_directory, write_model_files
from jvlm.model.processor import Processor
from jvlm.text.raw import Document
from jvlm.train.config import LoopConfig, OptimizerConfig, PackingConfig
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import NextToken
from jvlm.train.source import PackedRows, TokenDocuments

HELD_OUT = corpus_texts(16)[12:]


@pytest.fixture(scope="module")
def trained(tokenizer, text_shards, tmp_path_factory):
    """A run of 6 steps whose every second checkpoint is kept."""
    run = tmp_path_factory.mktemp("runs") / "run"
    processor, model = Processor(tokenizer), make_language(tokenizer)
    rows = PackedRows(TokenDocuments(text_shards, processor), 64, SEED, processor.pad)
    loop = LoopConfig(
        steps=6, checkpoint_every=2, keep_every=2, optimizer=OptimizerConfig(learning_rate=1e-2, warmup=1)
    )
    objective = NextToken(model, rows, PackingConfig(row_length=64, rows=4))
    train(objective, loop, run / "pretrain", lambda _: None, partial(write_model_files, model, processor))
    held_out = run / "corpus" / "text" / "held_out.jsonl"
    held_out.parent.mkdir(parents=True)
    rows = [asdict(Document(f"h{i}", text, "toyworld")) for i, text in enumerate([*HELD_OUT, "no Japanese at all"])]
    held_out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_every_checkpoint_has_its_score_over_the_tokens_it_had_seen(run):
    found = curve.evaluation_curve(run, lambda _: None)
    assert [point["step"] for point in found["points"]] == [2, 4, 6]
    assert [point["tokens_seen"] for point in found["points"]] == [2 * 256, 4 * 256, 6 * 256]
    for point in found["points"]:
        loaded = load_directory(run / "pretrain" / "checkpoints" / f"step-{point['step']:08d}")
        assert point["bits_per_character"] == bits_per_character(loaded.model, loaded.processor, HELD_OUT)
    assert found["points"][2]["bits_per_character"] < found["points"][0]["bits_per_character"] - 0.1
    assert json.loads((run / "eval-curve.json").read_text()) == found
    assert ElementTree.parse(run / "eval-curve.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_a_checkpoint_is_scored_once_and_a_dropped_one_stays_on_the_curve(run, monkeypatch):
    scored = []
    score = curve._bits_per_character

    def counted(folder, texts):
        scored.append(folder.name)
        if len(scored) == 2:
            raise KeyboardInterrupt
        return score(folder, texts)

    monkeypatch.setattr(curve, "_bits_per_character", counted)
    with pytest.raises(KeyboardInterrupt):
        curve.evaluation_curve(run, print)
    shutil.rmtree(run / "pretrain" / "checkpoints" / "step-00000002")
    found = curve.evaluation_curve(run, print)
    assert scored == ["step-00000002", "step-00000004", "step-00000004", "step-00000006"]
    assert curve.evaluation_curve(run, print) == found
    assert [point["step"] for point in found["points"]] == [2, 4, 6]
    assert len(scored) == 4
    assert len(read_json_lines(run / "eval-curve.jsonl")) == 3


def test_a_damaged_checkpoint_is_left_out_aloud_and_none_is_an_error(run):
    checkpoints = run / "pretrain" / "checkpoints"
    file = checkpoints / "step-00000004" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    said = []
    assert [point["step"] for point in curve.evaluation_curve(run, said.append)["points"]] == [2, 6]
    assert any("step-00000004 is left out: " in line and "content differs" in line for line in said)
    shutil.rmtree(checkpoints)
    (run / "eval-curve.jsonl").unlink()
    with pytest.raises(DataError, match="no checkpoint to evaluate"):
        curve.evaluation_curve(run, print)


def test_the_command_prints_the_table(run):
    shown = CliRunner().invoke(app, ["eval-curve", str(run)])
    assert shown.exit_code == 0, shown.output
    assert "1,536" in shown.output
    as_json = CliRunner().invoke(app, ["eval-curve", str(run), "--json"])
    assert [point["step"] for point in json.loads(as_json.output)["points"]] == [2, 4, 6]
