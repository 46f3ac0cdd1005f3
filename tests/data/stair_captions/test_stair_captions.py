"""STAIR Captions: a made sample of the published layout."""

import pytest
from jvlm_data.stair_captions.convert import convert
from published import faults, samples, write_json
from tiny import encoded_image

from jvlm.errors import DataError
from jvlm.sample import CAPTION_PROMPT


def annotation(number, image, caption):
    return {"id": number, "image_id": image, "caption": caption, "tokenized_caption": caption}


def published(folder, train, val=(), named=True):
    """Images 1 to 3 are train's, 4 and 5 val's; 5 is a copy of 1. Image 6 is cut, 9 is nowhere."""
    for split, rows, images in (("train", train, {1: 1, 2: 2, 3: 3}), ("val", val, {4: 4, 5: 1})):
        (folder / f"{split}2014").mkdir(parents=True)
        files = {number: f"COCO_{split}2014_{number:012}.jpg" for number in (*images, 6, 9)}
        for number, content in images.items():
            (folder / f"{split}2014" / files[number]).write_bytes(encoded_image(content))
        (folder / f"{split}2014" / files[6]).write_bytes(encoded_image(6)[:100])
        document = {"annotations": list(rows)}
        if named:
            document["images"] = [{"id": number, "file_name": name} for number, name in files.items()]
        write_json(folder / f"stair_captions_v1.2_{split}.json", document)
    return folder


@pytest.mark.parametrize("named", [True, False], ids=["file names in the file", "COCO's own file names"])
def test_captions_become_samples_in_the_official_splits(tmp_path, named):
    train = [annotation(10, 2, " 赤い丸。"), annotation(11, 2, "丸がある。"), annotation(12, 3, "青い星。")]
    source = published(tmp_path / "in", train, [annotation(10, 4, "白い犬。")], named)
    counts = convert(source, tmp_path / "out")
    assert counts == {"train": 3, "val": 1, "test": 0, "removed": 0, "errors": 0}
    found = samples(tmp_path / "out", "train")
    assert list(found) == ["stair-train-10", "stair-train-11", "stair-train-12"]
    sample = found["stair-train-10"]
    assert [(m.role, m.content) for m in sample.messages] == [
        ("user", [0, CAPTION_PROMPT]),
        ("assistant", ["赤い丸。"]),
    ]
    assert sample.images[0].read() == encoded_image(2)
    assert sample.meta["split"] == "train"
    assert list(samples(tmp_path / "out", "val")) == ["stair-val-10"]
    assert not (tmp_path / "out" / "test").exists()


def test_no_image_and_no_caption_stands_in_two_splits(tmp_path):
    train = [annotation(1, 1, "同じ絵。"), annotation(2, 2, "白い 犬。"), annotation(3, 3, "青い星。")]
    source = published(tmp_path / "in", train, [annotation(4, 4, "白い犬。"), annotation(5, 5, "別の文。")])
    counts = convert(source, tmp_path / "out")
    assert counts == {"train": 1, "val": 2, "test": 0, "removed": 2, "errors": 0}
    assert list(samples(tmp_path / "out", "train")) == ["stair-train-3"]
    name = "stair_captions_v1.2_train.json:annotations"
    assert set(faults(tmp_path / "out", "removed.jsonl")) == {f"{name}:1", f"{name}:2"}


BAD = {
    "no caption": annotation(7, 1, " "),
    "no caption field": {"id": 7, "image_id": 1},
    "no image": annotation(7, 9, "絵。"),
    "cut image": annotation(7, 6, "絵。"),
    "id twice": annotation(1, 2, "絵。"),
    "no object": "絵。",
    "surrogate": annotation(7, 1, "\ud800"),
    "image id is no number": annotation(7, "../x", "絵。"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_recorded_with_its_number(tmp_path, name):
    source = published(tmp_path / "in", [annotation(1, 1, "丸。"), BAD[name], annotation(3, 3, "星。")])
    counts = convert(source, tmp_path / "out")
    assert (counts["train"], counts["errors"]) == (2, 1)
    ((where, error),) = faults(tmp_path / "out").items()
    assert where == "stair_captions_v1.2_train.json:annotations:2"
    assert error


def test_a_file_name_may_not_lead_out_of_the_folder(tmp_path):
    source = published(tmp_path / "in", [annotation(1, 1, "丸。"), annotation(2, 7, "丸。")])
    (tmp_path / "in" / "secret.png").write_bytes(encoded_image(1))
    document = {"images": [{"id": 7, "file_name": "../secret.png"}]}
    document["annotations"] = [annotation(1, 1, "丸。"), annotation(2, 7, "丸。")]
    write_json(source / "stair_captions_v1.2_train.json", document)
    assert convert(source, tmp_path / "out")["errors"] == 1
    ((_, error),) = faults(tmp_path / "out").items()
    assert "leads out of the folder" in error


def test_missing_files_are_recorded_and_nothing_usable_is_an_error(tmp_path):
    source = published(tmp_path / "in", [annotation(1, 1, "丸。")])
    (source / "stair_captions_v1.2_val.json").unlink()
    assert convert(source, tmp_path / "out") == {"train": 1, "val": 0, "test": 0, "removed": 0, "errors": 1}
    assert faults(tmp_path / "out") == {"stair_captions_v1.2_val.json": "file not found"}
    (source / "stair_captions_v1.2_train.json").write_text("{")
    with pytest.raises(DataError, match=r"nothing usable.*train2014/.*not readable as JSON"):
        convert(source, tmp_path / "none")
    assert not (tmp_path / "none").exists()
