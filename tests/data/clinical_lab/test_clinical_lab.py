"""Exams for clinical laboratory technologists: a made sample of the layout, and the counts of the real one."""

import json

import pytest
from jvlm_data.clinical_lab.convert import convert
from tiny import encoded_image

from jvlm.errors import DataError
from jvlm.eval.exam import score_exam
from jvlm.eval.items import load_items
from jvlm.files import read_json_lines

CHOICES = ["赤", "青", "白", "黒", "緑"]
HEAD = "次の文により 5、6 の問いに答えよ。\n架空の標本(別冊No.1)を別に示す。\n何色はどれか。"


def question(number, text="正しいのはどれか。", answer=(3,), session="am", **more):
    row = {"id": f"58{session}{number}", "exam": 58, "session": session, "number": number, "question": text}
    row |= {"choices": CHOICES, "choice_images": None, "images": [], "answer": list(answer)}
    return row | {"n_select": len(answer), "flags": []} | more


ROWS = [
    question(1),
    question(2, "正しいのはどれか。２つ選べ。", [5, 2]),
    question(3, images=["images/a.png"]),
    question(
        4, choices=["", "", "1", "", "2"], choice_images=["images/b.png", "images/a.png", None, "images/c.png", None]
    ),
    question(5, HEAD, images=["images/c.png"]),
    question(6, "矢印はどれか。"),
    question(1, session="pm"),
]
BAD = {
    "flagged": question(9, flags=["image_missing_in_snapshot"]),
    "too few in the key": question(9, "どれか。2つ選べ。", [2]),
    "too many in the key": question(9, answer=[2, 4]),
    "image absent": question(9, images=["images/nowhere.png"]),
    "image unreadable": question(9, images=["images/cut.png"]),
    "picture of a choice absent": question(9, choice_images=["images/nowhere.png", None, None, None, None]),
    "no choices": question(9, choices=[]),
    "empty choice": question(9, choices=["赤", " ", "白"]),
    "pictures of other choices": question(9, choice_images=["images/a.png"]),
    "answer beyond the choices": question(9, answer=[6]),
    "no answer": question(9, answer=[]),
    "no session": question(9, session="night"),
    "no text": question(9, ""),
    "not a list": question(9, flags=None),
    "answer is no number": question(9, answer=[None]),
    "pictures are no list": question(9, choice_images=5),
    "half a surrogate pair": question(9, "どれか。\ud800"),
    "two rows of one id": question(1),
}


def layout(folder, rows):
    (folder / "images").mkdir(parents=True)
    for number, name in enumerate("abc"):
        (folder / "images" / f"{name}.png").write_bytes(encoded_image(number))
    (folder / "images" / "cut.png").write_bytes(encoded_image(1)[:100])
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "questions.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_a_made_paper_becomes_items(tmp_path):
    assert convert(layout(tmp_path / "in", ROWS), tmp_path / "out") == {"items": 7, "images": 3, "errors": 0}
    items = {item.id: item for item in load_items(tmp_path / "out" / "items.jsonl")}
    first = items["58am1"]
    assert (first.exam, first.section, first.number) == ("clinical_lab-58", "am", 1)
    assert (first.points, first.required, first.labels) == (1, False, list("12345"))
    assert first.accept == [["3"]]
    assert (items["58am2"].n_select, items["58am2"].accept) == (2, [["2", "5"]])
    assert [path.rpartition("/")[2] for path in items["58am3"].images] == ["a.png"]
    drawn = items["58am4"].options
    assert [option.image and option.image.rpartition("/")[2] for option in drawn] == [
        "b.png",
        "a.png",
        None,
        "c.png",
        None,
    ]
    assert items["58pm1"].section == "pm"


def test_the_second_question_of_a_case_sees_its_picture(tmp_path):
    convert(layout(tmp_path / "in", ROWS), tmp_path / "out")
    items = {item.id: item for item in load_items(tmp_path / "out" / "items.jsonl")}
    head, member = items["58am5"], items["58am6"]
    assert head.group_id == member.group_id == "58am5"
    assert head.shared_text == member.shared_text == HEAD.removesuffix("何色はどれか。")
    assert head.images == member.images
    assert (head.tags, member.tags) == ([], ["case_image"])


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_recorded_with_its_line(tmp_path, name):
    counts = convert(layout(tmp_path / "in", [question(1), BAD[name]]), tmp_path / "out")
    assert counts == {"items": 1, "images": 0, "errors": 1}
    (fault,) = read_json_lines(tmp_path / "out" / "errors.jsonl")
    assert fault["where"] == ("questions.jsonl:2" if "two rows" not in name else "58am1")
    assert fault["error"]


def test_a_folder_without_the_layout_says_what_to_put_there(tmp_path):
    with pytest.raises(DataError, match=r"questions\.jsonl.*saneatu4060/mt-learning-app"):
        convert(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_pictures_of_one_name_are_refused(tmp_path):
    folder = layout(tmp_path / "in", [question(1, images=["images/a.png"]), question(2, images=["a.png"])])
    (folder / "a.png").write_bytes(encoded_image(5))
    with pytest.raises(DataError, match="same file name"):
        convert(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.shared
def test_the_real_papers_are_the_questions_without_a_flag(data_root, tmp_path):
    source = data_root / "evals" / "clinical_lab"
    if not source.is_dir():
        pytest.skip(f"{source} does not exist")
    counts = convert(source, tmp_path / "out")
    items = load_items(tmp_path / "out" / "items.jsonl")
    rows = read_json_lines(source / "questions.jsonl")
    assert counts == {"items": 394, "images": 62, "errors": 6}
    assert {item.id for item in items} == {row["id"] for row in rows if not row["flags"]}
    assert [sum(item.exam == f"clinical_lab-{exam}" for item in items) for exam in (58, 60)] == [197, 197]
    # 56 are named by the file; 58pm49 and 60am71 ask about the picture of the question before, and get it here
    shown = [item for item in items if item.images or any(option.image for option in item.options)]
    assert len(shown) == 56 + 2
    assert [item.id for item in items if "case_image" in item.tags] == ["58pm49", "60am71"]
    assert [item.n_select for item in items] == [row["n_select"] for row in rows if not row["flags"]]
    key = {row["id"]: [str(number) for number in row["answer"]] for row in rows if not row["flags"]}
    sheet = score_exam(items, key, 0.6)
    assert (sheet.all.points, sheet.all.total, sheet.passed) == (394, 394, True)
