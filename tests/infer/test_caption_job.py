"""The captioning job: exactly one row an id, whatever the images are and whenever it is stopped."""

import json
import os
import shutil
import signal
from io import BytesIO

import numpy as np
import pytest
import torch
import zstandard
from caption_process import Hashing, run
from PIL import Image
from tiny import encoded_image, make_model
from typer.testing import CliRunner

import jvlm
from jvlm import files
from jvlm.cli import app
from jvlm.errors import EXIT_ITEM_ERRORS, DataError, JvlmError, UsageError
from jvlm.files import read_json, read_json_lines, sha256_bytes, sha256_file
from jvlm.images.shards import ShardReader, check_shards
from jvlm.infer.caption import job, unit
from jvlm.infer.caption.forecast import forecast
from jvlm.infer.caption.ledger import Ledger, Torn
from jvlm.infer.caption.plan import Settings, load_plan
from jvlm.infer.caption.unit import CODES, Tools
from jvlm.infer.generate import VisionLanguageModel
from jvlm.model.directory import save_model
from jvlm.sample import CAPTION_PROMPT, ImageRef, Message, Sample

COLUMNS = [
    "id", "image_sha256", "text", "status", "error_code", "error", "n_tokens", "finish_reason", "model_hash",
    "prompt_hash", "seed", "n_characters", "japanese", "simplified_chinese", "latin", "repetition", "phash",
    "duplicate_of",
]  # fmt: skip
BAD = {"b/cut.png": "damaged", "empty.jpg": "unreadable", "b/text.webp": "not_an_image", "wide.png": "too_large"}


@pytest.fixture
def folder(tmp_path):
    """Ten images in two folders, four of them bad, and a file that is none."""
    root = tmp_path / "images"
    (root / "b").mkdir(parents=True)
    for number in range(6):
        (root / ("b" if number % 2 else ".") / f"{number}.PNG").write_bytes(encoded_image(number, (20 + number, 30)))
    (root / "b" / "cut.png").write_bytes(encoded_image(9)[:300])
    (root / "empty.jpg").write_bytes(b"")
    (root / "b" / "text.webp").write_text("not an image")
    (root / "wide.png").write_bytes(encoded_image(8, (17_000, 1)))
    (root / "readme.txt").write_text("not meant to be one")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "a.png").write_bytes(encoded_image(1))
    return root


def names(folder):
    found = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p.suffix != ".txt"]
    return sorted(str(p) for p in found if not str(p).startswith("."))


def output(out):
    return (out / "captions.jsonl").read_bytes()


def test_bad_images_become_rows_with_a_code_and_the_others_are_captioned(folder, tmp_path):
    report = run(folder, tmp_path / "out", unit=4, max_new_tokens=5)
    assert (report.rows, report.errors, report.written, report.complete) == (10, 4, 10, True)
    rows = {row["id"]: row for row in read_json_lines(tmp_path / "out" / "captions.jsonl")}
    assert list(rows) == names(folder)
    assert {name: row["error_code"] for name, row in rows.items() if row["status"] == "error"} == BAD
    assert set(BAD.values()) <= CODES.keys()
    for name, row in rows.items():
        assert list(row) == COLUMNS
        digest = sha256_bytes((folder / name).read_bytes())
        if row["status"] == "error":
            assert row["error"]
            assert row["text"] is row["n_tokens"] is row["japanese"] is row["phash"] is None
            assert row["image_sha256"] == (None if name == "empty.jpg" else digest)
            continue
        assert (row["image_sha256"], row["text"]) == (digest, f"{digest[:8]} {CAPTION_PROMPT}")
        assert (row["status"], row["error"], row["error_code"]) == ("ok", None, None)
        assert (row["finish_reason"], row["n_tokens"], row["model_hash"]) == ("stop", 5, "m" * 16)
        assert row["prompt_hash"] == sha256_bytes(CAPTION_PROMPT.encode())[:16]
    result = read_json(tmp_path / "out" / "result.json")
    assert result["error_codes"] == dict.fromkeys(sorted(BAD.values()), 1)
    assert result["outputs"]["jsonl"]["sha256"] == sha256_file(tmp_path / "out" / "captions.jsonl")
    progress = read_json(tmp_path / "out" / "progress.json")
    assert (progress["state"], progress["rows_done"], progress["failed"]) == ("done", 10, 4)
    page = (tmp_path / "out" / "summary.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 6
    assert "<script" not in page


class Killed(BaseException):
    """What a kill does: nothing is caught, nothing is cleaned up that a kill would leave."""


@pytest.mark.parametrize("afterwards", [False, True])
def test_stopped_at_any_commit_it_goes_on_to_the_same_bytes(folder, tmp_path, monkeypatch, afterwards):
    """Before or after each rename on the way, one after the other, until one run comes through."""
    run(folder, tmp_path / "whole", unit=5)
    rename, count = os.replace, 0

    def replace(source, target):
        nonlocal count
        count += 1
        if count == deadline and not afterwards:
            raise Killed
        rename(source, target)
        if count == deadline:
            raise Killed

    monkeypatch.setattr(files.os, "replace", replace)
    for deadline in range(1, 40):
        count, out = 0, tmp_path / f"out-{deadline}"
        model = Hashing()
        try:
            run(folder, out, model, unit=5)
        except Killed:
            count = 100
            run(folder, out, model, unit=5)
            assert len(model.seen) - len(set(model.seen)) <= 5  # at most one unit was done again
            assert output(out) == output(tmp_path / "whole")
        else:
            break
    assert 10 < deadline < 39  # the plan, two units of two files and a progress each, outputs, page, result


def test_an_interrupt_loses_at_most_the_unit_in_work(folder, tmp_path):
    model = Hashing()
    model.dies_at = 3
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "out", model, unit=2)
    assert 1 <= len(Ledger(tmp_path / "out").records) < 5
    before, model.dies_at, model.seen = set(model.seen), None, []
    report = run(folder, tmp_path / "out", model, unit=2)
    assert 0 < report.written < 10
    assert not before & set(model.seen)
    run(folder, tmp_path / "whole", unit=2)
    assert output(tmp_path / "out") == output(tmp_path / "whole")
    idle = Hashing()
    assert run(folder, tmp_path / "out", idle, unit=2).written == 0
    assert idle.seen == []


def test_a_sigterm_finishes_the_unit(folder, tmp_path):
    def stop(progress):
        if progress.state == "running":
            os.kill(os.getpid(), signal.SIGTERM)

    report = run(folder, tmp_path / "out", unit=3, on_progress=stop)
    assert (report.rows, report.complete) in ((3, False), (1, False))  # the last unit has one item
    assert report.written == report.rows
    assert read_json(tmp_path / "out" / "progress.json")["state"] == "stopped"
    assert not (tmp_path / "out" / "captions.jsonl").exists()
    report = run(folder, tmp_path / "out", unit=3)
    assert (report.complete, report.rows) == (True, 10)
    run(folder, tmp_path / "whole", unit=3)
    assert output(tmp_path / "out") == output(tmp_path / "whole")


def test_a_unit_that_was_damaged_on_the_disk_is_made_again(folder, tmp_path):
    run(folder, tmp_path / "out", unit=2)
    whole = output(tmp_path / "out")
    for damage in (lambda data: data[:-5], lambda data: data.replace(b'"ok"', b'"no"', 1)):
        path = tmp_path / "out" / "units" / "000001.jsonl"
        path.write_bytes(damage(path.read_bytes()))
        (tmp_path / "out" / "captions.jsonl").unlink()
        report = run(folder, tmp_path / "out", unit=2)
        assert report.written == 2
        assert output(tmp_path / "out") == whole


def test_a_unit_that_another_process_has_made_again_is_not_forgotten(folder, tmp_path, monkeypatch):
    finish, model = job._finish, Hashing()

    def torn_then_mended(*arguments):
        monkeypatch.setattr(job, "_finish", finish)
        raise Torn("the rows are not those of their record", where="units/000001.jsonl")

    monkeypatch.setattr(job, "_finish", torn_then_mended)
    assert run(folder, tmp_path / "out", model, unit=2).written == 10
    assert len(model.seen) == len(set(model.seen)) == 6


def test_a_disk_that_keeps_nothing_ends_the_job(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Ledger, "rows", _torn)
    with pytest.raises(DataError, match="not those of their record"):
        run(folder, tmp_path / "out", unit=5)


def _torn(ledger, number):
    raise Torn("the rows are not those of their record", where=f"units/{number:06d}.jsonl")


def test_rows_that_failed_are_tried_again_when_asked(folder, tmp_path):
    run(folder, tmp_path / "out", unit=3)
    (folder / "empty.jpg").write_bytes(encoded_image(20))
    model = Hashing()
    assert run(folder, tmp_path / "out", model, unit=3).written == 0
    report = run(folder, tmp_path / "out", model, unit=3, retry_failed=True)
    assert (report.errors, model.seen) == (3, ["empty.jpg"])
    rows = read_json_lines(tmp_path / "out" / "captions.jsonl")
    assert [row["id"] for row in rows] == names(folder)
    assert [row["status"] for row in rows if row["id"] == "empty.jpg"] == ["ok"]


def test_a_sigterm_before_all_that_failed_was_tried_again_leaves_the_job_open(folder, tmp_path):
    run(folder, tmp_path / "out", unit=1)
    for number, name in enumerate(BAD, 20):
        (folder / name).write_bytes(encoded_image(number))

    def stop(progress):
        if progress.state == "running":
            os.kill(os.getpid(), signal.SIGTERM)

    report = run(folder, tmp_path / "out", unit=1, retry_failed=True, on_progress=stop)
    assert (report.written, report.errors, report.complete) == (1, len(BAD) - 1, False)
    assert read_json(tmp_path / "out" / "progress.json")["state"] == "stopped"
    report = run(folder, tmp_path / "out", unit=1, retry_failed=True)
    assert (report.errors, report.complete) == (0, True)


def test_too_many_failures_end_the_job_and_keep_what_is_done(folder, tmp_path):
    settings = {"unit": 10, "prompts": tuple("一二三四")}
    with pytest.raises(DataError, match=r"16 of 40 rows failed.*--retry-failed"):
        run(folder, tmp_path / "out", max_failures=0.3, **settings)
    assert not (tmp_path / "out" / "captions.jsonl").exists()
    model = Hashing()
    with pytest.raises(DataError, match="16 of 40 rows failed"):  # as often as it is started
        run(folder, tmp_path / "out", model, max_failures=0.3, **settings)
    assert run(folder, tmp_path / "out", model, max_failures=0.4, **settings).complete
    assert model.seen == []


def test_a_job_that_failures_ended_goes_on_when_they_are_tried_again(folder, tmp_path):
    """What failed before must not end it once more, before its turn has come."""
    settings = {"unit": 2, "prompts": tuple("一二三四五六"), "max_failures": 0.1}
    with pytest.raises(DataError, match=r"12 of .* rows failed"):
        run(folder, tmp_path / "out", **settings)
    for number, name in enumerate(BAD, 20):
        (folder / name).write_bytes(encoded_image(number))
    report = run(folder, tmp_path / "out", retry_failed=True, **settings)
    assert (report.complete, report.rows, report.errors) == (True, 60, 0)


def test_a_large_job_is_judged_by_what_is_done_and_a_small_one_not_by_one_bad_file(folder, tmp_path):
    """Three of ten rows are bad: a share that ends a job long before they are that share of all its rows."""
    bad = (2, 3, 7)
    table = [{"id": n, "image": "empty.jpg" if n % 10 in bad else "0.PNG"} for n in range(3000)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, table)))
    with pytest.raises(DataError, match=r"300 of 1000 rows failed, more than a share of 0\.2 of 1000"):
        run(folder / "rows.jsonl", tmp_path / "large", unit=100)
    assert sum(record.rows for record in Ledger(tmp_path / "large").records.values()) == 1000
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, table[:10])))
    for share in (0.01, 0.2):
        report = run(folder / "rows.jsonl", tmp_path / f"small-{share}", unit=1, max_failures=share)
        assert (report.complete, report.rows, report.errors) == (True, 10, 3)
    with pytest.raises(DataError, match=r"1 of .* rows failed"):
        run(folder / "rows.jsonl", tmp_path / "strict", unit=1, max_failures=0)


def test_a_model_that_fails_on_one_image_costs_one_row(folder, tmp_path):
    class Picky(Hashing):
        def generate(self, samples, **options):
            if any(sample.id == "2.PNG" for sample in samples):
                raise RuntimeError("shape mismatch")
            return super().generate(samples, **options)

    run(folder, tmp_path / "out", Picky(), unit=5)
    rows = {row["id"]: row for row in read_json_lines(tmp_path / "out" / "captions.jsonl")}
    assert (rows["2.PNG"]["error_code"], rows["2.PNG"]["error"]) == ("model_error", "RuntimeError: shape mismatch")
    assert sum(row["status"] == "ok" for row in rows.values()) == 5


def test_a_model_that_fails_on_everything_makes_no_rows(folder, tmp_path):
    """A machine whose GPU is gone must not make bad rows of all that is left, faster than others caption it."""

    class Dead(Hashing):
        def generate(self, samples, **options):
            raise RuntimeError("CUDA error: device-side assert triggered")

    prompts = ("一つ", "二つ")
    with pytest.raises(JvlmError, match=r"fails on all of 12 requests: RuntimeError: CUDA error.*run the command"):
        run(folder, tmp_path / "out", Dead(), unit=10, prompts=prompts)
    assert Ledger(tmp_path / "out").records == {}
    assert run(folder, tmp_path / "out", unit=10, prompts=prompts).errors == 8


def test_what_goes_through_the_model_together_is_the_unit_s_alone(folder, tmp_path, monkeypatch):
    """Also where the images of a unit are too many bytes for one slice; every row's draws differ."""
    first, again = Hashing(), Hashing()
    run(folder, tmp_path / "a", first, unit=4, temperature=1.0)
    again.dies_at = 1
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "b", again, unit=4, temperature=1.0)
    again.dies_at = None
    run(folder, tmp_path / "b", again, unit=4, temperature=1.0)
    assert sorted(again.calls) == sorted(first.calls)
    assert len(first.calls) == 2  # bad images make no call
    assert output(tmp_path / "a") == output(tmp_path / "b")
    rows = read_json_lines(tmp_path / "a" / "captions.jsonl")
    assert [row["id"] for row in rows] == names(folder)
    assert len({row["seed"] for row in rows}) == len(rows)
    monkeypatch.setattr(unit, "SLICE_BYTES", 1)
    monkeypatch.setattr(unit, "READERS", 1)
    sliced = Hashing()
    run(folder, tmp_path / "c", sliced, unit=8, temperature=1.0)
    assert max(len(ids) for ids, _ in sliced.calls) <= 4
    assert output(tmp_path / "c") == output(tmp_path / "a")  # a row's draws are its own


def test_a_mended_row_is_what_it_would_have_been(folder, tmp_path):
    """Draws depend on the row, not on the company in which it was tried again."""
    run(folder, tmp_path / "out", unit=10, temperature=1.0)
    (folder / "empty.jpg").write_bytes(encoded_image(20))
    run(folder, tmp_path / "out", unit=10, temperature=1.0, retry_failed=True)
    run(folder, tmp_path / "whole", unit=10, temperature=1.0)
    assert output(tmp_path / "out") == output(tmp_path / "whole")


def test_all_formats_hold_the_same_rows(folder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    formats = ("jsonl", "jsonl.zst", "parquet", "txt", "shards")
    (folder / "2.jpg").write_bytes(encoded_image(30))
    run(folder, tmp_path / "out", unit=4, formats=formats)
    rows = read_json_lines(tmp_path / "out" / "captions.jsonl")
    packed = (tmp_path / "out" / "captions.jsonl.zst").read_bytes()
    assert zstandard.ZstdDecompressor().decompressobj().decompress(packed) == output(tmp_path / "out")
    assert parquet.read_table(tmp_path / "out" / "captions.parquet").to_pylist() == rows
    good = {row["id"]: row["text"] for row in rows if row["status"] == "ok"}
    beside = tmp_path / "out" / "captions"
    texts = {path.relative_to(beside).as_posix(): path.read_text() for path in beside.rglob("*.txt")}
    assert texts["b/1.txt"] == good["b/1.PNG"] + "\n"
    assert texts["2.txt"] == good["2.PNG"] + "\n"
    assert texts["2.jpg.txt"] == good["2.jpg"] + "\n"
    assert len(texts) == len(good) == 7
    reader = ShardReader(tmp_path / "out" / "shards")
    assert check_shards(tmp_path / "out" / "shards") == []
    assert {s.id: s.messages[-1].text for s in (reader.read(i) for i in range(len(reader)))} == good
    assert read_json(tmp_path / "out" / "result.json")["outputs"]["shards"] == {"samples": 7, "left_out": 0}
    hashes = {p: sha256_file(p) for p in (tmp_path / "out").glob("captions.*")}
    run(folder, tmp_path / "again", unit=4, formats=formats)
    assert all(sha256_file(tmp_path / "again" / path.name) == digest for path, digest in hashes.items())
    model = Hashing()
    run(folder, tmp_path / "later", unit=4)
    run(folder, tmp_path / "later", model, unit=4, formats=("parquet",))  # another format costs no second caption
    assert model.seen == []
    assert (tmp_path / "later" / "captions.parquet").exists()


def test_a_job_without_a_single_caption_ends_with_its_rows(folder, tmp_path):
    """Also where shards are asked for: nobody trains on none."""
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    for _ in range(2):
        report = run(folder, tmp_path / "out", formats=("jsonl", "txt", "shards"))
        assert (report.complete, report.rows, report.errors) == (True, 1, 1)
    outputs = read_json(tmp_path / "out" / "result.json")["outputs"]
    assert outputs["shards"] == {"samples": 0, "left_out": 0}
    assert not (tmp_path / "out" / "shards").exists()


def test_speed_is_told_in_images_however_many_prompts_each_has(folder, tmp_path):
    for name in BAD:
        (folder / name).unlink()
    told = []
    run(folder, tmp_path / "out", prompts=("一つ", "二つ"), max_new_tokens=5, on_progress=told.append)
    for progress in (told[0], told[-1]):
        assert progress.tokens_per_s == pytest.approx(2 * 5 * progress.images_per_s)
        assert f"{progress.images_per_s:.1f} images/s" in str(progress)


def test_an_output_of_an_earlier_call_is_kept_in_step(folder, tmp_path):
    pytest.importorskip("pyarrow")
    run(folder, tmp_path / "out", unit=4)
    (folder / "empty.jpg").write_bytes(encoded_image(20))
    run(folder, tmp_path / "out", unit=4, retry_failed=True, formats=("parquet",))
    run(folder, tmp_path / "whole", unit=4, formats=("parquet", "jsonl"))
    assert output(tmp_path / "out") == output(tmp_path / "whole")
    results = [read_json(tmp_path / name / "result.json") for name in ("out", "whole")]
    assert results[0] == results[1]


def test_no_text_file_is_written_over_another(tmp_path):
    names = ("a.jpg", "a.png.jpg", "a.png")  # a.txt, a.png.txt, and what is left
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(encoded_image(number))
    (tmp_path / "list.txt").write_text("\n".join(names))
    run(tmp_path / "list.txt", tmp_path / "out", formats=("txt",))
    assert len({path.read_text() for path in (tmp_path / "out" / "captions").rglob("*.txt")}) == 3


def test_a_row_of_the_first_copy_is_named_by_the_others(tmp_path):
    (tmp_path / "in").mkdir()
    for name, number, quality in (("a", 1, 95), ("b", 2, 95), ("c", 1, 60), ("d", 1, 30)):
        waves = np.sin(np.linspace(0, 9 * number, 64)[None] * np.linspace(1, number + 2, 64)[:, None]) * 100 + 128
        file = BytesIO()
        Image.fromarray(waves.astype(np.uint8)).save(file, "JPEG", quality=quality)
        (tmp_path / "in" / f"{name}.jpg").write_bytes(file.getvalue())
    run(tmp_path / "in", tmp_path / "out", unit=1, prompts=("一つ", "二つ"))
    rows = read_json_lines(tmp_path / "out" / "captions.jsonl")
    assert [row["id"] for row in rows][:3] == ["a.jpg#1", "a.jpg#2", "b.jpg#1"]
    assert [row["duplicate_of"] for row in rows] == [None] * 4 + ["a.jpg#1"] * 4


def test_wrong_orders_are_told_before_anything_is_made(folder, tmp_path):
    with pytest.raises(DataError, match="not found"):
        run(tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.md").write_text("x")
    with pytest.raises(DataError, match=r"no image found.*\.png"):
        run(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(UsageError, match="no format 'csv'"):
        run(folder, tmp_path / "out", formats=("csv",))
    with pytest.raises(UsageError, match="a folder, not a file"):
        run(folder, tmp_path / "captions.jsonl")
    with pytest.raises(UsageError, match=r"names 'artist', the rows have id, name, directory"):
        run(folder, tmp_path / "out", prompts=("{artist}の絵",))
    with pytest.raises(UsageError, match="not a prompt"):
        run(folder, tmp_path / "out", prompts=("{name.__class__}",))
    assert not (tmp_path / "out" / "plan").exists()
    run(folder, tmp_path / "out")
    with pytest.raises(UsageError, match=r"max_new_tokens was 96, now is 5.*name another --out"):
        run(folder, tmp_path / "out", max_new_tokens=5)
    with pytest.raises(UsageError, match="model_hash"):
        run(folder, tmp_path / "out", model_hash="other")


def test_a_file_name_that_is_not_unicode_does_not_stop_the_job(folder, tmp_path):
    with open(os.fsencode(folder) + b"/\xff\xfe.png", "wb") as file:
        file.write(encoded_image(8))
    report = run(folder, tmp_path / "out", formats=("jsonl", "txt"))
    assert (report.rows, report.errors) == (11, 4)
    rows = [json.loads(line) for line in output(tmp_path / "out").decode("utf-8").splitlines()]
    assert sum("\\udcff" in row["id"] for row in rows) == 1


def test_a_real_model_captions_odd_sizes_and_refuses_long_prompts(folder, tmp_path, tokenizer, processor):
    model = VisionLanguageModel(make_model(tokenizer), processor)
    prompts = ("この画像は？", "長" * 2000)
    settings = Settings(str(folder), "m", max_new_tokens=4, unit=5, threads=1, prompts=prompts)
    report = job.caption(tmp_path / "out", settings, lambda: Tools(model), max_failures=1)
    rows = read_json_lines(tmp_path / "out" / "captions.jsonl")
    assert (report.rows, report.errors) == (20, 14)
    good, long = rows[0::2], rows[1::2]
    assert sum(row["status"] == "ok" and isinstance(row["text"], str) for row in good) == 6
    assert sum(row["error_code"] == "prompt_too_long" for row in long) == 6


def test_a_drawn_caption_can_be_made_again_from_its_row(folder, tmp_path, tokenizer, processor):
    model = VisionLanguageModel(make_model(tokenizer), processor)
    settings = Settings(str(folder), "m", max_new_tokens=6, unit=10, threads=1, temperature=1.0, seed=5)
    job.caption(tmp_path / "out", settings, lambda: Tools(model))
    rows = [row for row in read_json_lines(tmp_path / "out" / "captions.jsonl") if row["status"] == "ok"]
    for row in rows[2:4]:
        sample = Sample("x", [Message("user", [0, CAPTION_PROMPT])], [ImageRef(path=str(folder / row["id"]))])
        (again,) = model.generate([sample], max_new_tokens=6, temperature=1.0, seed=[row["seed"]])
        assert again.text == row["text"]


def test_dicom_files_are_images_too(tmp_path):
    dicom = pytest.importorskip("pydicom", reason="the medical extra is not installed: pip install 'jvlm[medical]'")
    example = dicom.data.get_testdata_file("CT_small.dcm", download=False)
    if example is None:
        pytest.skip("this pydicom comes without its examples")
    (tmp_path / "images").mkdir()
    shutil.copy(example, tmp_path / "images" / "ct.dcm")
    (tmp_path / "images" / "a.png").write_bytes(encoded_image(1))
    report = run(tmp_path / "images", tmp_path / "out", formats=("jsonl", "shards"))
    assert (report.rows, report.errors) == (2, 0)
    assert read_json(tmp_path / "out" / "result.json")["outputs"]["shards"] == {"samples": 1, "left_out": 1}


def test_a_dry_run_computes_with_the_threads_of_the_job(folder):
    seen = []

    class Watched(Hashing):
        def generate(self, samples, **options):
            seen.append(torch.get_num_threads())
            return super().generate(samples, **options)

    before = torch.get_num_threads()
    found = forecast(Settings(str(folder), "m", threads=before + 1), lambda: Tools(Watched()), 5)
    assert {*seen} == {before + 1}
    assert torch.get_num_threads() == before
    assert (found.items, found.tried) == (10, 5)


def test_how_the_model_is_loaded_belongs_to_the_job(folder, tmp_path, tokenizer, processor, monkeypatch):
    save_model(tmp_path / "model", make_model(tokenizer), processor)
    seen, load = [], jvlm.load
    monkeypatch.setattr(jvlm, "load", lambda model, **options: seen.append(options) or load(model))
    command = ["caption", str(tmp_path / "model"), str(folder), "--max-new-tokens", "2", "--json"]
    for weights, compile in (("full", False), ("int8", False), ("int4", True)):
        options = ["--weights", weights, *["--compile"] * compile]
        told = CliRunner().invoke(app, [*command, "--out", str(tmp_path / weights), *options])
        assert told.exit_code == EXIT_ITEM_ERRORS, told.output
        settings = load_plan(tmp_path / weights / "plan").settings
        assert seen.pop() == {"weights": settings.weights, "compile": settings.compile}
        assert (settings.weights, settings.compile) == (weights, compile)
    for option in (["--weights", "int8"], ["--compile"]):
        told = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "full"), *option])
        assert isinstance(told.exception, UsageError)
    assert not seen
