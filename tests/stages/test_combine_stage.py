"""The stage `combine`: one model of several, scored before and after."""

import json

import pytest
import torch
from jvlm_data.toyworld import build as toyworld
from tiny import PROJECTOR, VISION, corpus_texts, make_language, make_model, shake, weights

from jvlm.config import load_config
from jvlm.errors import UsageError
from jvlm.eval.page_combine import combine_section
from jvlm.files import read_json, write_text
from jvlm.infer.likelihood import bits_per_character
from jvlm.model.directory import load_directory, save_model
from jvlm.model.processor import Processor
from jvlm.recipe import Recipe, publish_model
from jvlm.stages.combine import combine
from jvlm.stages.context import StageContext

HELD_OUT = corpus_texts(8)


@pytest.fixture
def run(tmp_path, tokenizer):
    """A run whose pretraining and instruction left a model each."""
    processor = Processor(tokenizer)
    model = make_language(tokenizer)
    save_model(tmp_path / "run" / "pretrain" / "model", model, processor)
    save_model(tmp_path / "run" / "instruct" / "model", shake(model, 4, 0.05), processor)
    rows = [json.dumps({"id": f"h{i}", "text": text, "source": "s"}) for i, text in enumerate(HELD_OUT)]
    write_text(tmp_path / "run" / "corpus" / "text" / "held_out.jsonl", "\n".join(rows) + "\n")
    return tmp_path / "run"


def context(run, **settings):
    stages = {"pretrain": {}, "combine": settings}
    return StageContext(run, "combine", load_config(Recipe, None, [], {"name": "t", "stages": stages}))


def models(*named):
    return [{"model": name, "weight": weight} for name, weight in named]


def test_models_of_the_run_are_combined_and_scored_before_and_after(run, tokenizer):
    stage = context(run, models=models(("pretrain", 3), ("instruct", 1)))
    figures = combine(stage)
    one, two, out = (load_directory(run / name / "model") for name in ("pretrain", "instruct", "combine"))
    before, after = weights(one.model), weights(two.model)
    for name, value in weights(out.model).items():
        torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * after[name], atol=1e-6, rtol=1e-5)
    scores = figures["scores"]
    assert list(scores) == ["pretrain", "instruct", "combined"]
    for name, loaded in zip(scores, (one, two, out), strict=True):
        expected = bits_per_character(loaded.model, Processor(tokenizer), HELD_OUT)
        assert scores[name]["bpc"] == {"general": pytest.approx(expected, rel=1e-5)}
    change = figures["bpc_change"]["instruct"]["general"]
    assert change["value"] == pytest.approx(
        scores["combined"]["bpc"]["general"] - scores["instruct"]["bpc"]["general"], abs=1e-6
    )
    assert change["interval"][0] < change["value"] < change["interval"][1]
    assert change["n"] == len(HELD_OUT)
    assert read_json(run / "combine" / "model" / "combined.json")["method"] == "linear"
    publish_model(stage.recipe, run)
    assert all(
        torch.equal(value, weights(load_directory(run / "model").model)[n]) for n, value in weights(out.model).items()
    )
    page = combine_section(figures)
    assert "pretrain" in page
    assert f"{change['value']:+.3f}" in page


def test_what_was_learned_is_added_to_a_model_of_ones_own(run, tokenizer):
    whole = load_directory(run / "instruct" / "model").model
    save_model(run.parent / "mine", shake(whole, 8, 0.05), Processor(tokenizer))
    settings = {"method": "task_arithmetic", "base": "pretrain"}
    figures = combine(context(run, models=models((str(run.parent / "mine"), 0.5)), **settings))
    assert list(figures["scores"]) == ["pretrain", str(run.parent / "mine"), "combined"]
    base, mine, out = (
        weights(load_directory(folder).model)
        for folder in (run / "pretrain" / "model", run.parent / "mine", run / "combine" / "model")
    )
    for name, value in out.items():
        torch.testing.assert_close(value, base[name] + 0.5 * (mine[name] - base[name]), atol=1e-6, rtol=1e-5)


def test_models_that_do_not_go_together_are_refused(run, tokenizer):
    save_model(run.parent / "eyes", make_model(tokenizer), Processor(tokenizer, VISION, PROJECTOR))
    with pytest.raises(UsageError, match="is no checkpoint of the same model: architectures is"):
        combine(context(run, models=models(("pretrain", 1), (str(run.parent / "eyes"), 1))))


def test_models_that_see_sit_the_exam_before_and_after(run, tokenizer):
    processor = Processor(tokenizer, VISION, PROJECTOR)
    for number, name in enumerate(("instruct", "medical")):
        save_model(run / name / "model", shake(make_model(tokenizer), number, 0.02), processor)
    config = toyworld.ToyworldConfig(exam_test=12, exam_twohop=3, image_size=32)
    toyworld._build_exam(config, run / "data" / "exam")
    figures = combine(context(run, models=models(("instruct", 1), ("medical", 1)), exam=True))
    for name in ("instruct", "medical", "combined"):
        assert figures["scores"][name]["exam"]["exam_paper"]["image"]["n"] > 5
    assert figures["scores"]["combined"]["exam"]["model"] == "combined"
