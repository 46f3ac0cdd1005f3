"""JMMMU: made tables of the published layout, and the real examples of its site."""

import json

import pyarrow
import pytest
from jvlm_data.jmmmu.convert import convert
from made_tasks import THINGS, _jmmmu, jmmmu_rows
from pyarrow import parquet
from tiny import encoded_image

from jvlm.errors import DataError
from jvlm.eval.items import exam_sample, load_items
from jvlm.eval.jmmmu import load_jmmmu
from jvlm.files import read_json_lines


def test_tables_become_items_with_pictures_in_their_places(tmp_path):
    _jmmmu(tmp_path / "in")
    counts = convert(tmp_path / "in", tmp_path / "out")
    assert (counts["items"], counts["errors"]) == (2 * len(THINGS), 0)
    items = {item.id: item for item in load_items(tmp_path / "out" / "items.jsonl")}
    two = items["test_Pharmacy_1"]
    assert (two.exam, two.accept, two.labels) == ("jmmmu", [["A"]], ["A", "B", "C", "D"])
    assert set(two.tags) == {"field=Pharmacy", "culture_agnostic"}
    assert "culture_specific" in items["test_Japanese_Art_1"].tags
    sample = exam_sample(two, prompt=load_jmmmu().prompt)
    first, second = (encoded_image(n) for n in (1, 2))
    assert [image.read() for image in sample.images] == [first, second]
    assert sample.messages[0].content == [
        1,
        "のPharmacyりんごは？\nA. りんご0甲\nB. りんご0乙\nC. ",
        0,
        "\nD. りんご0丁\n\n与えられた選択肢の中から最も適切な回答のアルファベットを直接記入してください。",
    ]
    blind = exam_sample(two, False, load_jmmmu().prompt)
    assert blind.images == []
    assert blind.messages[0].content == [blind.messages[0].text]
    opened = items["test_Pharmacy_6"]
    assert (opened.answer_type, opened.options, opened.accept) == ("open", [], [["なし5"]])
    said = exam_sample(opened, prompt=load_jmmmu().prompt).messages[0].text
    assert said == "のPharmacyなしは？\n\n質問に対する回答を単語や短いフレーズで記入してください。"


def table(folder, rows):
    folder.mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "test-0.parquet")


BAD = {
    "no image": ({"question": "<image 3>は？"}, "image 3 is named"),
    "no list": ({"options": "甲, 乙"}, "options is no list"),
    "letter that is none": ({"answer": "F"}, "which is no choice"),
    "odd id": ({"id": "Pharmacy"}, "not of the form"),
    "no question": ({"question": ""}, "field 'question' has no text"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_recorded(tmp_path, name):
    change, told = BAD[name]
    rows = jmmmu_rows("Pharmacy")[:3]
    table(tmp_path / "in" / "Pharmacy", [*rows, rows[1] | {"id": "test_Pharmacy_99"} | change])
    assert convert(tmp_path / "in", tmp_path / "out")["errors"] == 1
    (fault,) = read_json_lines(tmp_path / "out" / "errors.jsonl")
    assert (fault["where"], told in fault["error"]) == ("Pharmacy/test-0.parquet:4", True)


def test_another_layout_is_told_what_was_expected(tmp_path):
    rows = [{name: row[name] for name in ("id", "question", "answer")} for row in jmmmu_rows("Music")]
    table(tmp_path / "in" / "Music", rows)
    with pytest.raises(DataError, match=r"columns missing: options, question_type, image_1.*expected id, question"):
        convert(tmp_path / "in", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no question found.*parquet with id, question"):
        convert(tmp_path / "empty", tmp_path / "out")


def test_of_several_accepted_answers_each_counts(tmp_path):
    row = jmmmu_rows("Music")[5] | {"answer": "['3', '三']"}
    table(tmp_path / "in" / "Music", [row])
    convert(tmp_path / "in", tmp_path / "out")
    (item,) = load_items(tmp_path / "out" / "items.jsonl")
    assert item.accept == [["3"], ["三"]]


@pytest.mark.shared
def test_the_examples_of_the_site(data_root, tmp_path):
    source = data_root / "evals" / "jmmmu_examples"
    if not source.is_dir():
        pytest.skip(f"{source} does not exist")
    assert convert(source, tmp_path / "out") == {"items": 9, "images": 9, "errors": 0}
    rows = {row["id"]: row for row in map(json.loads, (source / "items.jsonl").open(encoding="utf-8"))}
    for item in load_items(tmp_path / "out" / "items.jsonl"):
        assert [option.text for option in item.options] == [str(text).strip() for text in rows[item.id]["options"]]
        assert len(exam_sample(item).images) == 1
    specific = [i for i in load_items(tmp_path / "out" / "items.jsonl") if "culture_specific" in i.tags]
    assert len(specific) == 4
