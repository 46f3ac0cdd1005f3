"""JMed48k: a made sample of the published layout."""

import json

import pytest
from jvlm_data.jmed48k.convert import convert
from made_tasks import _jmed48k, _pictures, write

from jvlm.errors import DataError
from jvlm.eval.exam import picture_kind
from jvlm.eval.items import exam_sample, load_items
from jvlm.eval.pass_rules import load_pass_rules
from jvlm.files import read_json_lines


def test_papers_become_items(tmp_path):
    _jmed48k(tmp_path / "in")
    assert convert(tmp_path / "in", tmp_path / "out")["errors"] == 0
    items = {item.id: item for item in load_items(tmp_path / "out" / "items.jsonl")}
    assert {item.exam for item in items.values()} == {"115", "clinical_lab-2021", "jmed48k_nurse-2021"}
    assert load_pass_rules().of("jmed48k_nurse-2021") is None  # its points are not known
    first = items["physician-2021-A1"]
    assert (first.accept, first.labels) == ([["1"]], list("12345"))
    assert picture_kind(first) == "image"
    assert items["clinical_lab-2021-B5"].section == "B"
    assert items["physician-2021-E49"].points == 3
    assert (items["physician-2021-A17"].accept, items["physician-2021-A17"].n_select) == ([["2", "4"]], 2)
    six, seven = items["physician-2021-A25"], items["physician-2021-A29"]
    assert six.group_id == seven.group_id != first.group_id
    assert six.shared_text == "共通の文。\n"
    each = items["physician-2021-A13"]
    assert [bool(option.image) for option in each.options] == [True] * 5
    assert len(exam_sample(each).images) == 5 + len(each.images)
    together = items["physician-2021-A37"]
    assert [option.image for option in together.options] == [None] * 5
    assert [option.text for option in together.options] == list("12345")
    assert [path.rpartition("-")[2] for path in together.pictures] == ["A9.png", "1.png"]  # A9.png, A9-1.png
    assert "options_drawn" in each.tags
    assert exam_sample(each, False).images == exam_sample(together, False).images == []


def row(**changes):
    made = {"question_number": 1, "section": "AM", "question_text": "どれか。", "options": {"1": "甲", "2": "乙"}}
    return made | {"correct_answer": ["2"], "text_only": True, "img": {}} | changes


def paper(folder, rows, name="03_PHN"):
    write(folder / "JMed48k-eval" / name / "x_2022" / "q.json", json.dumps({"questions": rows}))
    return folder


BAD = {
    "withdrawn": (row(question_number=2, correct_answer=[]), "the key names no answer"),
    "asks for two": (row(question_number=2, question_text="2つ選べ。"), "asks for 2"),
    "two for one": (row(question_number=2, correct_answer=["1", "2"]), "asks for 1"),
    "picture absent": (row(question_number=2, img={"content_img": ["x.png"]}), "image not found: x.png"),
    "no picture named": (row(question_number=2, text_only=False), "img names none"),
    "an option of nothing": (row(question_number=2, options={"1": "甲", "2": ""}), "neither text nor picture"),
    "picture outside": (row(question_number=2, img={"content_img": "../../../x.png"}), "leads out of the folder"),
    "a field missing": ({"question_number": 2}, "expected question_number, section"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_recorded_with_what_was_expected(tmp_path, name):
    bad, told = BAD[name]
    assert convert(paper(tmp_path / "in", [row(), bad]), tmp_path / "out")["errors"] == 1
    (fault,) = read_json_lines(tmp_path / "out" / "errors.jsonl")
    assert fault["where"].endswith("q.json:2")
    assert told in fault["error"]


def test_pictures_are_found_where_their_names_say(tmp_path):
    rows = [row(img={"content_img": "a.png"}), row(question_number=2, img={"content_img": ["s/b.png"]})]
    folder = paper(tmp_path / "in", rows)
    _pictures(folder / "JMed48k-eval/03_PHN/x_2022", ["a.png"])
    _pictures(folder / "JMed48k-eval/03_PHN/x_2022/s", ["b.png"])
    assert convert(folder, tmp_path / "out") == {"items": 2, "images": 2, "errors": 0}


def test_numbers_and_no_exam(tmp_path):
    number = row(options={}, correct_answer=["1", "3"], question_text="値を求めよ。")
    convert(paper(tmp_path / "in", [number]), tmp_path / "out")
    (item,) = load_items(tmp_path / "out" / "items.jsonl")
    assert (item.answer_type, item.accept) == ("numeric", [["13"]])
    with pytest.raises(DataError, match=r"no exam found.*question_number"):
        convert(paper(tmp_path / "other", [row()], "12_Other"), tmp_path / "out2")
