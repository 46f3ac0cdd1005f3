"""A hospital's folder: every fault of the table with its line, patients apart, what may name them, pixels alone."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from tiny import encoded_image
from typer.testing import CliRunner

from jvlm.cli import app
from jvlm.datasets import convert_named
from jvlm.errors import DataError, UsageError
from jvlm.eval.items import exam_sample, load_items
from jvlm.files import read_json_lines
from jvlm.images.privacy import privacy_findings
from jvlm.images.shards import ShardReader, check_shards

HEAD = ["patient", "image", "question", "answer", "choices"]


def write_table(source, rows, head=HEAD):
    source.mkdir(parents=True, exist_ok=True)
    with open(source / "questions.csv", "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([head, *rows])


def write_pictures(source, count=24):
    source.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (source / f"{number}.png").write_bytes(encoded_image(number))


def rows(count=24, per_patient=2):
    return [
        [f"ID-{n // per_patient:04d}", f"{n}.png", f"{n}番の所見はどれか。", ["肺炎", "骨折"][n % 2], "肺炎|骨折|正常"]
        for n in range(count)
    ]


@pytest.fixture
def source(tmp_path):
    write_pictures(tmp_path / "in")
    (tmp_path / "in" / "settings.yaml").write_text("test_share: 0.5\nlicence: この病院の中だけ\n")
    return tmp_path / "in"


def test_patients_are_apart_and_the_exam_is_the_test_part(source, tmp_path):
    write_table(source, [*rows(), ["ID-0003", "", "何科ですか。", "内科", ""]])
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["data", "build", "hospital", "--source", str(source), "--out", str(out)])
    assert done.exit_code == 0, done.output
    counts = json.loads(done.output)
    assert counts["train"] + counts["test"] == 25
    assert counts["errors"] == counts["removed"] == counts["phi"] == 0
    patients = {2 + n: row[0] for n, row in enumerate([*rows(), ["ID-0003"]])}  # by line
    seen = {}
    for part in ("train", "test"):
        reader = ShardReader(out / part)
        assert check_shards(out / part) == []
        assert reader.card["licence"] == "この病院の中だけ"
        seen[part] = {patients[int(name.rsplit("-", 1)[1])] for name in reader.ids}
    assert all(seen.values())
    assert not seen["train"] & seen["test"]
    items = load_items(out / "exam" / "hospital" / "items.jsonl")
    assert len(items) == counts["exam"] > 8
    test = ShardReader(out / "test")
    samples = {sample.id: sample for sample in map(test.read, range(len(test)))}
    for item in items:
        asked, trained = exam_sample(item), samples[item.id]
        assert asked.messages[0].content == trained.messages[0].content
        assert asked.meta["gold"] == trained.messages[1].text
    grouped = {}
    for item in items:
        grouped.setdefault(item.group_id, set()).add(patients[item.number])
    assert all(len(found) == 1 for found in grouped.values())
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert b"ID-0" not in everything  # a patient becomes a number


@pytest.mark.long
def test_the_same_patient_goes_the_same_way_whatever_else_is_in_the_table(source, tmp_path):
    found = []
    for name, table in (("a", rows()), ("b", rows()[::-1][:20])):
        write_table(source, table)
        convert_named("hospital", source, tmp_path / name)
        lines = {2 + n: row[0] for n, row in enumerate(table)}
        ids = ShardReader(tmp_path / name / "test").ids
        found.append({lines[int(i.rsplit("-", 1)[1])] for i in ids})
    assert found[1] == found[0] & {row[0] for row in rows()[::-1][:20]}


BAD = {
    "no patient": (["", "1.png", "どれか。", "肺炎", ""], ["patient: no text"]),
    "three faults at once": (["ID", "99.png", " ", "肺炎", "a|a"], [
        "question: no text", "choices: 2 to 8 different ones parted by |, or none", "image 99.png: no such file",
    ]),
    "answer elsewhere": (["ID", "1.png", "どれか。", "腸炎", "肺炎|骨折"], ["answer: none of the choices"]),
    "out of the folder": (["ID", "../1.png", "何か。", "肺炎", ""], ["image ../1.png: file name '../1.png' leads"]),
    "too few fields": (["ID", "1.png", "どれか。"], ["more or fewer fields", "answer: no text"]),
    "too many fields": (["ID", "1.png", "どれか。", "肺炎", "", "x"], ["more or fewer fields"]),
    "torn picture": (["ID", "torn.png", "どれか。", "肺炎", ""], ["image torn.png: the image file is truncated"]),
}  # fmt: skip


def test_every_fault_is_told_at_once_with_file_and_line(source, tmp_path):
    (source / "torn.png").write_bytes(encoded_image(50)[:300])
    table = rows()
    for row, _ in BAD.values():
        table.append(row)
    write_table(source, table)
    counts = convert_named("hospital", source, tmp_path / "out")
    faults = read_json_lines(tmp_path / "out" / "errors.jsonl")
    expected = [(26 + n, told) for n, (_, found) in enumerate(BAD.values()) for told in found]
    assert [fault["where"] for fault in faults] == [f"questions.csv:{line}" for line, _ in expected]
    for fault, (_, told) in zip(faults, expected, strict=True):
        assert told in fault["error"]
    assert counts["errors"] == len(expected)
    assert counts["train"] + counts["test"] == 24
    done = CliRunner().invoke(app, ["data", "build", "hospital", "--source", str(source), "--out", str(tmp_path / "o")])
    assert done.exit_code == 4


@pytest.mark.long
def test_a_table_that_cannot_be_one_is_refused(source, tmp_path):
    for head, told in ((HEAD[1:], "columns missing: patient"), ([*HEAD, "age"], "unknown: age")):
        write_table(source, [], head)
        with pytest.raises(DataError, match=f"questions.csv:1: .*{told}"):
            convert_named("hospital", source, tmp_path / "out")
    (source / "questions.csv").write_bytes("patient,question,answer\n1,どれか,肺炎\n".encode("cp932"))
    with pytest.raises(DataError, match="CSV UTF-8"):
        convert_named("hospital", source, tmp_path / "out")
    write_table(source, rows(2))
    with pytest.raises(DataError, match=r"none of 1 patients is in the (test|train) part"):
        convert_named("hospital", source, tmp_path / "out")
    (source / "settings.yaml").write_text("alow_patient_tags: yes, we may\n")
    with pytest.raises(UsageError, match="did you mean 'allow_patient_tags'"):
        convert_named("hospital", source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_picture_of_both_parts_leaves_train(source, tmp_path):
    table = rows()
    table += [[f"ID-{n:04d}", "0.png", "同じ写真です。", "肺炎", ""] for n in range(12)]
    write_table(source, table)
    counts = convert_named("hospital", source, tmp_path / "out")
    removed = read_json_lines(tmp_path / "out" / "removed.jsonl")
    assert counts["removed"] == len(removed) > 0
    assert {row["split"] for row in removed} == {"train"}
    pictures = []
    for part in ("train", "test"):
        reader = ShardReader(tmp_path / "out" / part)
        pictures.append({image.read() for i in range(len(reader)) for image in reader.read(i).images})
    assert not pictures[0] & pictures[1]


def test_what_may_name_a_patient_stops_the_build_until_a_reason_is_given(source, tmp_path):
    from dicom_files import dicom_file

    frame = (np.arange(24 * 32).reshape(24, 32) % 251).astype(np.uint8)
    told = {"PatientName": "山田^太郎", "PatientID": "ID-0001", "BurnedInAnnotation": "YES"}
    told |= {"SpecificCharacterSet": "ISO_IR 192"}
    (source / "x.dcm").write_bytes(dicom_file(frame, **told))
    (source / "clean.dcm").write_bytes(dicom_file(frame[::-1].copy(), BurnedInAnnotation="NO"))
    exif = Image.Exif()
    exif[0x013B] = "撮影者"  # Artist
    Image.new("RGB", (40, 30), "red").save(source / "photo.jpg", exif=exif)
    table = [*rows(), ["ID-0001", "x.dcm|clean.dcm", "どれか。", "肺炎", ""]]
    table += [["ID-0002", "photo.jpg", "何か。", "赤", ""], ["ID-0005", "", "ID-0005の診断は。", "肺炎", ""]]
    write_table(source, table)
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"3 files or lines may name a patient .*allow_patient_tags") as caught:
        convert_named("hospital", source, out)
    assert "山田" not in str(caught.value)
    assert not out.exists()
    found = {row["where"]: row["findings"] for row in read_json_lines(tmp_path / "out.phi.jsonl")}
    assert found == {
        "x.dcm": ["PatientName", "PatientID", "BurnedInAnnotation is YES"],
        "photo.jpg": ["EXIF Artist"],
        "questions.csv:28": ["the text holds the patient's number"],
    }
    (source / "settings.yaml").write_text("test_share: 0.5\nallow_patient_tags: short\n")
    with pytest.raises(UsageError, match="allow_patient_tags"):
        convert_named("hospital", source, out)
    reason = "倫理委員会の承認 2026-12、院内のみ"
    (source / "settings.yaml").write_text(f"test_share: 0.5\nallow_patient_tags: {reason}\n", encoding="utf-8")
    table[-1][2] = "診断は。"  # it would be trained on as it stands
    write_table(source, table)
    assert convert_named("hospital", source, out)["phi"] == 2
    card = ShardReader(out / "train").card
    assert card["patient_tags"] == {"found": 2, "allowed_because": reason}
    for part in ("train", "test"):
        reader = ShardReader(out / part)
        for i in range(len(reader)):
            for image in reader.read(i).images:
                assert privacy_findings(image) == []  # pixels alone are taken
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    for text in ("山田", "撮影者"):
        assert text.encode() not in everything


def test_a_file_named_by_a_patients_number_is_reported(source, tmp_path):
    (source / "ID-0001.png").write_bytes(encoded_image(70))
    write_table(source, [*rows(), ["ID-0001", "ID-0001.png", "どれか。", "肺炎", ""]])
    with pytest.raises(DataError, match="file's name holds the patient's number"):
        convert_named("hospital", source, tmp_path / "out")


def test_what_an_image_says_beside_its_pixels(tmp_path):
    picture = Image.new("RGB", (8, 8), "red")
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "患者さん"  # Orientation, ImageDescription
    for name, options, expected in (
        ("a.jpg", {"exif": exif, "comment": b"x"}, {"EXIF ImageDescription", "JPEG comment"}),
        ("b.png", {}, set()),
        ("c.jpg", {"dpi": (72, 72)}, set()),
        ("d.tif", {"description": "患者さん"}, {"EXIF ImageDescription"}),
        ("e.tif", {"compression": "tiff_lzw"}, set()),
        ("f.gif", {}, set()),
        ("g.webp", {}, set()),
    ):
        picture.save(tmp_path / name, **options)
        assert set(privacy_findings(tmp_path / name)) == expected, name
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Patient", "山田")
    picture.save(tmp_path / "t.png", pnginfo=text)
    assert privacy_findings(tmp_path / "t.png") == ["PNG Patient"]
    (tmp_path / "no.png").write_bytes(b"nothing")
    with pytest.raises(DataError):
        privacy_findings(tmp_path / "no.png")
