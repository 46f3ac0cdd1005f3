"""Heron-Bench: a made sample of the published layout."""

import pytest
from jvlm_data.heron_bench.convert import convert
from made_tasks import _heron_bench, write_lines
from published import faults

from jvlm.errors import DataError
from jvlm.eval.task_items import load_task_items


@pytest.fixture
def source(tmp_path):
    _heron_bench(tmp_path / "in")
    return tmp_path / "in"


def test_a_question_has_its_picture_its_description_and_the_answer_of_gpt_4(source, tmp_path):
    assert convert(source, tmp_path / "out") == {"test": 13, "errors": 0}
    first, *_, last = load_task_items(tmp_path / "out" / "test.jsonl")
    assert (first.id, first.kind, first.group_id) == ("0", "conv", "000.png")
    assert first.fields == {"question": "りんごは写っていますか？", "context": "000.pngの説明"}
    assert first.answers == ["模範0"]
    assert [image.path for image in first.images] == [str(tmp_path / "out" / "images" / "000.png")]
    assert (source / "images" / "000.png").read_bytes() == (tmp_path / "out" / "images" / "000.png").read_bytes()
    assert last.group_id == "004.png"


def test_what_is_missing_is_told(source, tmp_path):
    (source / "images" / "001.png").unlink()
    write_lines(source / "answers_gpt4.jsonl", [{"question_id": i, "text": "模範"} for i in range(1, 13)])
    assert convert(source, tmp_path / "out") == {"test": 9, "errors": 4}
    told = faults(tmp_path / "out")
    assert "answers_gpt4.jsonl has no answer" in told["questions_ja.jsonl:1"]
    assert "image not found: 001.png" in told["questions_ja.jsonl:4"]
    (source / "context_ja.jsonl").unlink()
    with pytest.raises(DataError, match=r"0 files of this name"):
        convert(source, tmp_path / "other")
