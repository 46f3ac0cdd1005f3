"""The page of `jvlm eval`: figures beside published ones, wrong answers with their pictures, nothing that is markup."""

from dataclasses import replace
from pathlib import Path

import pytest
from exam_folder import exam_items, write_exam
from examinees import Oracle
from made_tasks import build_all
from page_tags import HOSTILE, Tags
from players import Player, constant, oracle

from jvlm.eval.exams import evaluate_exam_set
from jvlm.eval.items import load_items
from jvlm.eval.page_results import render_results
from jvlm.eval.paired import Said
from jvlm.eval.references import differences, load_references
from jvlm.eval.task import load_task, prepare, task_names
from jvlm.eval.text_tasks import evaluate_task
from jvlm.eval.wrong_answers import SHOWN, wrong_in_exams, wrong_in_task


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return build_all(tmp_path_factory.mktemp("made"))


def evaluated(name, data, out, choose, split=None):
    task = load_task(name)
    task = task if split is None else task.model_copy(update={"split": split})
    items, _ = prepare(task, data)
    result = evaluate_task(Player(task, items, choose(task)), task, data, out, name="m")
    return result, wrong_in_task(task, items, out / result["records"])


def test_wrong_answers_stand_there_with_their_pictures_and_right_ones_do_not(data, tmp_path):
    result, wrong = evaluated("vqa_rad", data, tmp_path, lambda task: constant(f"no {HOSTILE}"))
    items, _ = prepare(load_task("vqa_rad"), data)
    assert [answer.id for answer in wrong] == [item.id for item in items][:SHOWN]
    assert [answer.pictures for answer in wrong] == [item.images for item in items][:SHOWN]
    page = render_results("m", {"vqa_rad": result}, {"vqa_rad": wrong})
    parsed = Tags(page)
    assert parsed.open == []
    assert HOSTILE in parsed.text
    assert HOSTILE not in page
    pictures = [attributes["src"] for tag, attributes in parsed.tags if tag == "img"]
    assert len(pictures) == len(wrong)
    assert all(str(source).startswith("data:image/png;base64,") for source in pictures)
    assert "no picture" in page
    assert evaluated("vqa_rad", data, tmp_path / "right", oracle)[1] == []
    assert evaluated("jsts", data, tmp_path, lambda task: constant(5.0))[1] == []  # not right or wrong


def test_published_figures_say_what_differs(data, tmp_path):
    same, _ = evaluated("jcommonsenseqa@sh-0.3", data, tmp_path, oracle, split="valid")
    page = render_results("m", {"jcommonsenseqa@sh-0.3": same}, {})
    assert "Llama-2-13B: 74.9%" in page
    assert page.count("same settings") == 1
    assert page.index("Llama-2-13B") < page.index("open-calm-3b")
    assert "NEC 13B: 81.1%" in page
    assert "&gt; 60.0%" in page or "> 60.0%" in page
    (nec,) = [one for one in load_references() if one.model == "NEC 13B" and one.task == "jcommonsenseqa"]
    assert differences(nec, same) == ["prompt not stated", "split not stated", "shots from not stated"]
    other, _ = evaluated("jcommonsenseqa", data, tmp_path, oracle)
    page = render_results("m", {"jcommonsenseqa": other}, {})
    assert "same settings" not in page
    assert "prompt sh-0.3, split valid" in page


def test_references_are_of_tasks_and_metrics_that_there_are():
    for one in load_references():
        assert one.task in task_names()
        task = load_task(one.task)
        assert one.metric == "accuracy" if task.request == "choices" else one.metric in task.metrics


def test_exams_stand_there_too(tmp_path):
    folder = write_exam(tmp_path / "made", exam_items("112", 60))
    items = load_items(folder / "items.jsonl")
    ignorant = [item.id for item in items[::3]]
    results = evaluate_exam_set(Oracle(items, ignorant=ignorant), folder, tmp_path / "out", name="m")
    wrong = wrong_in_exams(folder, Said(tmp_path / "out", "m"))
    counted = [item for item in items if item.id in ignorant and item.excluded != "all"]
    assert [answer.id for answer in wrong["112"]] == [item.id for item in counted][:SHOWN]
    pictured = [answer for answer in wrong["112"] if answer.pictures]
    assert pictured
    page = render_results("m", results, wrong)
    assert Tags(page).open == []
    assert "合格" in page
    assert counted[0].stem in page
    assert page.count("<img") == sum(len(answer.pictures) for answer in wrong["112"])
    assert render_results("m", results, {"112": [replace(wrong["112"][0], pictures=[])]}).count("<img") == 0
