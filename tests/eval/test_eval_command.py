"""`jvlm eval` on text benchmarks: one model and several, ours and another's, with and without images."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from exam_folder import exam_items, write_exam
from made_tasks import build_all
from tiny import LANGUAGE, VISION, make_language, make_model

from jvlm import cli
from jvlm.errors import EXIT_ITEM_ERRORS, EXIT_USAGE
from jvlm.eval.contamination import question_text
from jvlm.eval.task import load_task, prepare
from jvlm.files import read_json, read_json_lines
from jvlm.model.config import ProjectorConfig
from jvlm.model.directory import save_model
from jvlm.model.export import export
from jvlm.model.jvlm import JvlmModel
from jvlm.model.processor import Processor
from jvlm.model.vision import build_tower
from jvlm.text.raw import Document
from jvlm.text.shards import write_token_shards


@pytest.fixture(scope="module")
def work(tokenizer, processor, tmp_path_factory) -> Path:
    """Made data, a language model alone, and a vision-language model."""
    folder = tmp_path_factory.mktemp("eval-command")
    build_all(folder)
    config = LANGUAGE.model_copy(update={"max_length": 2048})
    save_model(folder / "language", make_language(tokenizer, config), Processor(tokenizer))
    save_model(folder / "seeing", make_model(tokenizer, config), processor)
    return folder


@pytest.fixture
def jvlm(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["jvlm", "eval", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as error:
            code = error.code or 0
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


@pytest.mark.parametrize("model", ["language", "seeing"])
def test_a_model_is_scored_and_its_answers_are_kept(jvlm, work, tmp_path, model):
    arguments = (work / model, "--tasks", "jcommonsenseqa,jnli@lm-eval-1.0,jmmlu_written", "--data", work / "data")
    code, out, _ = jvlm(*arguments, "--out", tmp_path, "--limit", 3, "--json")
    assert code == 0
    results = json.loads(out)
    assert list(results) == ["jcommonsenseqa", "jnli@lm-eval-1.0", "jmmlu_written"]
    assert [result["request"] for result in results.values()] == ["log-likelihood"] * 2 + ["greedy generation"]
    template = {"language": "plain", "seeing": "chat"}[model]
    for result in results.values():
        assert result["n"] == 3
        assert result["settings"]["model"]["template"] == template
    assert list(results["jcommonsenseqa"]["metrics"]) == ["accuracy", "accuracy_per_character", "accuracy_per_token"]
    assert read_json(tmp_path / "results.json") == results
    assert (tmp_path / "lm_eval" / "samples_jnli@lm-eval-1.0.jsonl").is_file()
    assert "jnli@lm-eval-1.0" in (tmp_path / "report.html").read_text(encoding="utf-8")
    before = {path: path.read_bytes() for path in tmp_path.rglob("samples.jsonl")}
    assert len(before) == 3
    assert jvlm(*arguments, "--out", tmp_path, "--limit", 3, "--json")[1] == out
    assert {path: path.read_bytes() for path in tmp_path.rglob("samples.jsonl")} == before


def test_results_of_other_tasks_of_the_same_model_are_kept(jvlm, work, tokenizer, tmp_path):
    out = tmp_path / "out"
    for model, task in (("language", "jnli"), ("language", "jamp"), ("seeing", "jmmlu")):
        assert jvlm(work / model, "--tasks", task, "--data", work / "data", "--out", out, "--limit", 3)[0] == 0
        found = read_json(out / "results.json")
        assert set(found) == {"jnli": {"jnli"}, "jamp": {"jnli", "jamp"}, "jmmlu": {"jmmlu"}}[task]
        layout = read_json(out / "lm_eval" / "results.json")["results"]
        assert {name.partition("@")[0] for name in layout} == set(found)


def test_several_models_stand_in_one_table(jvlm, work, tmp_path):
    shutil.copytree(work / "language", work / "second", dirs_exist_ok=True)
    arguments = ("--tasks", "jnli", "--data", work / "data", "--out", tmp_path, "--limit", 4)
    code, out, _ = jvlm(work / "language", work / "second", *arguments)
    assert code == 0
    assert "language" in out
    assert "second" in out
    assert {path.name for path in tmp_path.iterdir()} == {"1-language", "2-second"}
    assert "McNemar" in out
    _, out, _ = jvlm(work / "language", work / "second", *arguments, "--json")
    scores = [model["jnli"]["metrics"]["accuracy"]["value"] for model in json.loads(out)["models"].values()]
    assert scores[0] == scores[1]
    assert json.loads(out)["paired"]["language – second"]["jnli"]["difference"] == 0.0


def test_two_models_are_compared_question_by_question(jvlm, work, exams, tmp_path):
    arguments = ("--tasks", "jnli,made,jsts", "--data", exams, "--out", tmp_path, "--json")
    _, out, _ = jvlm(work / "seeing", work / "language", *arguments)
    told = json.loads(out)
    pair = told["paired"]["seeing – language"]
    assert set(pair) == {"jnli", "112"}  # how alike two captions are is not right or wrong
    scores = [model["jnli"]["metrics"]["accuracy"]["value"] for model in told["models"].values()]
    assert (pair["jnli"]["first"], pair["jnli"]["second"]) == tuple(scores)
    assert pair["112"]["n"] == told["models"]["seeing"]["112"]["all"]["n"]
    assert [pair["112"][k] for k in ("first", "second")] == [m["112"]["all"]["value"] for m in told["models"].values()]


def test_too_long_questions_are_told_by_the_exit_code(jvlm, work, tmp_path, tokenizer):
    save_model(tmp_path / "short", make_language(tokenizer), Processor(tokenizer))
    arguments = (tmp_path / "short", "--tasks", "jcommonsenseqa@sh-0.3", "--data", work / "data", "--limit", 2)
    code, out, _ = jvlm(*arguments, "--out", tmp_path / "out", "--json")
    assert code == EXIT_ITEM_ERRORS
    assert len(json.loads(out)["jcommonsenseqa@sh-0.3"]["not_asked"]) == 2


@pytest.fixture
def exams(work) -> Path:
    """One exam in two sets."""
    if not (work / "data" / "exam" / "made").is_dir():
        for name, count in (("made", 20), ("other", 10)):
            write_exam(work / "data" / "exam" / name, exam_items("112", count))
    return work / "data"


def test_a_language_model_alone_sits_an_exam(jvlm, work, exams, tmp_path):
    """It sees no picture: those questions are not asked, but without the picture they are."""
    arguments = (work / "language", "--tasks", "made", "--data", exams, "--out", tmp_path, "--json")
    code, out, _ = jvlm(*arguments)
    assert code == EXIT_ITEM_ERRORS
    result = json.loads(out)["112"]
    pictured = [item for item in exam_items("112", 20) if item.images]
    assert set(result["not_asked"]) == {item.id for item in pictured}
    assert (result["removed"]["n"], result["audits"]) == (len(pictured), {})
    assert result["prompt"] == "ask-v1"
    records = read_json_lines(tmp_path / "samples.jsonl")
    assert all(r["question"].endswith("答え:") for r in records)
    assert all("scores" in r for r in records if r["arm"] == "removed")
    assert jvlm(*arguments)[1] == out
    assert read_json_lines(tmp_path / "samples.jsonl") == records
    assert jvlm(*arguments, "--template", "chat")[0] == EXIT_ITEM_ERRORS
    chat = read_json_lines(tmp_path / "samples.jsonl")[len(records) :]
    assert len(chat) == len(records)  # asked another way, it is asked again
    assert not {r["model"] for r in chat} & {r["model"] for r in records}


def test_another_peoples_vision_language_model_is_asked_about_pictures(jvlm, work, tokenizer, exams, tmp_path):
    """The published layout of LLaVA, which transformers reads."""
    mlp, tower = ProjectorConfig(kind="mlp"), VISION.model_copy(update={"feature_norm": False})
    config = LANGUAGE.model_copy(update={"max_length": 2048})
    model = JvlmModel(make_language(tokenizer, config), build_tower(tower), mlp, Processor(tokenizer).image_ids)
    save_model(tmp_path / "ours", model, Processor(tokenizer, tower, mlp))
    export(tmp_path / "ours", tmp_path / "llava", "llava")
    asked = ("--tasks", "vqa_rad,made", "--data", exams, "--out", tmp_path / "out", "--limit", 2, "--json")
    code, out, _ = jvlm(tmp_path / "llava", *asked)
    results = json.loads(out)
    assert code == 0
    assert (results["vqa_rad"]["n"], results["vqa_rad"]["removed"]["audit"]["n"]) == (2, 2)
    assert results["vqa_rad"]["settings"]["model"]["template"] == "chat"
    assert (results["112"]["prompt"], results["112"]["not_asked"]) == ("plain", {})
    assert results["112"]["audits"]["removed"]["n"] == results["112"]["image"]["n"] > 0


def test_questions_are_looked_for_in_the_token_shards_of_the_training(jvlm, work, exams, tokenizer, tmp_path):
    (question, *_) = [i for i in prepare(load_task("jacred"), exams)[0] if len(question_text(i)) > 60]
    document = Document("d", question_text(question), "made", "", "f", 1)
    write_token_shards([document], tokenizer, tmp_path / "tokens")
    asked = ("--tasks", "jacred", "--data", exams, "--out", tmp_path / "out", "--training", tmp_path / "tokens")
    _, out, _ = jvlm(work / "language", *asked, "--json")
    assert question.id in json.loads(out)["jacred"]["contamination"]["flagged"]


def test_an_exam_that_two_sets_hold_is_told_twice(jvlm, work, exams, tmp_path):
    _, out, _ = jvlm(work / "seeing", "--tasks", "made,other", "--data", exams, "--out", tmp_path, "--json")
    found = {name: result["all"]["n"] for name, result in json.loads(out).items()}
    assert set(found) == {"112", "other 112"}
    assert found["112"] > found["other 112"]


def test_mistakes_are_one_line(jvlm, work, tmp_path):
    data = ("--data", work / "data", "--out", tmp_path)
    assert jvlm(work / "language", "--suite", "nonesuch", *data)[0] == EXIT_USAGE
    assert jvlm(work / "language", "--suite", "jglue", "--tasks", "jnli", *data)[0] == EXIT_USAGE
    assert jvlm(work / "language", "--tasks", "jnli", "--template", "free", *data)[0] == EXIT_USAGE
    code, _, errors = jvlm(work / "language", "--tasks", "jnli", "--data", tmp_path, "--out", tmp_path / "o")
    assert "jvlm data build jglue" in errors
    assert code
