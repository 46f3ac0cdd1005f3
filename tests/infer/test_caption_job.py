"""The captioning job: one row an image, whatever the images are and however often it is killed."""

import json
import os
import shutil

import pytest
from tiny import encoded_image, make_model

from jvlm.errors import DataError, JvlmError
from jvlm.files import lock, read_json_lines, sha256_bytes
from jvlm.infer.caption import caption_folder
from jvlm.infer.generate import VisionLanguageModel
from jvlm.infer.types import Generation

ROW_KEYS = {"id", "image_sha256", "text", "status", "error", "finish_reason", "n_tokens"}


class Counting:
    """A model that says which image it saw, and dies when it has seen enough."""

    def __init__(self, dies_at=None):
        self.seen, self.dies_at = [], dies_at

    def generate(self, samples, *, max_new_tokens=64, temperature=0.0, seed=0):
        if self.dies_at is not None and len(self.seen) >= self.dies_at:
            raise KeyboardInterrupt
        self.seen += [sample.id for sample in samples]
        return [Generation(sha256_bytes(s.images[0].read())[:8], "stop", max_new_tokens) for s in samples]


@pytest.fixture
def folder(tmp_path):
    """Nine images in two folders, three of them bad, and a file that is none."""
    root = tmp_path / "images"
    (root / "b").mkdir(parents=True)
    for number in range(6):
        (root / ("b" if number % 2 else ".") / f"{number}.PNG").write_bytes(encoded_image(number, (20 + number, 30)))
    (root / "cut.png").write_bytes(encoded_image(9)[:300])
    (root / "empty.jpg").write_bytes(b"")
    (root / "b" / "text.webp").write_text("not an image")
    (root / "readme.txt").write_text("not meant to be one")
    return root


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.suffix != ".txt")


def test_bad_images_become_rows_with_an_error(folder, tmp_path):
    out = tmp_path / "captions.jsonl"
    report = caption_folder(Counting(), folder, out, unit=4, max_new_tokens=5)
    assert (report.rows, report.errors, report.written) == (9, 3, 9)
    rows = {row["id"]: row for row in read_json_lines(out)}
    assert sorted(rows) == names(folder)
    assert {name for name, row in rows.items() if row["status"] == "error"} == {"cut.png", "empty.jpg", "b/text.webp"}
    for name, row in rows.items():
        if row["status"] == "error":
            assert row["error"]
            assert row["text"] is None
            continue
        digest = sha256_bytes((folder / name).read_bytes())
        assert row["image_sha256"] == digest
        assert row["text"] == digest[:8]
        assert (row["status"], row["error"]) == ("ok", None)
        assert (row["finish_reason"], row["n_tokens"]) == ("stop", 5)
        assert row.keys() == ROW_KEYS


@pytest.mark.parametrize("kept_bytes", [0, 10, 0.3, 0.77, 1.0])
def test_a_killed_job_goes_on_with_exactly_one_row_an_image(folder, tmp_path, kept_bytes):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "captions.jsonl"
    caption_folder(Counting(), folder, whole, unit=2)
    data = whole.read_bytes()
    cut = kept_bytes if isinstance(kept_bytes, int) else int(kept_bytes * len(data))
    out.write_bytes(data[:cut])
    left = data[:cut].count(b"\n")
    model = Counting()
    report = caption_folder(model, folder, out, unit=2)
    assert report.written == 9 - left
    assert out.read_bytes() == data
    assert len(set(model.seen)) == len(model.seen)
    again = caption_folder(model, folder, out)
    assert (again.rows, again.errors, again.written) == (9, 3, 0)
    assert out.read_bytes() == data


def test_an_interrupt_loses_at_most_one_unit(folder, tmp_path):
    out = tmp_path / "captions.jsonl"
    with pytest.raises(KeyboardInterrupt):
        caption_folder(Counting(dies_at=3), folder, out, unit=2)
    before = read_json_lines(out)
    assert 0 < len(before) < 9
    model = Counting()
    caption_folder(model, folder, out, unit=2)
    rows = read_json_lines(out)
    assert [row["id"] for row in rows] == list(dict.fromkeys(row["id"] for row in rows))
    assert sorted(row["id"] for row in rows) == names(folder)
    assert rows[: len(before)] == before
    assert not {row["id"] for row in before} & set(model.seen)


def test_new_images_are_added_later(folder, tmp_path):
    out = tmp_path / "captions.jsonl"
    caption_folder(Counting(), folder, out)
    (folder / "later.png").write_bytes(encoded_image(7))
    report = caption_folder(Counting(), folder, out)
    assert (report.rows, report.written) == (10, 1)


def test_a_folder_without_images_and_none_at_all_are_errors(tmp_path):
    with pytest.raises(DataError, match="folder not found"):
        caption_folder(Counting(), tmp_path / "none", tmp_path / "out.jsonl")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"no image found.*\.png"):
        caption_folder(Counting(), tmp_path / "empty", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_two_jobs_never_write_one_file(folder, tmp_path):
    out = tmp_path / "captions.jsonl"
    with lock(tmp_path / "captions.jsonl.job"), pytest.raises(JvlmError, match="in use by another process"):
        caption_folder(Counting(), folder, out)
    assert not out.exists()


def test_a_file_name_that_is_not_unicode_does_not_stop_the_job(folder, tmp_path):
    with open(os.fsencode(folder) + b"/\xff\xfe.png", "wb") as file:
        file.write(encoded_image(8))
    report = caption_folder(Counting(), folder, tmp_path / "captions.jsonl")
    assert report.rows == 10
    assert len((tmp_path / "captions.jsonl").read_text(encoding="utf-8").splitlines()) == 10


def test_a_real_model_captions_odd_sizes(folder, tmp_path, tokenizer, processor):
    model = VisionLanguageModel(make_model(tokenizer), processor)
    said = []
    caption_folder(model, folder, tmp_path / "captions.jsonl", max_new_tokens=4, unit=5, say=said.append)
    assert said == ["5 of 9 images", "9 of 9 images"]
    rows = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert sum(row["status"] == "ok" and isinstance(row["text"], str) for row in rows) == 6


def test_dicom_files_are_images_too(tmp_path):
    dicom = pytest.importorskip("pydicom", reason="the medical extra is not installed: pip install 'jvlm[medical]'")
    example = dicom.data.get_testdata_file("CT_small.dcm", download=False)
    if example is None:
        pytest.skip("this pydicom comes without its examples")
    (tmp_path / "images").mkdir()
    shutil.copy(example, tmp_path / "images" / "ct.dcm")
    report = caption_folder(Counting(), tmp_path / "images", tmp_path / "captions.jsonl")
    assert (report.rows, report.errors) == (1, 0)
