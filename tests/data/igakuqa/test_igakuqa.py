"""IgakuQA: a made sample of the published layout, and the published predictions on the real one."""

import json

import pytest
from jvlm_data.igakuqa.convert import EVERY_ANSWER_RIGHT, convert

from jvlm.errors import DataError
from jvlm.eval.exam import score_exam
from jvlm.eval.items import load_items
from jvlm.eval.pass_rules import load_pass_rules
from jvlm.files import read_json_lines

CHOICES = ["赤", "青", "白", "黒", "緑"]
HEAD = "次の文を読み、42、43の問いに答えよ。架空の人。画像を別に示す。何色に見えるのはどれか。"


def question(name, text="正しいのはどれか。", answer=("a",), points="1", choices=CHOICES, text_only=True):
    return {
        "problem_id": name,
        "problem_text": text,
        "choices": list(choices),
        "text_only": text_only,
        "answer": list(answer),
        "points": points,
    }


ROWS = [
    question("200B1"),
    question("200B2", "正しいのはどれか。2つ選べ。", ["c", "a"]),
    question("200B3", "正しいのはどれか。", ["a or d"]),
    question("200B30", points="3", text_only=False),
    question("200B31", points="0"),
    question("200B42", HEAD, points="3", text_only=False),
    question("200B43", "次に選ぶのはどれか。", ["e"], points="3"),
    question("200B44", "値を求めよ。解答：①②mg", ["26"], choices=[]),
    question("200B45", "値を求めよ。解答：1, ①②③ kcal", ["130"], choices=[]),
    question("200B46", "値を求めよ。解答：①②.③/人", ["100"], choices=[]),
    question("200B47", "値を求めよ。解答：①.②③", ["7.20"], choices=[]),
    question("200B48", "組合せはどれか。\n\nａ\n高\n\nｂ\n低", ["b"], choices=["ａ", "　"]),
    question("200B49", choices=[*CHOICES, "紫", "茶", "灰"], answer=["h"]),
]
BAD = {
    "200C1": question("200C1", "正しいのはどれか。2つ選べ。", ["a"]),
    "200C2": question("200C2", "正しいのはどれか。", ["a", "b"]),
    "200C3": question("200C3", choices=[]),
    "200C4": question("200C4", choices=["赤", "　", "白", "黒", "緑"]),
    "200C5": question("200C5", answer=["f"]),
    "200C6": question("200C6", points="2"),
    "200C7": question("200C7", text=" "),
    "200C8": question("200C8") | {"text_only": "yes"},
    "200C9": question("200C9", answer=[]),
    "200C10": question("200C10", choices=[*CHOICES, *CHOICES]),
    "200C11": {"problem_id": "200C11"},
    "200G1": question("200G1"),
}
TABOO = {"200B1": ["ｃ", " de"], "200B42": ["b", "e"]}


def published(folder, rows, taboo=TABOO, block="B", lines=()):
    (folder / "data" / "2000").mkdir(parents=True, exist_ok=True)
    path = folder / "data" / "2000" / f"200-{block}.jsonl"
    text = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join([*text, *lines]) + "\n", encoding="utf-8")
    metadata = [
        {"problem_id": row["problem_id"], "category": "色", "kinki": taboo.get(row["problem_id"], [])} for row in rows
    ]
    with open(path.with_name(f"200-{block}_metadata.jsonl"), "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in metadata)
    return folder


def test_a_made_paper_becomes_items(tmp_path):
    counts = convert(published(tmp_path / "in", ROWS), tmp_path / "out")
    assert counts == {"items": len(ROWS), "images": 0, "errors": 0}
    items = {item.id: item for item in load_items(tmp_path / "out" / "items.jsonl")}
    first = items["200B1"]
    assert (first.exam, first.section, first.number, first.group_id) == ("200", "B", 1, "200B1")
    assert first.labels == list("abcde")
    assert [option.text for option in first.options] == CHOICES
    assert (first.points, first.required, first.excluded) == (1, True, "none")
    assert first.kinki == ["c", "d", "e"], "zenkaku letters and letters run together"
    assert first.tags == ["category=色"]
    assert first.source == "github.com/jungokasai/IgakuQA"
    assert items["200B2"].n_select == 2
    assert items["200B2"].accept == [["a", "c"]]
    assert items["200B3"].accept == [["a"], ["d"]]
    assert items["200B30"].points == 3
    assert "image_missing" in items["200B30"].tags
    assert (items["200B31"].excluded, items["200B31"].points) == ("all", 3)
    assert [option.text for option in items["200B48"].options] == ["a", "b"], "the choices are rows of a table"
    assert items["200B49"].labels == list("abcdefgh")


def test_a_linked_case_is_shared_by_its_questions(tmp_path):
    convert(published(tmp_path / "in", ROWS), tmp_path / "out")
    items = {item.id: item for item in load_items(tmp_path / "out" / "items.jsonl")}
    head, member = items["200B42"], items["200B43"]
    assert head.group_id == member.group_id == "200B42"
    assert head.shared_text == member.shared_text
    assert head.shared_text + head.stem == HEAD
    assert (head.stem, member.stem) == ("何色に見えるのはどれか。", "次に選ぶのはどれか。")
    assert items["200B44"].group_id == "200B44"
    assert items["200B44"].shared_text == ""


def test_numbers_are_accepted_as_value_and_as_the_digits_marked(tmp_path):
    convert(published(tmp_path / "in", ROWS), tmp_path / "out")
    items = {item.id: item for item in load_items(tmp_path / "out" / "items.jsonl")}
    numbers = [item for item in items.values() if item.answer_type == "numeric"]
    assert [item.accept for item in numbers] == [[["26"]], [["1130"], ["130"]], [["10.0"], ["100"]], [["7.20"]]]


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_recorded_with_its_line(tmp_path, name):
    counts = convert(published(tmp_path / "in", [question("200C20"), BAD[name]], block="C"), tmp_path / "out")
    assert counts == {"items": 1, "images": 0, "errors": 1}
    (fault,) = read_json_lines(tmp_path / "out" / "errors.jsonl")
    assert fault["where"] == "data/2000/200-C.jsonl:2"
    assert fault["error"]


def test_broken_lines_taboo_answers_and_repeated_ids_are_recorded(tmp_path):
    rows = [question("200D1"), question("200D2"), question("200D1")]
    folder = published(tmp_path / "in", rows, {"200D2": ["a"]}, "D", ["{", "[1]"])
    with open(folder / "data/2000/200-D_metadata.jsonl", "w", encoding="utf-8") as file:
        for name, kinki in (("200D1", []), ("200D2", ["a"])):
            file.write(json.dumps({"problem_id": name, "category": "色", "kinki": kinki}) + "\n")
    assert convert(folder, tmp_path / "out") == {"items": 1, "images": 0, "errors": 4}
    places = [fault["where"].rpartition(":")[2] for fault in read_json_lines(tmp_path / "out" / "errors.jsonl")]
    assert sorted(places) == ["2", "200D1", "4", "5"]


def test_a_question_everybody_gets_right_accepts_every_choice(tmp_path):
    (name,) = EVERY_ANSWER_RIGHT
    convert(published(tmp_path / "in", [question(name, answer=["e"])], block="A"), tmp_path / "out")
    (item,) = load_items(tmp_path / "out" / "items.jsonl")
    assert item.accept == [["a"], ["b"], ["c"], ["d"], ["e"]]


def test_the_hash_is_of_the_content(tmp_path):
    for number, text in enumerate(("正しいのはどれか。", "正しいのはどれか。", "誤りはどれか。")):
        convert(published(tmp_path / f"in{number}", [question("200B1", text)]), tmp_path / f"out{number}")
    first, again, other = (load_items(tmp_path / f"out{n}" / "items.jsonl")[0].sha256 for n in range(3))
    assert first == again != other


def test_a_folder_without_the_layout_says_what_to_put_there(tmp_path):
    with pytest.raises(DataError, match="jungokasai/IgakuQA"):
        convert(tmp_path, tmp_path / "out")
    folder = published(tmp_path / "in", [question("200C3", choices=[])])
    with pytest.raises(DataError, match="no usable question"):
        convert(folder, tmp_path / "out")
    (folder / "data/2000/200-B_metadata.jsonl").unlink()
    with pytest.raises(DataError, match="taboo options stand there"):
        convert(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- the real set -----------------------------------------------------------------------------------------------

YEARS = {"112": "2018", "113": "2019", "114": "2020", "115": "2021"}
MODELS = ("gpt4", "chatgpt", "gpt3", "student-majority", "translate_chatgpt-en")
GPT4 = {"112": (161, 221), "113": (170, 215), "114": (168, 219), "115": (173, 225)}  # arXiv 2303.18027: 必修, general
POSSIBLE = {"112": (200, 299), "113": (200, 296), "114": (197, 299), "115": (200, 300)}


@pytest.fixture(scope="module")
def real(data_root, tmp_path_factory):
    """(published folder, items by round, counts)."""
    source, out = data_root / "evals" / "igakuqa", tmp_path_factory.mktemp("igakuqa") / "out"
    if not source.is_dir():
        pytest.skip(f"{source} does not exist")
    counts = convert(source, out)
    items = load_items(out / "items.jsonl")
    return source, {exam: [item for item in items if item.exam == exam] for exam in YEARS}, counts


def predictions(source, exam, model):
    """Published answers, already zenkaku → hankaku and lower case; cut at commas as the publisher's scorer does.

    It does not strip: 「a, b」 is ["a", " b"] and never right. So it stays here.
    """
    answers = {}
    for path in sorted((source / "baseline_results" / YEARS[exam]).glob(f"{exam}-?_{model}.jsonl")):
        for row in read_json_lines(path):
            answers[row["problem_id"]] = sorted(row["prediction"].split(","))
    return answers


@pytest.mark.shared
def test_the_real_papers_are_whole(real):
    _, papers, counts = real
    assert counts == {"items": 1600, "images": 0, "errors": 0}
    rules = load_pass_rules().papers
    for exam, items in papers.items():
        counted = [item for item in items if item.excluded == "none"]
        required = sum(item.points for item in counted if item.required)
        assert (required, sum(item.points for item in counted if not item.required)) == POSSIBLE[exam]
        assert rules[exam].needs["general"].endswith(f"/{POSSIBLE[exam][1]}")
        groups = [sum(other.group_id == item.id for other in items) for item in items]
        assert [groups.count(2), groups.count(3)] == [10, 10], "five cases each in B, E, C and F"
    everything = [item for items in papers.values() for item in items]
    assert sum("image_missing" in item.tags for item in everything) == 430
    assert sum(item.excluded == "all" for item in everything) == 7
    assert sum(item.answer_type == "numeric" for item in everything) == 9
    assert sum(bool(item.kinki) for item in everything) == 110


@pytest.mark.shared
@pytest.mark.parametrize("exam", YEARS)
def test_gpt4_gets_the_published_points(real, exam):
    source, papers, _ = real
    sheet = score_exam(papers[exam], predictions(source, exam, "gpt4"), load_pass_rules().papers[exam])
    assert (sheet.required.points, sheet.general.points) == GPT4[exam]
    assert (sheet.required.total, sheet.general.total) == POSSIBLE[exam]
    assert sheet.passed, "the paper reports that GPT-4 passes each of these years"


@pytest.mark.shared
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("exam", YEARS)
def test_every_prediction_is_judged_as_by_the_publishers_scorer(real, exam, model):
    """`scripts/evaluate_main.py`: sorted parts equal the sorted key; 112B30 is right with a or d alone."""
    source, papers, _ = real
    answers = predictions(source, exam, model)
    sheet = score_exam(papers[exam], answers, 0.6)
    assert sheet.unanswered == 0
    points = {True: 0, False: 0}
    for path in sorted((source / "data" / YEARS[exam]).glob(f"{exam}-?.jsonl")):
        for row in read_json_lines(path):
            name = row["problem_id"]
            right = answers[name] == sorted(row["answer"])
            right |= name == "112B30" and answers[name] in (["a"], ["d"])
            assert sheet.correct[name] == right, name
            points[name[3] in "BE"] += int(row["points"]) * right
    assert (sheet.required.points, sheet.general.points) == (points[True], points[False])
