"""Builds: any number of processes, any interruption, the same bytes."""

import os
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import encoded_image

from jvlm.datasets import build, build_set, prepare
from jvlm.datasets.layouts import folder as folder_layout
from jvlm.errors import DataError, UsageError
from jvlm.images.load import load_frames
from jvlm.images.shards import ShardReader, check_shards
from jvlm.sample import ImageRef, Message, Sample

SAMPLES = 23


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """23 captioned images, of which two have no caption and one is cut."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(SAMPLES):
        data = encoded_image(number)
        (folder / f"{number:02d}.png").write_bytes(data[:99] if number == 9 else data)
        if number not in (5, 6):
            (folder / f"{number:02d}.txt").write_text(f"{number}番の絵です。")
    return folder


def content(out: Path) -> dict[str, bytes]:
    files = [*sorted(out.iterdir()), out.with_name(out.name + ".errors.jsonl")]
    return {path.name.replace(out.name, "OUT"): path.read_bytes() for path in files}


def test_bytes_do_not_depend_on_the_number_of_processes(source: Path, tmp_path: Path) -> None:
    for workers in (1, 2, 3):
        counts = build_set(source, tmp_path / f"{workers}-out", workers=workers, samples_per_shard=4)
        assert counts == {"samples": 20, "errors": 3}
    assert content(tmp_path / "1-out") == content(tmp_path / "2-out") == content(tmp_path / "3-out")
    assert check_shards(tmp_path / "1-out") == []
    reader = ShardReader(tmp_path / "1-out")
    assert reader.ids == [f"{n:02d}.png" for n in range(SAMPLES) if n not in (5, 6, 9)]
    assert [shard["samples"] for shard in reader.card["shards"]] == [4, 2, 3, 4, 4, 3]


def test_a_part_without_anything_usable_leaves_no_empty_shard(source: Path, tmp_path: Path) -> None:
    counts = build_set(source, tmp_path / "out", samples_per_shard=1)
    assert counts == {"samples": 20, "errors": 3}
    assert check_shards(tmp_path / "out") == []
    assert [path.name for path in sorted((tmp_path / "out").glob("*.tar"))][-1] == "SHARD-000019.tar"


def test_an_interrupted_build_goes_on(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_set(source, tmp_path / "whole-out", samples_per_shard=4)
    real, read = folder_layout.sample, []

    def interrupted(item, *rest):
        read.append(item.content)
        if len(read) == 14:
            raise KeyboardInterrupt
        return real(item, *rest)

    monkeypatch.setattr(folder_layout, "sample", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_set(source, tmp_path / "cut-out", samples_per_shard=4)
    assert not (tmp_path / "cut-out").exists()
    done = sorted(path.name for path in (tmp_path / "cut-out.work").glob("0*"))
    assert done == ["000000", "000001", "000002"]
    read[:] = [None] * 14
    build_set(source, tmp_path / "cut-out", samples_per_shard=4)
    made = [name for name in read if name]
    assert made == [f"{n:02d}.png" for n in range(12, SAMPLES)], "what is there is not made again"
    assert content(tmp_path / "cut-out") == content(tmp_path / "whole-out")
    assert not (tmp_path / "cut-out.work").exists()


def test_a_changed_source_or_setting_begins_anew(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for change in (lambda: (source / "00.txt").write_text("別の説明です。"), lambda: None):
        with monkeypatch.context() as patched:
            patched.setattr(build, "_join", stop)
            with pytest.raises(KeyboardInterrupt):
                build_set(source, tmp_path / "out", samples_per_shard=8)
        assert len(list((tmp_path / "out.work").glob("0*"))) == 3
        change()
        build_set(source, tmp_path / "out", samples_per_shard=4)
        assert ShardReader(tmp_path / "out").record(0)["messages"][1]["content"] == ["別の説明です。"]
        assert [s["samples"] for s in ShardReader(tmp_path / "out").card["shards"]] == [4, 2, 3, 4, 4, 3]


def test_a_killed_build_is_finished_by_the_same_command(source: Path, tmp_path: Path) -> None:
    build_set(source, tmp_path / "whole-out", samples_per_shard=2)
    script = (
        "import time\n"
        "from pathlib import Path\n"
        "from jvlm.datasets import build_set\n"
        "from jvlm.datasets.layouts import folder\n"
        "real = folder.sample\n"
        "folder.sample = lambda *arguments: (time.sleep(0.05), real(*arguments))[1]\n"
        f"build_set(Path({str(source)!r}), Path({str(tmp_path / 'out')!r}), samples_per_shard=2)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script])
    work = tmp_path / "out.work"
    deadline = time.monotonic() + 60
    while not (work / "000003").is_dir() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "out").exists()
    kept = {path: path.stat().st_ino for path in work.glob("0*/shard.tar")}
    assert 4 <= len(kept) < 12
    build_set(source, tmp_path / "out", samples_per_shard=2, workers=2)
    assert content(tmp_path / "out") == content(tmp_path / "whole-out")
    assert set(kept.values()) <= {path.stat().st_ino for path in (tmp_path / "out").glob("*.tar")}


def test_nothing_usable_leaves_the_older_set(source: Path, tmp_path: Path) -> None:
    build_set(source, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for path in source.glob("*.txt"):
        path.unlink()
    with pytest.raises(DataError, match=r"nothing usable.*out\.errors\.jsonl"):
        build_set(source, tmp_path / "out", "folder")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_the_output_must_not_lie_in_the_source(source: Path) -> None:
    with pytest.raises(UsageError, match="inside the source"):
        build_set(source, source / "out")
    assert not list(source.glob("out*"))


# --- pictures of other kinds ------------------------------------------------------------------------------------


def test_frames_of_another_kind_of_picture_become_pngs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame stands where the picture stood, in order, and other pictures keep their places."""
    frames = [Image.fromarray(np.full((4, 5, 3), value, np.uint8)) for value in (10, 20, 30)]
    monkeypatch.setattr(prepare, "load_frames", lambda source: frames)
    film, photo = ImageRef(data=b"II*\0".ljust(128) + b"DICM"), ImageRef(data=encoded_image(0))
    turns = [Message("user", [1, "と", 0, "の違いは。", 2]), Message("assistant", ["色。"])]
    sample = prepare.prepared(Sample("a", turns, [film, photo, film], [Message("assistant", ["形。"])], {"k": 1}))
    assert sample.messages[0].content == [3, "と", 0, 1, 2, "の違いは。", 4, 5, 6]
    assert sample.images[3].data == encoded_image(0)
    for number, image in enumerate(sample.images[:3] + sample.images[4:]):
        decoded = np.asarray(Image.open(BytesIO(image.data or b"")))
        assert (decoded == np.asarray(frames[number % 3])).all()
    assert (sample.id, sample.meta, sample.rejected) == ("a", {"k": 1}, [Message("assistant", ["形。"])])


def test_dicom_becomes_frames_at_build_time(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the medical extra is not installed: pip install 'jvlm[medical]'")
    frames = np.random.default_rng(0).integers(0, 4096, (3, 6, 5), np.uint16)
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file.SOPClassUID, file.SOPInstanceUID = pydicom.uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage, "1.2.3"
    file.PatientName, file.PhotometricInterpretation, file.SamplesPerPixel = "架空^花子", "MONOCHROME2", 1
    file.NumberOfFrames, file.Rows, file.Columns = frames.shape
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
    file.SpecificCharacterSet, file.PixelData = "ISO_IR 192", frames.tobytes()
    (tmp_path / "in").mkdir()
    pydicom.dcmwrite(tmp_path / "in" / "ct.dcm", file, enforce_file_format=True)
    (tmp_path / "in" / "ct.txt").write_text("架空のCTです。")
    (tmp_path / "in" / "cut.dcm").write_bytes((tmp_path / "in" / "ct.dcm").read_bytes()[:-9])
    (tmp_path / "in" / "cut.txt").write_text("切れたCTです。")
    assert build_set(tmp_path / "in", tmp_path / "out") == {"samples": 1, "errors": 1}
    assert check_shards(tmp_path / "out") == []
    reader = ShardReader(tmp_path / "out")
    sample = reader.read(0)
    assert sample.messages[0].content[:3] == [0, 1, 2]
    assert reader.sizes(0) == [(5, 6)] * 3
    for image, frame in zip(sample.images, load_frames(tmp_path / "in" / "ct.dcm"), strict=True):
        assert (np.asarray(Image.open(BytesIO(image.read())).convert("RGB")) == np.asarray(frame)).all()
    assert not any("花子".encode() in path.read_bytes() for path in (tmp_path / "out").iterdir())
