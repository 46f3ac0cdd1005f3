"""Word pairs inside a model: where partners are one vector they are found, where all is noise they are not."""

import json
import shutil
from functools import partial
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from tiny import SEED, make_language
from typer.testing import CliRunner

from jvlm.assets import asset
from jvlm.cli import app
from jvlm.config import load_config
from jvlm.errors import DataError, UsageError
from jvlm.eval import multilinguality
from jvlm.eval.multilinguality import (
    WordPairs,
    multilinguality_curve,
    pair_figures,
    pair_values,
    word_pair_scores,
    word_vectors,
)
from jvlm.files import read_json_lines
from jvlm.model.directory import load_directory, write_model_files
from jvlm.model.processor import Processor
from jvlm.train.config import LoopConfig, OptimizerConfig, PackingConfig
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import NextToken
from jvlm.train.source import PackedRows, TokenDocuments


def shipped():
    return load_config(WordPairs, asset("evals", "word_pairs.yaml"))


def test_the_shipped_list_is_ten_pairs_in_each_of_ten_categories():
    categories = shipped().categories
    assert [len(pairs) for pairs in categories.values()] == [10] * 10
    words = [word for pairs in categories.values() for pair in pairs for word in pair]
    assert len(set(words)) == 200
    for pairs in categories.values():
        for japanese, english in pairs:
            assert english.isascii(), english
            assert english.islower(), english
            assert not any(character.isascii() for character in japanese), japanese


def single_token_pairs(tokenizer):
    """Ten pairs of words that are one token each."""
    ids = [i for i in range(300, tokenizer.vocab_size) if tokenizer.encode(tokenizer.decode([i])) == [i]][:20]
    words = [tokenizer.decode([i]) for i in ids]
    pairs = [(words[2 * n], words[2 * n + 1]) for n in range(10)]
    return ids, WordPairs(version="1", categories={"a": pairs[:6], "b": pairs[6:]})


def test_partners_with_one_embedding_are_one_everywhere(tokenizer):
    model = make_language(tokenizer)
    ids, words = single_token_pairs(tokenizer)
    with torch.no_grad():
        table = model.model.embed_tokens.weight
        table[ids[0::2]] = torch.eye(32)[:10]
        table[ids[1::2]] = table[ids[0::2]]
    layers = word_pair_scores(model, Processor(tokenizer), words)
    assert [layer["layer"] for layer in layers] == [0, 1, 2]
    for layer in layers:
        assert layer["similarity"] == pytest.approx(1, abs=1e-6)
        assert layer["accuracy"] == {"value": 1.0, "n": 10, "interval": [1.0, 1.0]}
        assert {name: found["accuracy"]["n"] for name, found in layer["categories"].items()} == {"a": 6, "b": 4}
    embeddings = layers[0]
    assert embeddings["margin"]["value"] == pytest.approx(1, abs=1e-6)  # the others stand at right angles
    assert layers[2]["margin"]["value"] > 0.05


def test_noise_finds_no_partner(tokenizer):
    model = make_language(tokenizer)
    words = shipped()
    generator = np.random.default_rng(0)
    drawn = [pair_values(*generator.normal(size=(2, 10, 64))) for _ in range(200)]
    noise = pair_figures({key: np.concatenate([values[key] for values in drawn]) for key in drawn[0]})
    assert noise["margin"]["interval"][0] < 0 < noise["margin"]["interval"][1]
    assert noise["accuracy"]["interval"][0] < 0.1 < noise["accuracy"]["interval"][1]
    assert noise["accuracy"]["n"] == 2000
    for layer in word_pair_scores(model, Processor(tokenizer), words):
        assert abs(layer["margin"]["value"]) < 0.15
        assert layer["accuracy"]["value"] < 0.3
        assert len(layer["categories"]) == 10


def test_the_figures_are_what_they_are_by_hand():
    japanese = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    english = np.array([[3.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    half = 1 / np.sqrt(2)
    cosines = np.array([[1, 1, 0], [0, 0, 1], [half, half, half]])
    values = pair_values(japanese, english)
    np.testing.assert_allclose(values["similarity"], [1, 0, half])
    for i in range(3):
        others = [cosines[i, j] for j in range(3) if j != i] + [cosines[j, i] for j in range(3) if j != i]
        assert values["margin"][i] == pytest.approx(cosines[i, i] - sum(others) / 4)
    mismatched = [cosines[i, j] for i in range(3) for j in range(3) if i != j]
    assert values["margin"].mean() == pytest.approx(np.diag(cosines).mean() - np.mean(mismatched))
    # from Japanese: tied with one, wrong, tied with two; from English: right, wrong (1 is nearer), wrong
    np.testing.assert_allclose(values["accuracy"], [(0.5 + 1) / 2, 0, (1 / 3 + 0) / 2])


@torch.no_grad()
def test_a_word_is_read_alone_and_its_tokens_are_averaged(tokenizer):
    model, processor = make_language(tokenizer), Processor(tokenizer)
    words = ["犬", "mountain", "図書館"]
    found = word_vectors(model, processor, words)
    assert list(found) == [0, 1, 2]
    for number, word in enumerate(words):
        ids = tokenizer.encode(word)
        states = model(torch.tensor([[processor.bos, *ids]]), output_hidden_states=True).hidden_states
        for layer, vectors in found.items():
            expected = states[layer][0, 1:].mean(0)
            np.testing.assert_allclose(vectors[number], expected.numpy(), atol=1e-4, rtol=1e-3)
    assert len(tokenizer.encode("mountain")) > 1


@pytest.fixture(scope="module")
def trained(tokenizer, text_shards, tmp_path_factory):
    """A run of 4 steps with two checkpoints."""
    run = tmp_path_factory.mktemp("runs") / "run"
    processor, model = Processor(tokenizer), make_language(tokenizer)
    rows = PackedRows(TokenDocuments(text_shards, processor), 64, SEED, processor.pad)
    loop = LoopConfig(steps=4, checkpoint_every=2, optimizer=OptimizerConfig(learning_rate=1e-2, warmup=1))
    objective = NextToken(model, rows, PackingConfig(row_length=64, rows=4))
    train(objective, loop, run / "pretrain", lambda _: None, partial(write_model_files, model, processor))
    return run


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_the_curve_of_a_run(run, monkeypatch):
    found = multilinguality_curve(run, lambda _: None)
    assert [(point["step"], point["tokens_seen"]) for point in found["points"]] == [(2, 512), (4, 1024)]
    loaded = load_directory(run / "pretrain" / "checkpoints" / "step-00000002")
    assert found["points"][0]["layers"] == word_pair_scores(loaded.model, loaded.processor, shipped())
    assert found["points"][0]["layers"] != found["points"][1]["layers"]
    assert json.loads((run / "multilinguality.json").read_text()) == found
    for name in ("margin", "accuracy"):
        root = ElementTree.parse(run / f"multilinguality-{name}.svg").getroot()
        texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert {"embeddings", "layer 1", "layer 2"} <= set(texts)
    monkeypatch.setattr(multilinguality, "word_pair_scores", None)  # each checkpoint is scored once
    assert multilinguality_curve(run, lambda _: None) == found
    assert len(read_json_lines(run / "multilinguality.jsonl")) == 2


def test_the_command_and_words_of_ones_own(run, tmp_path):
    file = tmp_path / "pairs.yaml"
    file.write_text("version: mine\ncategories: {few: [[犬, dog], [猫, cat]]}\n")
    shown = CliRunner().invoke(app, ["multilinguality", str(run), "--pairs", str(file), "--json"])
    assert shown.exit_code == 0, shown.output
    curve = json.loads(shown.output)
    assert curve["version"] == "mine"
    assert curve["points"][0]["layers"][0]["categories"]["few"]["accuracy"]["n"] == 2
    table = CliRunner().invoke(app, ["multilinguality", str(run)])
    assert table.exit_code == 0, table.output
    assert "1,024" in table.output
    file.write_text("version: mine\ncategories: {few: [[犬, dog], [猫, dog]]}\n")
    with pytest.raises(UsageError, match="each word once"):
        multilinguality_curve(run, lambda _: None, file)
    shutil.rmtree(run / "pretrain")
    (run / "multilinguality.jsonl").unlink()
    with pytest.raises(DataError, match="no checkpoint to evaluate"):
        multilinguality_curve(run, lambda _: None)
