"""What the routers of a mixture did, in the log: the same however a batch is split and a run is cut."""

import math

import pytest
import torch
from tiny import LANGUAGE, SEED, make_language
from torch import Tensor

from jvlm.files import read_json_lines
from jvlm.model.experts import router_scores
from jvlm.model.processor import Processor
from jvlm.train import trackers
from jvlm.train.config import LoopConfig, OptimizerConfig, PackingConfig
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import NextToken, packed_hidden
from jvlm.train.routers import RouterLoad, routing_figures
from jvlm.train.source import PackedRows, TokenDocuments

EXPERTS = LANGUAGE.model_copy(update={"num_experts": 4, "experts_per_token": 2})
ROW = 350


def quiet(_: object) -> None:
    """Progress is not looked at."""


@pytest.fixture
def objective(tokenizer, text_shards):
    def make(accumulation=1, shape=EXPERTS):
        processor = Processor(tokenizer)
        rows = PackedRows(TokenDocuments(text_shards, processor), ROW, SEED, processor.pad)
        return NextToken(
            make_language(tokenizer, shape), rows, PackingConfig(row_length=ROW, rows=2, accumulation=accumulation)
        )

    return make


def config(**changes):
    optimizer = OptimizerConfig(learning_rate=1e-2, warmup=1)
    return LoopConfig(**{"steps": 1, "checkpoint_every": 2, "log_every": 1, "optimizer": optimizer} | changes)


def by_hand(scores: list[Tensor], real: list[bool]) -> list[tuple[list[float], float]]:
    """Per layer each expert's tokens and the mean of the squared log-sum-exp, token by token."""
    found = []
    for layer in scores:
        load, sizes = [0.0] * 4, []
        for token, counts in zip(layer.tolist(), real, strict=True):
            if counts:
                for expert in sorted(range(4), key=lambda i: -token[i])[:2]:
                    load[expert] += 1
                sizes.append(math.log(sum(math.exp(score) for score in token)) ** 2)
        found.append((load, sum(sizes) / len(sizes)))
    return found


def test_the_load_is_counted_token_by_token_without_padding_and_none_is_dropped():
    scores = [torch.randn(40, 4, generator=torch.manual_seed(n)) * 2 for n in range(3)]
    real = torch.rand(2, 20, generator=torch.manual_seed(9)) < 0.7
    load = RouterLoad()
    halves = [([layer[:20] for layer in scores], real[:1]), ([layer[20:] for layer in scores], real[1:])]
    for part, kept in halves:
        load.add(part, kept, 2)
    routing = load.take()
    assert load.take() == []
    expected = by_hand(scores, real.flatten().tolist())
    for row, (tokens, size) in zip(routing, expected, strict=True):
        assert row[:4] == tokens
        assert sum(row[:4]) == 2 * row[5] == 2 * int(real.sum())
        assert row[4] / row[5] == pytest.approx(size, rel=1e-5)
    figures = routing_figures(routing)
    assert figures["max_share"] == pytest.approx([max(tokens) / sum(tokens) for tokens, _ in expected])
    assert figures["z"] == pytest.approx([size for _, size in expected], rel=1e-5)


def test_even_and_collapsed_routers_are_told_apart():
    figures = routing_figures([[5, 5, 5, 5, 8.0, 20], [20, 0, 0, 0, 8.0, 20], [10, 10, 0, 0, 8.0, 20]])
    assert figures["max_share"] == [0.25, 1.0, 0.5]
    assert figures["entropy"] == pytest.approx([1, 0, 0.5])
    assert figures["z"] == [0.4] * 3


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_log_tells_what_the_routers_did(objective, tmp_path, accumulation):
    one = objective(accumulation)
    found = []
    with torch.no_grad():
        for batch in one.micro_batches(0):
            with router_scores(one.model) as scores:
                packed_hidden(one.model, batch)
            found.append(scores)
            assert batch.input_ids.ne(3).all()
    expected = by_hand([torch.cat(layers) for layers in zip(*found, strict=True)], [True] * 2 * ROW)
    last = train(one, config(), tmp_path, quiet, quiet)
    assert last["routers"]["max_share"] == pytest.approx([max(load) / sum(load) for load, _ in expected], rel=1e-9)
    assert last["routers"]["z"] == pytest.approx([size for _, size in expected], rel=1e-4)
    assert len(set(last["routers"]["entropy"])) == 2


def test_without_experts_there_is_nothing_to_tell(objective, tmp_path):
    assert "routers" not in train(objective(shape=LANGUAGE), config(), tmp_path, quiet, quiet)


def test_an_interval_that_a_kill_cuts_is_whole_all_the_same(objective, tmp_path):
    class Killed(BaseException):
        """Stands for a kill."""

    def killed() -> dict[str, float]:
        raise Killed

    settings = config(steps=4, log_every=4)
    whole = train(objective(), settings, tmp_path / "whole", quiet, quiet)
    with pytest.raises(Killed):  # after the save at step 2, in the midst of the interval
        train(objective(), settings, tmp_path / "cut", quiet, quiet, killed)
    train(objective(), settings, tmp_path / "cut", quiet, quiet)
    (cut,) = read_json_lines(tmp_path / "cut" / "metrics.jsonl")
    assert cut["routers"] == whole["routers"]
    first = train(objective(), config(steps=1), tmp_path / "first", quiet, quiet)
    assert first["routers"] != whole["routers"]


def test_trackers_get_a_figure_for_each_layer():
    found = trackers._scalars({"step": 3, "loss": 1.5, "routers": {"max_share": [0.3, 0.4], "z": [1.0, 2.0]}})
    layers = {"router_max_share/0": 0.3, "router_max_share/1": 0.4, "router_z/0": 1.0, "router_z/1": 2.0}
    assert found == {"loss": 1.5} | layers
