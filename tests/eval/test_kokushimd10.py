"""KokushiMD-10: a made sample of the layout that the publisher's scorer reads."""

import json

import pytest
from jvlm_data.kokushimd10.convert import convert
from made_tasks import _kokushimd10, write

from jvlm.errors import DataError
from jvlm.eval.exam import is_correct, score_exam
from jvlm.eval.items import load_items
from jvlm.eval.pass_rules import load_pass_rules
from jvlm.files import read_json_lines


def test_papers_become_items(tmp_path):
    _kokushimd10(tmp_path / "in")
    assert convert(tmp_path / "in", tmp_path / "out")["errors"] == 0
    items = {item.id: item for item in load_items(tmp_path / "out" / "items.jsonl")}
    assert {item.exam for item in items.values()} == {"114", "nurse-2020", "radiological-2020", "pharmacist-2020"}
    assert all(load_pass_rules().of(item.exam) for item in items.values())
    first = items["physician-2020-A1"]
    assert (first.accept, first.labels, first.points) == ([["a"]], list("abcde"), 1)
    assert [path.rpartition("/")[2] for path in first.images] == ["physician-2020-A-a0.png"]
    assert items["physician-2020-A17"].accept == [["b", "d"]]
    assert items["physician-2020-A17"].n_select == 2
    assert (items["physician-2020-B1"].required, first.required) == (True, False)
    assert items["nurse-2020-A25"].required
    assert not items["nurse-2020-A29"].required
    assert items["pharmacist-2020-A11"].required
    assert items["pharmacist-2020-A11"].tags == ["field=物理"]
    assert items["physician-2020-A5"].kinki == ["e"]
    assert items["physician-2020-A29"].excluded == "all"
    number = items["physician-2020-A21"]
    assert (number.answer_type, is_correct(number, ["21"]), is_correct(number, ["12"])) == ("numeric", True, False)


def row(**changes):
    made = {"index": "1", "question": "どれか。", "choices": {"1": "甲", "2": "乙"}, "answer": "2", "points": 1}
    return made | {"text_only": True} | changes


def paper(folder, rows, name="歯科_2021_c"):
    write(folder / "exams/JA/歯科" / f"{name}.json", json.dumps(rows))
    return folder


def test_the_dentists_parts(tmp_path):
    rows = [row(index=str(i), points="3" if i > 45 else 1) for i in (20, 21, 45, 46)]
    rows += [row(index="50-1"), row(index="50-2")]
    convert(paper(tmp_path / "in", rows), tmp_path / "out")
    items = load_items(tmp_path / "out" / "items.jsonl")
    assert [item.required for item in items] == [True] + [False] * 5
    assert [item.tags for item in items[:4]] == [[], ["domain=A"], ["domain=A"], ["domain=B"]]
    assert items[4].group_id == items[5].group_id != items[3].group_id
    rule = load_pass_rules().of(items[0].exam)
    sheet = score_exam(items, {item.id: ["2"] for item in items}, rule)
    assert (sheet.parts["domain=A"].points, sheet.parts["domain=B"].points) == (2, 5)


BAD = {
    "no key": (row(index="2", answer=""), "the key names no answer"),
    "no index": (row(index="x"), "is no number"),
    "picture absent": (row(index="2", text_only=False, images=["x.png"]), "0 pictures are called x.png"),
    "picture not named": (row(index="2", text_only=False), "names none in images"),
    "asks for two": (row(index="2", question="2つ選べ。"), "asks for 2"),
    "choices in a list": (row(index="2", choices=["甲", "乙"]), "field 'choices' is no object"),
    "a field missing": ({"index": "2", "question": "どれか。"}, "expected index, question, choices"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_recorded_with_what_was_expected(tmp_path, name):
    bad, told = BAD[name]
    assert convert(paper(tmp_path / "in", [row(), bad]), tmp_path / "out")["errors"] == 1
    (fault,) = read_json_lines(tmp_path / "out" / "errors.jsonl")
    assert fault["where"].endswith("歯科_2021_c.json:2")
    assert told in fault["error"]


def test_no_exam_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"医師_2020_a.json …, lists of records with index"):
        convert(paper(tmp_path / "in", [row()], "歯科2021"), tmp_path / "out")
