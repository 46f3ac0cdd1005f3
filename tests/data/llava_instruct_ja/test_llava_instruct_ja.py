"""LLaVA-Instruct-150K-JA: a made sample of the published layout."""

import json

import pytest
from jvlm_data.llava_instruct_ja.convert import convert
from jvlm_data.splits import split_of
from published import faults, samples, write_json
from tiny import encoded_image

from jvlm.errors import DataError
from jvlm.files import sha256_bytes

ASK, ANSWER = {"from": "human", "value": "<image>\n何色ですか。"}, {"from": "gpt", "value": "赤です。"}


def record(image="000000000009.jpg", turns=(ASK, ANSWER)):
    return {"id": image.partition(".")[0], "image": image, "conversations": list(turns)}


def published(folder, rows, name="llava_instruct_150k_ja.json"):
    (folder / "train2014").mkdir(parents=True)
    (folder / "train2017").mkdir()
    (folder / "train2017" / "000000000009.jpg").write_bytes(encoded_image(1))
    (folder / "train2014" / "COCO_train2014_000000000010.jpg").write_bytes(encoded_image(2))
    (folder / "train2017" / "cut.jpg").write_bytes(encoded_image(3)[:90])
    write_json(folder / name, rows)
    return folder


def everything(out):
    return {
        k: v for split in ("train", "val", "test") if (out / split).exists() for k, v in samples(out, split).items()
    }


def test_a_conversation_becomes_a_sample(tmp_path):
    later = {"from": "human", "value": "how many?", "jp": "いくつですか。"}
    rows = [record(turns=[ASK, ANSWER, later, {"from": "gpt", "value": "two", "jp": "二つです。"}])]
    rows.append(record("000000000010.jpg", [{"from": "human", "value": "形は。\n<image>"}, ANSWER]))
    rows.append(record("000000000010.jpg", [{"from": "human", "value": "何ですか。"}, ANSWER]))
    counts = convert(published(tmp_path / "in", rows), tmp_path / "out")
    assert counts["removed"] == counts["errors"] == 0
    found = everything(tmp_path / "out")
    assert len(found) == 3
    first = found["llava-llava_instruct_150k_ja-1"]
    assert [(m.role, m.content) for m in first.messages] == [
        ("user", [0, "何色ですか。"]),
        ("assistant", ["赤です。"]),
        ("user", ["いくつですか。"]),
        ("assistant", ["二つです。"]),
    ]
    assert first.images[0].read() == encoded_image(1)
    assert first.meta["original_id"] == "000000000009"
    assert found["llava-llava_instruct_150k_ja-2"].messages[0].content == ["形は。", 0]
    assert found["llava-llava_instruct_150k_ja-3"].messages[0].content == [0, "何ですか。"]
    assert found["llava-llava_instruct_150k_ja-3"].images[0].read() == encoded_image(2)


def test_the_split_is_that_of_the_image(tmp_path):
    names = [f"{number:012}.jpg" for number in range(100, 160)]
    rows = [record(name, [ASK, {"from": "gpt", "value": f"{name}です。"}]) for name in names for _ in range(2)]
    source = published(tmp_path / "in", rows)
    for number, name in enumerate(names):
        (source / "train2017" / name).write_bytes(encoded_image(number))
    convert(source, tmp_path / "out")
    assert (tmp_path / "out" / "val").exists() or (tmp_path / "out" / "test").exists()
    total = 0
    for split in ("train", "val", "test"):
        if (tmp_path / "out" / split).exists():
            found = samples(tmp_path / "out", split).values()
            assert {split_of(sha256_bytes(sample.images[0].read())) for sample in found} == {split}
            total += len(found)
    assert total == len(rows)


def test_json_lines_are_read_too(tmp_path):
    source = published(tmp_path / "in", [record()])
    (source / "llava_instruct_150k_ja.json").unlink()
    (source / "more.jsonl").write_text(json.dumps(record()) + "\n{\n")
    assert convert(source, tmp_path / "out")["errors"] == 1
    assert list(everything(tmp_path / "out")) == ["llava-more-1"]
    assert set(faults(tmp_path / "out")) == {"more.jsonl:2"}


BAD = {
    "no conversation": record(turns=[]),
    "no answer": record(turns=[ASK]),
    "two questions": record(turns=[ASK, ASK]),
    "an empty answer": record(turns=[ASK, {"from": "gpt", "value": " "}]),
    "an empty translation": record(turns=[ASK, {"from": "gpt", "value": "red", "jp": ""}]),
    "no text beside the image": record(turns=[{"from": "human", "value": "<image>"}, ANSWER]),
    "two images": record(turns=[{"from": "human", "value": "<image><image>何。"}, ANSWER]),
    "an image in the answer": record(turns=[ASK, {"from": "gpt", "value": "<image>"}]),
    "no image there": record("000000000011.jpg"),
    "cut image": record("cut.jpg"),
    "outside": record("../in/train2017/000000000009.jpg"),
    "no image named": {"id": "1", "conversations": [ASK, ANSWER]},
    "turn is no object": record(turns=[ASK, "赤です。"]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_recorded_with_its_number(tmp_path, name):
    convert(published(tmp_path / "in", [record(), BAD[name]]), tmp_path / "out")
    assert list(everything(tmp_path / "out")) == ["llava-llava_instruct_150k_ja-1"]
    ((where, error),) = faults(tmp_path / "out").items()
    assert where == "llava_instruct_150k_ja.json:2"
    assert error


def test_nothing_usable_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"the first fault is llava_instruct_150k_ja\.json:1: image not found"):
        convert(published(tmp_path / "in", [record("1.jpg")]), tmp_path / "out")
    with pytest.raises(DataError, match="put there the published"):
        convert(tmp_path / "nowhere", tmp_path / "out")
