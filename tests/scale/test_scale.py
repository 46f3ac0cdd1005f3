"""The ladder: the law on data whose law is known, shapes by one rule, and runs that are not run again."""

import json

import numpy as np
import pytest

from jvlm.assets import asset
from jvlm.config import load_config
from jvlm.errors import JvlmError, UsageError
from jvlm.files import read_json
from jvlm.model.config import LanguageConfig
from jvlm.plan.loss import ladder_loss, published_loss
from jvlm.plan.parameters import language_parameters
from jvlm.recipe import Recipe, load_recipe, stage_keys
from jvlm.scale.law import Law, fit, leave_one_out, predict
from jvlm.scale.sizes import parse_sizes, recipe_of, shape_of

LADDER = [0.5e6, 0.7e6, 1e6, 1.4e6, 2e6]


@pytest.mark.parametrize(("floor", "exponent"), [(1.7, 0.34), (0.9, 0.08), (0.0, 0.2), (3.0, 0.76)])
def test_a_law_without_noise_is_found_again(floor, exponent):
    law = Law(floor, np.log(2.0) + exponent * np.log(1e6), exponent)
    found = fit(LADDER, [law.loss(n) for n in LADDER])
    assert found.exponent == pytest.approx(exponent, abs=0.003)
    assert found.floor == pytest.approx(floor, abs=0.06)
    for n in (4e6, 8e6, 30e6):
        assert found.loss(n) == pytest.approx(law.loss(n), rel=1e-3)


def test_noise_moves_the_forecast_little_and_the_interval_tells_it():
    law = Law(1.7, np.log(2.5) + 0.2 * np.log(1e6), 0.2)
    inside, off = 0, []
    for seed in range(40):
        noise = 1 + 0.004 * np.random.default_rng(seed).standard_normal(len(LADDER))
        losses = [law.loss(n) * e for n, e in zip(LADDER, noise, strict=True)]
        found = predict(LADDER, losses, 4e6)
        off.append(abs(found.loss / law.loss(4e6) - 1))
        inside += found.low <= law.loss(4e6) <= found.high
    assert np.mean(off) < 0.015
    assert max(off) < 0.06
    assert inside >= 34


def test_one_point_far_off_does_not_bend_the_law():
    law = Law(2.0, np.log(1.5) + 0.3 * np.log(1e6), 0.3)
    sizes = [*LADDER, 2.8e6, 4e6]
    losses = [law.loss(n) for n in sizes]
    losses[2] *= 1.1
    assert fit(sizes, losses).loss(8e6) == pytest.approx(law.loss(8e6), rel=0.005)
    squares = np.polyfit(np.log(sizes), losses, 2)  # what squares make of it
    assert abs(np.polyval(squares, np.log(8e6)) / law.loss(8e6) - 1) > 0.005
    errors = leave_one_out(sizes, losses)
    assert max(range(7), key=lambda i: abs(errors[i])) == 2


def test_too_few_sizes_and_a_loss_that_rises_are_refused():
    with pytest.raises(UsageError, match="three sizes"):
        fit([1e6, 2e6], [5.0, 4.0])
    with pytest.raises(UsageError, match="does not fall"):
        fit([1e6, 2e6, 4e6], [4.0, 4.5, 5.0])
    assert leave_one_out([1e6, 2e6, 4e6], [5.0, 4.5, 4.2]) is None
    assert predict([1e6, 2e6, 4e6], [5.0, 4.5, 4.2], 8e6).low is None


def test_sizes_are_read_in_words():
    assert parse_sizes("2m, 500k,1.4M") == {"500k": 500_000, "1.4m": 1_400_000, "2m": 2_000_000}
    with pytest.raises(UsageError, match="500k or 2m"):
        parse_sizes("1b")


@pytest.mark.parametrize("parameters", [0.5e6, 1e6, 2e6, 4e6, 8e6, 30e6])
def test_a_size_has_about_as_many_parameters_as_it_says(parameters):
    shape = shape_of(round(parameters), 2_000, LanguageConfig())
    assert language_parameters(shape, 2_000) == pytest.approx(parameters, rel=0.08)
    assert shape.hidden_size // shape.num_heads == 32
    assert 12 <= shape.hidden_size / shape.num_layers <= 64


def test_sizes_of_a_recipe_differ_in_shape_steps_and_rate_alone():
    recipe = load_recipe(asset("configs", "ladder.yaml"), [])
    small, large = (recipe_of(recipe, round(n), 4.0) for n in (1e6, 4e6))
    assert small.stages.pretrain.packing == large.stages.pretrain.packing
    tokens = [r.stages.pretrain.loop.steps * 2048 for r in (small, large)]
    counts = [language_parameters(r.stages.pretrain.language, 2_000) for r in (small, large)]
    assert [t / c for t, c in zip(tokens, counts, strict=True)] == pytest.approx([4, 4], rel=0.01)
    rates = [r.stages.pretrain.loop.optimizer.learning_rate for r in (small, large)]
    assert rates[0] == pytest.approx(3e-3, rel=0.03)
    assert rates[0] > rates[1] > 2e-3
    keys = [[stage.key for stage in stage_keys(r)] for r in (small, large)]
    assert keys[0][:2] == keys[1][:2]  # corpus and tokenizer are one and the same
    assert keys[0][2] != keys[1][2]
    continued = recipe.model_copy(update={"stages": recipe.stages.model_copy(update={"pretrain": None})})
    with pytest.raises(UsageError, match="from scratch"):
        recipe_of(continued, 1_000_000, 4.0)


def test_a_forecast_from_a_ladder_is_labelled(tmp_path):
    law = {"floor": 2.0, "log_scale": float(np.log(2.0) + 0.2 * np.log(1e6)), "exponent": 0.2}
    file = tmp_path / "ladder.json"
    file.write_text(json.dumps({"unit": "bits a character", "tokens_per_parameter": 20.0, "law": law}))
    same = ladder_loss(file, 10_000_000, 200_000_000)
    assert same.loss == pytest.approx(2 + 2 * 10**-0.2)
    assert same.unit == "bits a character"
    longer = ladder_loss(file, 10_000_000, 2_000_000_000)
    assert longer.loss < same.loss
    assert "200 tokens a parameter in place of 20" in longer.source
    assert published_loss(70 * 10**9, 1_400 * 10**9).loss == pytest.approx(1.94, abs=0.01)  # Chinchilla's own
    file.write_text("{}")
    with pytest.raises(JvlmError, match="not the ladder"):
        ladder_loss(file, 1, 1)


def made_runs(monkeypatch, loss_of):
    """A ladder whose runs leave what `loss_of` (parameters) says; returns what was asked for."""
    from jvlm.files import write_json
    from jvlm.scale import ladder

    asked = []

    def run_recipe(recipe, folder, say, until):
        asked.append((folder.name, until))
        if until == "tokenizer":
            for stage in ("corpus", "tokenizer"):
                (folder / stage).mkdir(parents=True, exist_ok=True)
            return
        assert (folder / "corpus").resolve() == folder.parent / "shared" / "corpus"
        count = language_parameters(recipe.stages.pretrain.language, recipe.stages.tokenizer.vocab_size)
        loop, packing = recipe.stages.pretrain.loop, recipe.stages.pretrain.packing
        tokens = loop.steps * packing.rows * packing.row_length
        metrics = {"parameters": count, "tokens_seen": tokens, "bpc_model": loss_of(count)}
        (folder / "pretrain").mkdir(exist_ok=True)
        write_json(folder / "pretrain" / "done.json", {"seconds": 1.0, "metrics": metrics})

    monkeypatch.setattr(ladder, "run_recipe", run_recipe)
    return asked


def test_sizes_to_come_may_show_a_law_where_the_first_do_not(tmp_path, monkeypatch):
    from jvlm.scale import ladder

    law = Law(1.5, np.log(2.0) + 0.2 * np.log(1e6), 0.2)
    made_runs(monkeypatch, lambda n: law.loss(2e6) + n / 1e9 if n < 1.5e6 else law.loss(n))
    recipe = load_recipe(asset("configs", "ladder.yaml"), [])
    sizes = parse_sizes("500k,700k,1m,2m,4m,8m")
    record = ladder.run_ladder(recipe, sizes, parse_sizes("12m"), 2.0, tmp_path, lambda text: None)
    assert [rung["loss"] for rung in record["rungs"][:3]] == sorted(rung["loss"] for rung in record["rungs"][:3])
    assert len(record["rungs"]) == 6
    assert record == read_json(tmp_path / "ladder.json")


def test_a_ladder_is_runs_that_share_a_corpus(tmp_path, monkeypatch):
    """What a run leaves is made up here, by a law; the one below runs them."""
    from jvlm.scale import ladder

    law = Law(1.5, np.log(2.0) + 0.2 * np.log(1e6), 0.2)
    asked = made_runs(monkeypatch, law.loss)
    recipe = load_recipe(asset("configs", "ladder.yaml"), [])
    sizes, ahead = parse_sizes("500k,1m,2m,4m"), parse_sizes("8m")
    record = ladder.run_ladder(recipe, sizes, ahead, 2.0, tmp_path, lambda text: None, check=True)
    assert asked == [("shared", "tokenizer"), *((name, "pretrain") for name in ("500k", "1m", "2m", "4m", "8m"))]
    assert record == read_json(tmp_path / "ladder.json")
    (forecast,) = record["forecasts"]
    assert forecast["measured"] == pytest.approx(forecast["loss"], rel=1e-3)
    assert forecast["low"] <= forecast["loss"] <= forecast["high"]
    assert len(record["leave_one_out_errors"]) == 4
    assert (tmp_path / "ladder.svg").read_text().startswith("<svg")
    ours = ladder_loss(tmp_path / "ladder.json", forecast["parameters"], 2 * forecast["parameters"])
    assert ours.loss == pytest.approx(forecast["loss"])


@pytest.mark.long
def test_a_ladder_goes_on_and_what_is_done_is_not_run_again(tmp_path):
    """Sizes far too small to mean anything: what is looked at is what runs, and when."""
    from jvlm.scale.ladder import run_ladder

    settings = {
        "name": "tiny",
        "threads": 1,
        "stages": {
            "corpus": {
                "inputs": [{"path": str(_texts(tmp_path)), "source": "toy"}],
                "held_out_share": 0.1,
                "workers": 1,
            },
            "tokenizer": {"vocab_size": 640},
            "pretrain": {
                "ngram_order": None,
                "language": {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32},
                "packing": {"row_length": 64, "rows": 4},
                "loop": {"steps": 1, "checkpoint_every": 50},
            },
        },
    }
    recipe = load_config(Recipe, None, [], settings)
    sizes, ahead = parse_sizes("13k,22k,33k"), parse_sizes("45k")
    out, said = tmp_path / "ladder", []
    record = run_ladder(recipe, sizes, ahead, 0.5, out, said.append)
    assert [rung["size"] for rung in record["rungs"]] == ["13k", "22k", "33k"]
    assert (out / "22k" / "tokenizer").resolve() == (out / "shared" / "tokenizer").resolve()
    assert read_json(out / "ladder.json") == record
    assert "measured" not in record["forecasts"][0]
    assert (out / "ladder.svg").read_text().startswith("<svg")
    done = (out / "13k" / "pretrain" / "done.json").stat().st_mtime_ns
    checked = run_ladder(recipe, sizes, ahead, 0.5, out, said.append, check=True)
    assert (out / "13k" / "pretrain" / "done.json").stat().st_mtime_ns == done
    assert checked["rungs"] == record["rungs"]
    (forecast,) = checked["forecasts"]
    assert forecast["measured"] == checked["trained_forecasts"][0]["loss"]
    assert forecast["error"] == pytest.approx(forecast["loss"] / forecast["measured"] - 1)
    with pytest.raises(UsageError, match="other settings"):
        run_ladder(recipe, sizes, ahead, 1.0, out, said.append)
    with pytest.raises(UsageError, match="both fitted and forecast"):
        run_ladder(recipe, sizes, {"13k": 13_000}, 0.5, out, said.append)


def _texts(folder):
    from tiny import corpus_texts

    file = folder / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in corpus_texts(150)))
    return file
