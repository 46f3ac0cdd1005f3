"""VQA-RAD: a made sample of the published layout."""

import jvlm_data.vqa_rad.convert as module
import pytest
from jvlm_data.vqa_rad.convert import FILE, FOLDER, convert
from published import faults, samples, write_json
from tiny import encoded_image

from jvlm.errors import DataError
from jvlm.files import read_json


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
    divided = {name: count for name, count in counts.items() if name.startswith("disjoint_")}
    assert counts == {"train": 2, "val": 0, "test": 2, "removed": 2, "errors": 0} | divided
    assert sum(divided.values()) == 6
    train, test = samples(tmp_path / "out", "train"), samples(tmp_path / "out", "test")
    assert list(train) == ["vqa_rad-1", "vqa_rad-6"]
    assert list(test) == ["vqa_rad-3", "vqa_rad-5"]
    assert not {s.images[0].read() for s in train.values()} & {s.images[0].read() for s in test.values()}
    assert set(faults(tmp_path / "out", "removed.jsonl")) == {f"{FILE}:2", f"{FILE}:4"}
    assert faults(tmp_path / "out") == {}


def test_a_second_division_keeps_every_question_and_shares_no_image(tmp_path, monkeypatch):
    """As published nearly every test image has training questions; divided by images none has."""
    monkeypatch.setattr(module, "RESPLIT", {"test": 0.5})
    folder = published(tmp_path / "in", [])
    rows = []
    for number in range(12):
        (folder / FOLDER / f"{number}.jpg").write_bytes(encoded_image(20 + number))
        rows += [question(3 * number + i, f"{number}.jpg", kind) for i, kind in enumerate(("freeform", "para"))]
        rows += [question(3 * number + 2, f"{number}.jpg", "test_freeform" if number < 8 else "freeform")]
    write_json(folder / FILE, rows)
    counts = convert(folder, tmp_path / "out")
    train, test = samples(tmp_path / "out", "disjoint_train"), samples(tmp_path / "out", "disjoint_test")
    assert len(train) + len(test) == len(rows)
    assert (counts["disjoint_train"], counts["disjoint_test"]) == (len(train), len(test))
    images = [{sample.images[0].read() for sample in part.values()} for part in (train, test)]
    assert not images[0] & images[1]
    assert all(images)
    report = read_json(tmp_path / "out" / "splits.json")
    shape = ("train", "test", "train_images", "test_images", "test_images_in_train")
    assert report["published"] == dict(zip(shape, (28, 8, 12, 8, 8), strict=True))
    assert report["official"] == dict(zip(shape, (12, 8, 4, 8, 0), strict=True))
    assert report["disjoint"]["test_images_in_train"] == 0
    assert report["disjoint"]["test_images"] == len(images[1])


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
