"""What a stage's model is made of, told before it learns: data and models with their licences, through every stage."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import make_language

from jvlm.assets import asset
from jvlm.audit import STAGE, rows
from jvlm.config import load_config
from jvlm.datasets import build_rows
from jvlm.errors import EXIT_OK, EXIT_USAGE, UsageError
from jvlm.files import read_json, write_json, write_text
from jvlm.licences import Part, Terms, joined
from jvlm.model.directory import save_model
from jvlm.model.processor import Processor
from jvlm.recipe import Recipe, stage_keys
from jvlm.stages.__main__ import run_stage
from jvlm.stages.context import StageContext
from jvlm.stages.origins import before, data_licence, lineage, settle

LOOP = {"steps": 1, "checkpoint_every": 1}
PHASE = {"train": ["language"], "loop": LOOP, "packing": {"row_length": 96, "rows": 2}}
TALK = [{"role": "user", "content": "色は。"}, {"role": "assistant", "content": "赤です。"}]


@pytest.fixture
def run(tmp_path: Path, tokenizer: Any) -> Path:
    """A run that has pretrained on two sources, before it is instructed on a set of somebody's."""
    folder = tmp_path / "run"
    save_model(folder / "pretrain" / "model", make_language(tokenizer), Processor(tokenizer))
    origins = {"novels": {"CC0": 3}, "pages": {"CC BY-SA 4.0": 2, "": 1}}
    write_json(folder / "corpus" / "text" / "report.json", {"origins": origins})
    return folder


def make_set(folder: Path, licence: str | None) -> str:
    file = folder.with_suffix(".jsonl")
    write_text(file, "".join(json.dumps({"messages": TALK, "id": str(n)}, ensure_ascii=False) + "\n" for n in range(4)))
    build_rows(file, folder)
    card = read_json(folder / "dataset.json")
    write_json(folder / "dataset.json", card | ({"licence": licence} if licence is not None else {}))
    return str(folder)


def context(run: Path, stage: str, sets: str, *overrides: str) -> StageContext:
    stages = {
        "corpus": {"inputs": [{"path": "texts", "source": "mine"}]},
        "tokenizer": {},
        "pretrain": {},
        "instruct": {"phases": {"chat": {"data": [{"shards": sets}, {"text": "general"}], **PHASE}}},
    }
    recipe = load_config(Recipe, None, list(overrides), {"name": "t", "threads": 1, "stages": stages})
    return StageContext(run, stage, recipe)


def test_a_stage_adds_its_data_to_what_it_began_as(run: Path, tmp_path: Path) -> None:
    earlier = {"name": "n", "licence": "MIT", "amount": 2, "unit": "samples"}
    write_json(run / "pretrain" / "done.json", {"sources": [earlier]})
    parts = settle(context(run, "instruct", make_set(tmp_path / "sets" / "chat", "CC BY 4.0")))
    assert parts == [
        Part("n", "MIT", 2, "samples"),
        Part("chat", "CC BY 4.0", 4, "samples"),
        Part("novels", "CC0", 3, "documents"),
        Part("pages", "CC BY-SA 4.0", 2, "documents"),
        Part("pages", "", 1, "documents"),
    ]
    assert Terms.CLOSED in joined(parts)


def test_what_began_before_sources_were_recorded_is_closed(run: Path, tmp_path: Path) -> None:
    write_json(run / "pretrain" / "done.json", {"metrics": {}})
    parts = settle(context(run, "instruct", make_set(tmp_path / "sets" / "chat", "CC0")))
    assert Part("stage pretrain", "", 0, "model") in parts


@pytest.mark.parametrize("licence", ["CC-BY-NC-4.0", "none stated"])
def test_the_first_stage_refuses_for_the_later_ones_unless_it_is_asked_for(
    run: Path, tmp_path: Path, licence: str
) -> None:
    sets = make_set(tmp_path / "sets" / "chat", licence)
    for stage in ("pretrain", "instruct"):
        write_json(run / "pretrain" / "done.json", {"sources": []})
        with pytest.raises(UsageError, match=r"stages\.instruct: .*chat: ") as caught:
            settle(context(run, stage, sets))
        assert caught.value.exit_code == EXIT_USAGE
    allowed = "non_commercial" if "NC" in licence else "unknown"
    assert f"licences={allowed}" in str(caught.value)
    parts = settle(context(run, "instruct", sets, f"licences={allowed}"))
    assert Part("chat", licence, 4, "samples") in parts


def test_data_that_are_not_there_yet_are_told_of_by_their_own_stage(run: Path) -> None:
    assert settle(context(run, "pretrain", "sets/later"))


def test_a_base_model_is_a_part_by_its_card(run: Path, tmp_path: Path) -> None:
    base = tmp_path / "models" / "theirs"
    write_text(base / "README.md", "---\nlicense: cc-by-nc-4.0\n---\n")
    settings = context(run, "pretrain", "sets/later", f"stages.pretrain.start_from={base}", "stages.tokenizer=null")
    with pytest.raises(UsageError, match="models/theirs: cc-by-nc"):
        settle(settings)


def test_samples_of_an_older_set_are_asked_one_by_one(run: Path, tmp_path: Path) -> None:
    sets = Path(make_set(tmp_path / "sets" / "chat", "CC0"))
    card = read_json(sets / "dataset.json")
    card.pop("origins")
    write_json(sets / "dataset.json", card)
    write_json(run / "pretrain" / "done.json", {"sources": []})
    assert Part("chat", "CC0", 4, "samples") in settle(context(run, "instruct", str(sets)))


def test_a_stage_leaves_its_parts_in_record_trail_and_card_and_refuses_before_it_learns(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_text(run / "corpus" / "text" / "train.jsonl", json.dumps({"id": "1", "text": "猫がいる。", "source": "novels",
        "licence": "CC0", "path": "", "line": 1}, ensure_ascii=False) + "\n")  # fmt: skip
    sources = [{"name": "novels", "licence": "CC0", "amount": 3, "unit": "documents"}]
    write_json(run / "pretrain" / "done.json", {"sources": sources})
    made = context(run, "instruct", make_set(tmp_path / "sets" / "chat", "CC BY-NC 4.0"))
    key = next(key.key for key in stage_keys(made.recipe) if key.name == "instruct")
    for licences, code in (("open", EXIT_USAGE), ("non_commercial", EXIT_OK)):
        write_text(run / "recipe.yaml", json.dumps(made.recipe.model_dump(mode="json") | {"licences": licences}))
        assert run_stage(run, "instruct", key) == code, capfd.readouterr().err
        assert (run / "instruct" / "model").is_dir() == (code == EXIT_OK)
    assert "licences=non_commercial" in capfd.readouterr().err
    sources += [{"name": "chat", "licence": "CC BY-NC 4.0", "amount": 4, "unit": "samples"}]
    assert read_json(run / "instruct" / "done.json")["sources"][:2] == sources
    (row,) = [row for row in rows(run) if row["event"] == STAGE]
    assert row["sources"][:2] == sources
    card = (run / "instruct" / "model" / "README.md").read_text(encoding="utf-8")
    assert "license: other\nlicense_name: closed, cc-by-nc-sa-4.0\n" in card
    assert "| chat | CC BY-NC 4.0 | 4 samples |" in card


def test_every_stage_knows_what_it_began_as() -> None:
    minute = load_config(Recipe, asset("configs", "minute.yaml")).stages
    assert lineage(minute, "medical") == [
        "pretrain", "clip", "align", "pretrain_vl", "instruct", "prefer", "medical",
    ]  # fmt: skip
    assert lineage(minute, "clip") == ["clip"]
    assert before(minute, "combine") == minute.combine.of_the_run
    text = load_config(Recipe, asset("configs", "text.yaml")).stages
    assert lineage(text, "prefer") == ["pretrain", "instruct", "prefer"]


def test_the_embedded_world_says_its_licence_once() -> None:
    assert data_licence(load_config(Recipe, asset("configs", "demo.yaml"))) == "Apache-2.0"
    assert data_licence(load_config(Recipe, asset("configs", "real-small.yaml"))) == ""
