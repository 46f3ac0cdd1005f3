"""Published trainings beside the plan, the recipes that ship, and the pages made of both."""

import json
from pathlib import Path

import pytest

from jvlm.plan import published
from jvlm.plan.ask import BLOCKS, like_of, page, planned, recipe_files
from jvlm.plan.work import works
from jvlm.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = recipe_files()


@pytest.mark.parametrize("row", published.rows(), ids=lambda row: row["what"])
def test_a_published_figure_is_met_or_the_reason_is_said(row):
    assert row["planned"] > 0
    assert abs(row["deviation"]) <= published.TOLERANCE or row["reason"]
    assert "{" not in row["reason"]


def test_most_published_figures_are_met():
    """The reasons are exceptions, and nothing is much more than a factor of two off."""
    off = [abs(row["deviation"]) for row in published.rows()]
    assert sum(deviation <= published.TOLERANCE for deviation in off) >= 9
    assert max(off) < 0.6


@pytest.mark.parametrize("name", BLOCKS)
def test_what_a_page_is_made_of_has_not_changed_since(name):
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert page(text, name) == text, "run python -m jvlm.plan.ask docs"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_loads_and_fits_the_machine_it_is_for(recipe):
    load_recipe(recipe, [])
    command, record = planned(recipe)
    assert recipe.name in command
    assert f"--gpus {load_recipe(recipe, []).processes} " in command
    for stage in record["stages"]:
        assert stage["fits"], stage["to_fit"]
        assert "uneven" not in stage


def test_there_are_recipes():
    assert len(RECIPES) >= 5


def test_a_model_that_is_not_here_is_planned_by_a_size_like_it():
    from jvlm.errors import UsageError

    recipe = load_recipe(RECIPES[0], [])
    with pytest.raises(UsageError, match="--like"):
        works(recipe, like_of(None, None, None))
    (work,) = works(recipe, like_of("1.8b", None, None))[:1]
    assert work.parameters == pytest.approx(1.87e9, rel=0.01)


def test_the_table_of_gpus_agrees_with_what_speed_is_measured_against():
    from jvlm.plan.gpus import GPUS
    from jvlm.train.ceiling import datasheet

    names = {"a100-40g": "NVIDIA A100-SXM4-40GB", "h100": "NVIDIA H100 80GB HBM3", "h100-pcie": "NVIDIA H100 PCIe"}
    names |= {"h200": "NVIDIA H200", "b200": "NVIDIA B200", "l40s": "NVIDIA L40S", "l4": "NVIDIA L4"}
    names |= {"rtx4090": "NVIDIA GeForce RTX 4090", "rtx3090": "NVIDIA GeForce RTX 3090", "a10g": "NVIDIA A10G"}
    for name, device in names.items():
        assert datasheet(device) == GPUS[name].speed("bfloat16"), name


def test_the_command_says_it_in_words_and_in_json(monkeypatch, capsys):
    import sys

    from jvlm import cli

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["jvlm", "plan", *arguments])
        try:
            cli.main()
        except SystemExit as error:
            return error.code, capsys.readouterr()
        return 0, capsys.readouterr()

    asked = ["13b.yaml", "--gpus", "96", "--gpu", "a100-40g", "--price-per-gpu-hour", "300"]
    code, said = run(*asked, "--json")
    assert not code
    (stage,) = json.loads(said.out)["stages"]
    assert {"zero 0", "zero 1", "zero 2", "zero 3", "as planned"} == set(stage["memory"])
    assert stage["yen"] == pytest.approx(300 * stage["gpu_hours"])
    assert stage["forecast_loss"]["source"].startswith("Hoffmann")
    assert stage["uneven"] == "1024 rows cannot be dealt out to 96 GPUs: packing.rows: 960 or 1920"
    code, said = run(*asked)
    assert "kWh" in said.out
    assert "yen" in said.out
    code, said = run("minute.yaml", "--gpus", "8")
    assert code == 2
    assert "give both" in said.err
    code, said = run("minute.yaml", "--price-per-gpu-hour", "300")
    assert code == 2
    assert "--price-per-gpu-hour goes with GPUs" in said.err
    code, said = run("minute.yaml", "--gpus", "8", "--gpu", "abacus")
    assert code == 2
    assert "known: a100-40g" in said.err
    code, said = run("minute.yaml", "--gpus", "2", "--gpu", "h100", "--zero", "2")
    assert not code
    assert "views of images" in said.out
