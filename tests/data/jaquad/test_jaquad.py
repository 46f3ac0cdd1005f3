"""JaQuAD: a made sample of the published layout."""

import pytest
from jvlm_data.jaquad.convert import convert
from published import documents, faults, write_json

from jvlm.errors import DataError


def qa(question="何色か?", answer="赤"):
    answers = [{"text": answer, "answer_start": 0, "answer_type": "Object"}]
    return {"question": question, "id": "tr-000-00-000", "answers": answers, "question_type": "Syntactic variation"}


def file(*paragraphs):
    return {"version": "JaQuAD-version-0.1.0", "data": [{"title": "題", "paragraphs": list(paragraphs)}]}


def passage(context, *qas):
    return {"context": context, "qas": list(qas)}


TRAIN, DEV = "data/train/jaquad_train_0000.json", "data/dev/jaquad_dev_0000.json"


def test_passages_become_documents_with_their_questions(tmp_path):
    write_json(tmp_path / "in" / TRAIN, file(passage("丸は赤い。", qa(), qa("形は?", "丸")), passage("星は青い。")))
    write_json(tmp_path / "in" / DEV, file(passage("犬は白い。", qa(answer="白"))))
    assert convert(tmp_path / "in", tmp_path / "out") == {"train": 2, "val": 1, "test": 0, "removed": 0, "errors": 0}
    first, second = documents(tmp_path / "out", "train")
    assert first.text == "丸は赤い。\n\n質問: 何色か?\n答え: 赤\n質問: 形は?\n答え: 丸"
    assert second.text == "星は青い。"
    assert first.id == "jaquad/train/jaquad_train_0000.json:1:1"
    assert first.licence == "CC-BY-SA-3.0"
    (dev,) = documents(tmp_path / "out", "val")
    assert dev.text.startswith("犬は白い。\n\n質問:")


def test_a_passage_of_dev_leaves_train_whatever_is_asked(tmp_path):
    write_json(tmp_path / "in" / TRAIN, file(passage("丸は赤い。", qa()), passage("星は青い。", qa())))
    write_json(tmp_path / "in" / DEV, file(passage("丸は赤い。", qa("別の問いは?", "赤"))))
    assert convert(tmp_path / "in", tmp_path / "out") == {"train": 1, "val": 1, "test": 0, "removed": 1, "errors": 0}
    assert set(faults(tmp_path / "out", "removed.jsonl")) == {f"{TRAIN}:1:1"}


def test_what_cannot_be_used_is_recorded_with_its_number(tmp_path):
    bad = [qa(" "), qa(answer=""), {"question": "何か?", "answers": []}, {"question": "何か?"}, 5]
    train = file(passage("丸は赤い。", *bad, qa()), passage(" ", qa()), "星", {"context": "犬。", "qas": None})
    train["data"].append({"title": "段落のない記事"})
    write_json(tmp_path / "in" / TRAIN, train)
    (tmp_path / "in" / "data" / "train" / "jaquad_train_0001.json").write_text("{")
    write_json(tmp_path / "in" / "data" / "train" / "jaquad_train_0002.json", [])
    counts = convert(tmp_path / "in", tmp_path / "out")
    assert counts["train"] == 2
    places = {f"{TRAIN}:1:1:{number}" for number in range(1, 6)} | {f"{TRAIN}:1:2", f"{TRAIN}:1:3", f"{TRAIN}:1:4"}
    places |= {f"{TRAIN}:2", *(f"data/train/jaquad_train_000{number}.json" for number in (1, 2))}
    assert set(faults(tmp_path / "out")) == places
    assert [d.text for d in documents(tmp_path / "out", "train")] == ["丸は赤い。\n\n質問: 何色か?\n答え: 赤", "犬。"]


def test_nothing_usable_is_an_error(tmp_path):
    with pytest.raises(DataError, match="put there a clone of"):
        convert(tmp_path, tmp_path / "out")
