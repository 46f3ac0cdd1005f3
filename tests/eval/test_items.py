import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jvlm_data.toyworld.exam import exam_test
from jvlm_data.toyworld.exam_training import training_item

from jvlm.errors import DataError
from jvlm.eval.items import exam_answer, exam_sample, load_items


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "film.png").write_bytes(b"png")
    return {
        "id": "A001", "exam": "架空試験", "section": "A", "number": 1, "group_id": "A001", "stem": "所見はどれか。",
        "shared_text": "", "options": [{"label": label, "text": f"所見{label}", "image": None} for label in "abcde"],
        "images": ["images/film.png"], "answer_type": "mcq_single", "n_select": 1, "accept": [["c"]],
        "excluded": "none",
        "points": 1, "required": False, "kinki": ["e"], "source": "test", "sha256": "0", "tags": ["kind=finding"],
    }  # fmt: skip


def write(folder: Path, *records: dict[str, Any]) -> Path:
    path = folder / "exam.jsonl"
    path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in records) + "\n")
    return path


def test_loads_and_resolves_images(tmp_path: Path, record: dict[str, Any]) -> None:
    item = load_items(write(tmp_path, record))[0]
    assert item.images == [str(tmp_path / "images" / "film.png")]
    assert item.labels == list("abcde")
    assert (item.accept, item.kinki, item.tags) == ([["c"]], ["e"], ["kind=finding"])


FAULTS: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda r: r.pop("stem"), "fields missing: stem"),
    (lambda r: r.update(points="1"), "points must be a whole number"),
    (lambda r: r.update(required=1), "required must be true or false"),
    (lambda r: r.update(answer_type="essay"), "unknown answer_type 'essay'"),
    (lambda r: r.update(excluded="maybe"), "unknown excluded"),
    (lambda r: r.update(images=["images/gone.png"]), "image not found: images/gone.png"),
    (lambda r: r.update(accept=[]), "accept"),
    (lambda r: r.update(accept=[["z"]]), "labels \\['z'\\] are no option's"),
    (lambda r: r.update(kinki=["z"]), "labels"),
    (lambda r: r.update(accept=[["a", "b"]]), "another length than n_select"),
    (lambda r: r.update(n_select=9), "n_select 9"),
    (lambda r: r.update(options=r["options"] * 2), "same label"),
    (lambda r: r.update(answer_type="mcq_single", n_select=2, accept=[["a", "b"]]), "must have n_select 1"),
]


@pytest.mark.parametrize(("spoil", "message"), FAULTS)
def test_faults_name_file_and_line(
    tmp_path: Path, record: dict[str, Any], spoil: Callable[[dict[str, Any]], Any], message: str
) -> None:
    broken = json.loads(json.dumps(record)) | {"id": "A002"}
    spoil(broken)
    path = write(tmp_path, record, broken)
    with pytest.raises(DataError, match=message) as caught:
        load_items(path)
    assert caught.value.where == f"{path}:2"


def test_broken_line_repeated_id_and_missing_file(tmp_path: Path, record: dict[str, Any]) -> None:
    path = write(tmp_path, record, record)
    with pytest.raises(DataError, match=r"exam.jsonl:2: id 'A001' stands twice"):
        load_items(path)
    path.write_text("{")
    with pytest.raises(DataError, match=r"exam.jsonl:1: not a JSON line"):
        load_items(path)
    with pytest.raises(DataError, match="cannot read the exam"):
        load_items(tmp_path / "none.jsonl")


def test_prompt_format(tmp_path: Path, record: dict[str, Any]) -> None:
    item = load_items(write(tmp_path, record | {"shared_text": "架空の患者。"}))[0]
    sample = exam_sample(item)
    text = "架空の患者。所見はどれか。\na 所見a\nb 所見b\nc 所見c\nd 所見d\ne 所見e"
    assert [(m.role, m.content) for m in sample.messages] == [("user", [0, text])]
    assert sample.images[0].read() == b"png"
    removed = exam_sample(item, with_image=False)
    assert removed.images == []
    assert removed.messages[0].content == [text]
    assert exam_answer(item) == "所見c"


def test_answers_of_several_choices_and_of_numbers(tmp_path: Path, record: dict[str, Any]) -> None:
    several = record | {"answer_type": "mcq_multi", "n_select": 2, "accept": [["d", "b"]]}
    number = record | {"id": "A002", "answer_type": "numeric", "options": [], "accept": [["12"]], "kinki": []}
    two, one = load_items(write(tmp_path, several, number))
    assert exam_answer(two) == "所見b、所見d"
    assert exam_answer(one) == "12"
    assert exam_sample(one).messages[0].content == [0, "所見はどれか。\n"]


def test_the_toy_exam_is_read_and_asked_like_its_training_items(tmp_path: Path) -> None:
    """Evaluation and training must use one format, or the model is asked in a form it never saw."""
    entries = exam_test(0, 40)
    for _, images in entries:
        for name, data in images.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
    items = load_items(write(tmp_path, *(item for item, _ in entries)))
    assert len(items) == 40
    assert {item.answer_type for item in items} == {"mcq_single", "mcq_multi", "numeric"}
    asked = {item.answer_type: exam_sample(item).messages[0].content for item in items if item.images}
    trained = [training_item(0, i, 64) for i in range(60)]
    for kind, mark in (("mcq_single", "\na "), ("mcq_multi", "\na "), ("numeric", "\n")):
        content = asked[kind]
        shape = [type(part) for part in content]
        twins = [s for s in trained if [type(p) for p in s.messages[0].content] == shape and mark in s.messages[0].text]
        assert twins, kind
        ours, theirs = str(content[-1]).split("\n"), [t.messages[0].text.split("\n") for t in twins]
        same = [lines for lines in theirs if len(lines) == len(ours)]
        assert same, kind
        assert [line[:2] for line in ours[1:]] in [[line[:2] for line in lines[1:]] for lines in same]
