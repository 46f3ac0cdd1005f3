"""IgakuQA119: a made sample of the published layout, and the published gradings on the real one."""

import csv
import json

import pytest
from jvlm_data.igakuqa119.convert import convert, repeated_cases
from tiny import encoded_image

from jvlm.errors import DataError
from jvlm.eval.exam import is_correct, score_exam
from jvlm.eval.items import load_items
from jvlm.eval.pass_rules import load_pass_rules
from jvlm.files import read_json, read_json_lines

CHOICES = ["a. 赤", "b. 青", "c. 白", "d. 黒", "e.緑"]
CASE = "架空の人。色がわからないと言って来た。見たものは赤い丸と青い四角と白い星と黒い三角と緑の輪である。"


def question(name, text="正しいのはどれか。 ", choices=CHOICES, has_image=False):
    return {"number": name, "question": text, "choices": list(choices), "has_image": has_image}


ROWS = {
    "119E1": (question("119E1"), "a"),
    "119E2": (question("119E2", "正しいのはどれか。2つ選べ。 "), "eb"),
    "119E3": (question("119E3", has_image=True), "b"),
    "119E4": (question("119E4"), "b"),
    "119E5": (question("119E5", "値を求めよ。", []), "600"),
    "119E28": (question("119E28"), "ac"),
    "119E30": (question("119E30", choices=["a. 赤", "b. 青 c白", "d. 黒", "e. 緑"]), "d"),
    "119E31": (question("119E31", "どれか。 a「赤」 b「青」 C「白」 d「黒」 e「緑」", []), "c"),
    "119E40": (question("119E40", CASE + " 何色はどれか。 "), "c"),
    "119E41": (question("119E41", CASE + "翌日も来た。何色はどれか。 "), "d"),
    "119E42": (question("119E42", "色のない人。" + CASE), "d"),
}
BAD = {
    "119A1": (question("119A1", has_image=True), "a"),
    "119A2": (question("119A2", " "), "a"),
    "119A3": (question("119A3", choices=[]), "a"),
    "119A4": (question("119A4", choices=["a. 赤", "b. 青", "d. 黒", "e. 緑"]), "c"),
    "119A5": (question("119A5"), "ab"),
    "119A6": (question("119A6", "どれか。2つ選べ。"), "a"),
    "119A7": (question("119A7", choices=["赤", "青"]), "a"),
    "119A8": (question("119A8", choices=["a. 赤", "a. 青"]), "a"),
    "119A9": (question("119A9"), None),
    "119A10": ({"number": "119A10", "question": "どれか。"}, "a"),
    "119A11": (question("119A11", has_image=True), "a"),
    "A12": (question("A12"), "a"),
}


def published(folder, rows, block="E"):
    for name in ("questions", "results", "images"):
        (folder / name).mkdir(parents=True)
    text = json.dumps([row for row, _ in rows.values()], ensure_ascii=False)
    (folder / "questions" / f"119{block}_json.json").write_text(text, encoding="utf-8")
    lines = ["問題番号,解答"] + [f"{name},{answer}" for name, (_, answer) in rows.items() if answer]
    (folder / "results" / "correct_answers.csv").write_text("\r\n".join(lines) + "\r\n", encoding="utf-8-sig")
    for number, name in enumerate(("119E3-10.png", "119E3-2.png", "119E4.png")):
        (folder / "images" / name).write_bytes(encoded_image(number))
    (folder / "images" / "119A11.png").write_bytes(encoded_image(1)[:100])
    (folder / "images" / "notes.txt").write_text("no picture of a question")
    return folder


def test_a_made_paper_becomes_items(tmp_path):
    counts = convert(published(tmp_path / "in", ROWS), tmp_path / "out")
    assert counts == {"items": len(ROWS), "images": 3, "errors": 0}
    items = {item.id: item for item in load_items(tmp_path / "out" / "items.jsonl")}
    first = items["119E1"]
    assert (first.exam, first.section, first.number, first.points, first.required) == ("119", "E", 1, 1, True)
    assert first.stem == "正しいのはどれか。"
    assert [(option.label, option.text) for option in first.options][::4] == [("a", "赤"), ("e", "緑")]
    assert first.tags == []
    assert (items["119E2"].n_select, items["119E2"].accept) == (2, [["b", "e"]])
    assert [path.rpartition("/")[2] for path in items["119E3"].images] == ["119E3-2.png", "119E3-10.png"]
    assert items["119E4"].tags == ["image_unmarked"]
    assert (items["119E5"].answer_type, items["119E5"].accept) == ("numeric", [["600"]])
    assert (items["119E28"].accept, items["119E28"].n_select) == ([["a"], ["c"]], 1)
    assert items["119E28"].points == 3
    assert (items["119E30"].labels, items["119E30"].tags) == (list("abde"), ["options_merged"])
    inline = items["119E31"]
    assert (inline.stem, inline.labels, inline.options[2].text) == ("どれか。", list("abcde"), "「白」")


def test_a_repeated_case_is_shared(tmp_path):
    convert(published(tmp_path / "in", ROWS), tmp_path / "out")
    items = {item.id: item for item in load_items(tmp_path / "out" / "items.jsonl")}
    assert [items[f"119E4{n}"].group_id for n in range(3)] == ["119E40", "119E40", "119E42"]
    assert items["119E40"].shared_text == items["119E41"].shared_text == CASE
    assert items["119E41"].stem == "翌日も来た。何色はどれか。"


def test_a_question_repeated_by_the_next_one_keeps_its_own_text():
    first = CASE + "E49見えるのはどれか。"
    cases = repeated_cases([("1", first), ("2", first + " 次はどれか。")])
    assert cases["1"] == cases["2"]
    assert cases["1"].text == CASE


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_recorded(tmp_path, name):
    rows = {"119A20": (question("119A20"), "a"), name: BAD[name]}
    counts = convert(published(tmp_path / "in", rows, "A"), tmp_path / "out")
    assert counts == {"items": 1, "images": 0, "errors": 1}
    (fault,) = read_json_lines(tmp_path / "out" / "errors.jsonl")
    assert fault["where"] == f"questions/119A_json.json:{name}"
    assert fault["error"]


def test_a_case_whose_question_is_lost_is_recorded(tmp_path):
    rows = {"119E41": (question("119E41", CASE), "a"), "119E42": (question("119E42", CASE + "何色はどれか。"), "b")}
    assert convert(published(tmp_path / "in", rows), tmp_path / "out")["errors"] == 1
    (item,) = load_items(tmp_path / "out" / "items.jsonl")
    assert (item.group_id, item.shared_text, item.stem) == ("119E41", CASE, "何色はどれか。")


def test_a_folder_without_the_layout_says_what_to_put_there(tmp_path):
    with pytest.raises(DataError, match="docto-rin/IgakuQA119"):
        convert(tmp_path, tmp_path / "out")
    folder = published(tmp_path / "in", ROWS)
    (folder / "questions" / "119E_json.json").write_text("[{")
    with pytest.raises(DataError, match="not readable as JSON"):
        convert(folder, tmp_path / "out")
    (folder / "results" / "correct_answers.csv").write_text("number,answer\n1,a\n")
    with pytest.raises(DataError, match="問題番号"):
        convert(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- the real set -----------------------------------------------------------------------------------------------

LEFT_OUT = ("119A22", "119C15", "119C18", "119C22", "119E41")
ON_THE_BOARD = {
    "CA-DSR1-DQ32B-JP-base": "CA-DSR1-DQ32B-JP",
    "CA-DSR1-DQ32B-JP-cpt": "CA-DSR1-DQ32B-JP-CPT",
    "CA-DSR1-DQ32B-JP-sft": "CA-DSR1-DQ32B-JP-SFT",
    "pfn-medllm-qwen-72b": "Preferred-MedLLM-Qwen-72B",
    "qwen2_5-72b": "Qwen2.5-72B",
}


@pytest.fixture(scope="module")
def real(data_root, tmp_path_factory):
    """(published folder, items by id, counts, rows of errors.jsonl)."""
    source, out = data_root / "evals" / "igakuqa119", tmp_path_factory.mktemp("igakuqa119") / "out"
    if not source.is_dir():
        pytest.skip(f"{source} does not exist")
    counts = convert(source, out)
    items = {item.id: item for item in load_items(out / "items.jsonl")}
    return source, items, counts, read_json_lines(out / "errors.jsonl")


@pytest.mark.shared
def test_the_real_paper_but_for_its_known_faults(real):
    _, items, counts, faults = real
    assert counts == {"items": 395, "images": 147, "errors": 5}
    assert tuple(fault["where"].rpartition(":")[2] for fault in faults) == LEFT_OUT
    assert sum(bool(item.images) for item in items.values()) == 101  # 102 but for A22
    assert [name for name, item in items.items() if item.tags] == ["119C5", "119C19", "119C67"]
    required = sum(item.points for item in items.values() if item.required)
    general = sum(item.points for item in items.values() if not item.required)
    assert (required, general) == (200 - 3, 300 - 4)  # E41; A22, C15, C18, C22
    groups = [sum(other.group_id == name for other in items.values()) for name in items]
    assert [groups.count(2), groups.count(3)] == [9, 10]  # E42 is the case of E41 that is left
    rule = load_pass_rules().papers["119"]
    assert (rule.paper, rule.needs) == (500, {"required": "80%", "general": "221/300"})


def marks(item, answer):
    """The publisher's `src/grading_logic.py`: lower case, without brackets, commas and spaces, letters sorted."""
    bare = "".join(sorted(answer.strip().lower().translate(str.maketrans("", "", "[], "))))
    if not bare:
        return None
    return [answer.strip()] if item.answer_type == "numeric" else list(bare)


@pytest.mark.shared
@pytest.mark.parametrize("model", ON_THE_BOARD)
def test_every_answer_is_graded_as_published_and_the_total_is_the_leaderboards(real, model):
    source, items, _, _ = real
    path = source / "results" / "demo" / f"119_{model}_grading_results.csv"
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = {row["question_number"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(items) | set(LEFT_OUT)
    answers = {name: marks(item, rows[name]["model_answer"]) for name, item in items.items()}
    for name, item in items.items():
        published = rows[name]
        right = is_correct(item, answers[name])
        assert right == (published["is_correct"] == "True"), name
        assert (item.points * right, item.points) == (int(published["score"]), int(published["possible"])), name
        assert item.required == (published["is_required"] == "True"), name
    sheet = score_exam(list(items.values()), answers, 0.7)
    # what was left out is added as published: 7 points, so that the totals can be those of all 400 questions
    points = sheet.all.points + sum(int(rows[name]["score"]) for name in LEFT_OUT)
    correct = sheet.all.correct + sum(rows[name]["is_correct"] == "True" for name in LEFT_OUT)
    board = read_json(source / "results" / "leaderboard.json")[ON_THE_BOARD[model]]
    assert (points, correct) == (board["overall_score"], board["overall_correct"])
    assert sheet.all.total + 7 == board["overall_possible_score"]
