"""ROCO: a made sample of the published layout."""

import pytest
from jvlm_data.roco.convert import convert
from published import faults, samples
from tiny import encoded_image

from jvlm.errors import DataError


def part(folder, place, figures, extra_captions=b""):
    """Figures are (id, file name, number of the image or None, caption)."""
    target = folder / "data" / place
    (target / "images").mkdir(parents=True)
    for _, file, content, _ in figures:
        if content is not None:
            (target / "images" / file).write_bytes(encoded_image(content))
    licences = "".join(f"{name},{file},CC BY\n" for name, file, _, _ in figures)
    (target / "licences.txt").write_text(licences)
    captions = "".join(f"{name}\t {caption}\n" for name, _, _, caption in figures)
    (target / "captions.txt").write_bytes(captions.encode() + extra_captions)


def published(folder, extra_captions=b""):
    part(folder, "train/radiology", [("ROCO_1", "PMC1_a.jpg", 1, "CT of a head."), ("ROCO_2", "PMC2_a,b.jpg", 2, "X")])
    part(folder, "train/non-radiology", [("ROCO_3", "PMC3_c.jpg", 3, "A graph.")], extra_captions)
    part(folder, "validation/radiology", [("ROCO_4", "PMC4_d.jpg", 4, "MRI.")])
    part(folder, "validation/non-radiology", [])
    part(folder, "test/radiology", [("ROCO_5", "PMC5_e.jpg", 5, "Plain film.")])
    part(folder, "test/non-radiology", [])
    return folder


def test_figures_become_samples_in_the_official_splits(tmp_path):
    counts = convert(published(tmp_path / "in"), tmp_path / "out")
    assert counts == {"train": 3, "val": 1, "test": 1, "removed": 0, "errors": 0}
    train = samples(tmp_path / "out", "train")
    assert list(train) == ["ROCO_1", "ROCO_2", "ROCO_3"]
    assert train["ROCO_1"].messages[1].content == ["CT of a head."]
    assert train["ROCO_2"].images[0].read() == encoded_image(2)
    assert (train["ROCO_3"].meta["kind"], train["ROCO_3"].meta["licence"]) == ("non-radiology", "CC BY")
    assert list(samples(tmp_path / "out", "val")) == ["ROCO_4"]
    assert list(samples(tmp_path / "out", "test")) == ["ROCO_5"]


def test_a_figure_or_caption_of_the_test_set_leaves_the_others(tmp_path):
    source = published(tmp_path / "in")
    figures = source / "data" / "train" / "radiology"
    (figures / "images" / "PMC1_a.jpg").write_bytes(encoded_image(5))
    captions = source / "data" / "validation" / "radiology" / "captions.txt"
    captions.write_text("ROCO_4\tPlain  film.\n")
    counts = convert(source, tmp_path / "out")
    assert counts == {"train": 2, "val": 0, "test": 1, "removed": 2, "errors": 0}
    assert set(faults(tmp_path / "out", "removed.jsonl")) == {
        "data/train/radiology/captions.txt:1",
        "data/validation/radiology/captions.txt:1",
    }


@pytest.mark.parametrize(
    "line", [b"ROCO_8\t", b"ROCO_8", b"ROCO_8\tnot listed", b"ROCO_1\tid twice", b"ROCO_3\t\xff"], ids=repr
)
def test_what_cannot_be_used_is_recorded_with_its_line(tmp_path, line):
    source = published(tmp_path / "in", line + b"\nROCO_3\tagain\n")
    assert convert(source, tmp_path / "out")["errors"] == 2
    name = "data/train/non-radiology/captions.txt"
    assert set(faults(tmp_path / "out")) == {f"{name}:2", f"{name}:3"}


def test_what_is_missing_is_recorded_and_the_rest_stays(tmp_path):
    source = published(tmp_path / "in")
    (source / "data" / "test" / "non-radiology" / "captions.txt").unlink()
    (source / "data" / "train" / "radiology" / "images" / "PMC1_a.jpg").unlink()
    (source / "data" / "train" / "non-radiology" / "licences.txt").write_text("ROCO_3;PMC3_c.jpg\n")
    counts = convert(source, tmp_path / "out")
    assert (counts["train"], counts["errors"]) == (1, 4)
    found = faults(tmp_path / "out")
    assert found["data/test/non-radiology/captions.txt"] == "file not found"
    assert "PMC1_a.jpg" in found["data/train/radiology/captions.txt:1"]
    assert set(found) >= {"data/train/non-radiology/licences.txt:1", "data/train/non-radiology/captions.txt:1"}
    with pytest.raises(DataError, match="nothing usable"):
        convert(tmp_path / "nowhere", tmp_path / "none")
