"""VQA-RAD: a made sample of the published layout."""

import pytest
from jvlm_data.vqa_rad.convert import FILE, FOLDER, convert
from published import faults, samples, write_json
from tiny import encoded_image

from jvlm.errors import DataError


def question(qid, image, phrase_type="freeform", answer="Yes", text="Is the heart large?"):
    row = {"qid": qid, "image_name": image, "image_organ": "CHEST", "answer": answer, "answer_type": "CLOSED"}
    return row | {"question_type": "PRES", "question": text, "phrase_type": phrase_type}


def published(folder, rows):
    write_json(folder / FILE, rows)
    (folder / FOLDER).mkdir()
    for number, name in enumerate(("synpic1.jpg", "synpic2.jpg", "synpic3.jpg")):
        (folder / FOLDER / name).write_bytes(encoded_image(number))
    (folder / FOLDER / "copy-of-2.jpg").write_bytes(encoded_image(1))
    (folder / FOLDER / "cut.jpg").write_bytes(encoded_image(3)[:100])
    return folder


def test_images_of_the_test_set_leave_the_training_set(tmp_path):
    rows = [question(1, "synpic1.jpg"), question(2, "synpic2.jpg", "para"), question(3, "synpic2.jpg", "test_freeform")]
    rows += [question(4, "copy-of-2.jpg"), question(5, "synpic3.jpg", "test_para"), question(6, "synpic1.jpg", "para")]
    counts = convert(published(tmp_path / "in", rows), tmp_path / "out")
    assert counts == {"train": 2, "val": 0, "test": 2, "removed": 2, "errors": 0}
    train, test = samples(tmp_path / "out", "train"), samples(tmp_path / "out", "test")
    assert list(train) == ["vqa_rad-1", "vqa_rad-6"]
    assert list(test) == ["vqa_rad-3", "vqa_rad-5"]
    assert not {s.images[0].read() for s in train.values()} & {s.images[0].read() for s in test.values()}
    assert set(faults(tmp_path / "out", "removed.jsonl")) == {f"{FILE}:2", f"{FILE}:4"}
    assert faults(tmp_path / "out") == {}


def test_a_question_becomes_a_sample(tmp_path):
    rows = [question(1, "synpic1.jpg", answer=3, text="How many? "), question("2", "synpic1.jpg", answer="Left side ")]
    convert(published(tmp_path / "in", rows), tmp_path / "out")
    first, second = samples(tmp_path / "out", "train").values()
    assert [(m.role, m.content) for m in first.messages] == [("user", [0, "How many?"]), ("assistant", ["3"])]
    assert second.messages[1].text == "Left side"
    assert (first.meta["answer_type"], first.meta["image"]) == ("CLOSED", "synpic1.jpg")


BAD = {
    "no question": question(9, "synpic1.jpg", text=""),
    "no answer": question(9, "synpic1.jpg", answer=None),
    "image absent": question(9, "synpic9.jpg"),
    "image cut": question(9, "cut.jpg"),
    "image outside": question(9, "../../x.jpg"),
    "id twice": question(1, "synpic1.jpg"),
    "no phrase type": question(9, "synpic1.jpg", None),
    "no object": [1],
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_recorded_with_its_number(tmp_path, name):
    counts = convert(published(tmp_path / "in", [question(1, "synpic1.jpg"), BAD[name]]), tmp_path / "out")
    assert (counts["train"], counts["errors"]) == (1, 1)
    assert set(faults(tmp_path / "out")) == {f"{FILE}:2"}


def test_nothing_usable_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"nothing usable.*file not found"):
        convert(tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match="no list of records"):
        convert(published(tmp_path / "in", {}), tmp_path / "out")
