import io
import json
import multiprocessing
import pickle
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from PIL import Image

from jvlm.errors import DataError
from jvlm.files import read_json, sha256_file, verify_folder, write_json
from jvlm.images.shards import ShardReader, check_shards, image_extension, shard_key, write_shards
from jvlm.sample import ImageRef, Message, Sample


def _image(seed: int, kind: str) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


IDS = ["a", "b-1", "dir/写真.jpg", "../../etc/x", "e", "f", "g"]


def _samples() -> Iterator[Sample]:
    """Seven samples with 0, 1 or 2 images, and one with 12."""
    for number, name in enumerate(IDS):
        count = 12 if name == "e" else number % 3
        images = [ImageRef(data=_image(number + i, ("PNG", "JPEG")[i % 2]), size=(8, 6)) for i in range(count)]
        turns = [Message("user", [*range(count), "これは何ですか。"]), Message("assistant", [f"答え{number}"])]
        rejected = [Message("assistant", ["いいえ"])] if number == 2 else None
        yield Sample(name, turns, images, rejected, {"set": "toy", "n": number})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shards(_samples(), tmp_path / "shards", samples_per_shard=3)
    return tmp_path / "shards"


def test_random_access_gives_the_samples_back(folder: Path) -> None:
    reader = ShardReader(folder)
    samples = list(_samples())
    assert reader.ids == IDS
    assert len(reader) == 7
    for i in (6, 0, 3, 2, 5, 1, 4):
        assert reader.read(i) == samples[i]
        assert reader.record(i) == samples[i].to_record()
        assert reader.num_images(i) == len(samples[i].images)
    for i in (7, -1):
        with pytest.raises(IndexError):
            reader.read(i)


def test_card(folder: Path) -> None:
    card = read_json(folder / "dataset.json")
    assert (card["num_samples"], card["num_images"]) == (7, sum(len(s.images) for s in _samples()))
    assert [shard["samples"] for shard in card["shards"]] == [3, 3, 1]
    assert [shard["file"] for shard in card["shards"]] == [f"SHARD-00000{n}.tar" for n in range(3)]
    assert ShardReader(folder).fingerprint == card["fingerprint"]
    verify_folder(folder)
    assert check_shards(folder) == []


def test_same_samples_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    write_shards(_samples(), again, samples_per_shard=3)
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
    other = write_shards(list(_samples())[:6], tmp_path / "other", samples_per_shard=3)
    assert other["fingerprint"] != ShardReader(folder).fingerprint


def test_sizes_are_in_the_index(tmp_path: Path) -> None:
    """Upright, also where EXIF turns the picture, and known without reading any of it."""
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(turned, "JPEG", exif=exif)
    mixed = [ImageRef(data=turned.getvalue()), ImageRef(data=_image(0, "PNG"))]
    write_shards([Sample("a", []), Sample("b", [], mixed), Sample("c", [], mixed[1:])], tmp_path / "set")
    reader = ShardReader(tmp_path / "set")
    for shard in (tmp_path / "set").glob("*.tar"):
        shard.rename(shard.with_suffix(".away"))
    assert [reader.sizes(i) for i in range(3)] == [[], [(20, 30), (8, 6)], [(8, 6)]]
    for shard in (tmp_path / "set").glob("*.away"):
        shard.rename(shard.with_suffix(".tar"))
    assert [image.size for image in reader.read(1).images] == [(20, 30), (8, 6)]
    with np.load(tmp_path / "set" / "index.npz") as index:
        arrays = dict(index)
    np.savez(tmp_path / "set" / "index.npz", **{**arrays, "sizes": arrays["sizes"] + 1})
    faults = [fault for fault in check_shards(tmp_path / "set") if "pixels" in fault]
    assert [fault.rpartition(": ")[2] for fault in faults] == [
        "20 × 30 pixels, the index says 21 × 31",
        "8 × 6 pixels, the index says 9 × 7",
        "8 × 6 pixels, the index says 9 × 7",
    ]
    del arrays["sizes"]
    np.savez(tmp_path / "set" / "index.npz", **arrays)
    with pytest.raises(DataError, match="unreadable index"):
        ShardReader(tmp_path / "set")


def test_records_stand_in_one_file_too(folder: Path) -> None:
    with open(folder / "records.jsonl.zst", "rb") as file:
        lines = zstandard.ZstdDecompressor().stream_reader(file).read().splitlines()
    assert [json.loads(line) for line in lines] == [sample.to_record() for sample in _samples()]
    with open(folder / "records.jsonl.zst", "wb") as file:
        file.write(zstandard.ZstdCompressor().compress(b"\n".join([*lines[:4], b"{}"]) + b"\n"))
    card = read_json(folder / "dataset.json")
    card["records_sha256"] = sha256_file(folder / "records.jsonl.zst")
    write_json(folder / "dataset.json", card)
    faults = [fault.removeprefix(f"{folder}/records.jsonl.zst") for fault in check_shards(folder)]
    assert faults == [f":5: not the record of {ShardReader(folder).where(4, 'json')}", ": 5 records, the index has 7"]


def test_the_card_says_what_it_is_told(tmp_path: Path) -> None:
    about = {"layout": "coco", "licence": "CC BY 4.0", "source": "https://example.org"}
    card = write_shards(_samples(), tmp_path / "set", about=about)
    assert card | about == card
    assert card["num_bytes"] == sum(path.stat().st_size for path in (tmp_path / "set").glob("*.tar"))
    assert read_json(tmp_path / "set" / "dataset.json") == card


@pytest.mark.parametrize("name", [None, "../x.tar", "/x.tar", "pipe:cat x.tar", "x.tar.sh", "a/x.tar", 5, ".tar"])
def test_a_card_may_name_only_plain_files(folder: Path, name: object) -> None:
    card = read_json(folder / "dataset.json")
    card["shards"][0]["file"] = name
    write_json(folder / "dataset.json", card)
    with pytest.raises(DataError, match=r"dataset\.json: the card"):
        ShardReader(folder)


def test_bytes_are_those_of_webdatasets_own_writer(folder: Path, tmp_path: Path) -> None:
    import webdataset

    with (
        open(tmp_path / "theirs.tar", "wb") as file,
        webdataset.TarWriter(file, user="jvlm", group="jvlm", mtime=0, encoder=False) as writer,
    ):
        for sample in list(_samples())[3:6]:
            fields = {f"{i}.{'jpg' if i % 2 else 'png'}": image.data for i, image in enumerate(sample.images)}
            record = json.dumps(sample.to_record(), ensure_ascii=False).encode()
            writer.write({"__key__": shard_key(sample.id), "json": record, **fields})
    assert (folder / "SHARD-000001.tar").read_bytes() == (tmp_path / "theirs.tar").read_bytes()


def test_webdataset_reads_the_shards_as_they_are(folder: Path) -> None:
    import webdataset

    urls = sorted(str(path) for path in folder.glob("*.tar"))
    dataset = webdataset.WebDataset(urls, shardshuffle=False)
    seen = 0
    for got, sample in zip(dataset, _samples(), strict=True):
        assert got["__key__"] == shard_key(sample.id)
        assert json.loads(got["json"]) == sample.to_record()
        for number, image in enumerate(sample.images):
            assert got[f"{number}.{'jpg' if number % 2 else 'png'}"] == image.data
        assert len([field for field in got if not field.startswith("__")]) == 1 + len(sample.images)
        seen += 1
    assert seen == 7


def test_keys_are_safe_names() -> None:
    assert shard_key("a_B-9") == "a_B-9"
    for name in ("../../etc/x", "/abs/y", "a.b", "", "写真", "x" * 200, "a b", "-rf", "\ud800", "a\n"):
        key = shard_key(name)
        assert key.startswith("id_")
        assert len(key) == 35
        assert key.isascii()
    assert shard_key("a.b") != shard_key("a.c")


def test_extension_follows_the_content() -> None:
    kinds = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif"}
    assert {kind: image_extension(_image(0, kind)) for kind in kinds} == kinds
    assert image_extension(b"%PDF-1.7") is None
    assert image_extension(b"II*\0".ljust(128) + b"DICM") is None


@pytest.mark.parametrize(
    ("samples", "fault"),
    [
        ([], "no samples to write"),
        ([Sample("a", []), Sample("a", [])], "a: two samples have this id"),
        ([Sample("a", [Message("user", [1, "x"])], [ImageRef(data=_image(0, "PNG"))])], "a: message names image 1"),
        ([Sample("a", [], [ImageRef(data=b"%PDF-1.7")])], "a:0: not a PNG"),
        ([Sample("a", [], [ImageRef(path="/no/such.png")])], "cannot read the image"),
        ([Sample("a", [], meta={"x": float("nan")})], "a: cannot be stored as JSON"),
        ([Sample("a", [], meta={"x": object()})], "a: cannot be stored as JSON"),
    ],
)
def test_bad_samples_leave_nothing_behind(samples: list[Sample], fault: str, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DataError, match=fault):
        write_shards(samples, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_samples_are_taken_one_at_a_time(tmp_path: Path) -> None:
    """A shard is never held in memory: the writer asks for the next sample only when the last is on its way."""
    alive = 0

    class Counted(ImageRef):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def stream() -> Iterator[Sample]:
        nonlocal alive
        for number in range(20):
            alive += 1
            yield Sample(f"s{number}", [], [Counted(data=_image(number, "PNG"))])
            assert alive <= 3

    write_shards(stream(), tmp_path / "out", samples_per_shard=10)
    assert len(ShardReader(tmp_path / "out")) == 20


def _read_ids(reader: ShardReader) -> list[str]:
    return [reader.read(i).id for i in range(len(reader))]


def test_reader_survives_pickle_fork_and_threads(folder: Path) -> None:
    reader = ShardReader(folder)
    assert _read_ids(reader) == IDS
    assert _read_ids(pickle.loads(pickle.dumps(reader))) == IDS
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(_read_ids, [reader] * 16)) == [IDS] * 16
    queue = multiprocessing.get_context("fork").SimpleQueue()
    children = [
        multiprocessing.get_context("fork").Process(target=lambda: queue.put(_read_ids(reader))) for _ in range(2)
    ]
    for child in children:
        child.start()
    assert [queue.get() for _ in children] == [IDS, IDS]
    for child in children:
        child.join()


def _damage(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def _offset(folder: Path, i: int, number: int) -> int:
    with np.load(folder / "index.npz") as index:
        return int(index["ranges"][index["start"][i] + number][0])


def test_short_missing_and_damaged_shards_name_the_place(folder: Path) -> None:
    shard = folder / "SHARD-000000.tar"
    _damage(shard, _offset(folder, 0, 0), b"]")
    with pytest.raises(DataError, match=r"SHARD-000000\.tar:a:json: not JSON"):
        ShardReader(folder).read(0)
    _damage(shard, _offset(folder, 0, 0), b'{"id": "q"}' + b" " * 500)
    with pytest.raises(DataError, match=r"SHARD-000000\.tar:a:json: not the record the index names"):
        ShardReader(folder).record(0)
    with open(shard, "r+b") as file:
        file.truncate(_offset(folder, 1, 1) + 3)
    with pytest.raises(DataError, match=r"SHARD-000000\.tar:b-1:0: the shard is shorter than its index says"):
        ShardReader(folder).read(1)
    shard.unlink()
    with pytest.raises(DataError, match=r"SHARD-000000\.tar:a:json: the shard is missing"):
        ShardReader(folder).read(0)


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        ("dataset.json", b"{", "not readable as JSON"),
        ("dataset.json", b'{"format": "other"}', "not a card of the format"),
        ("index.npz", b"PK", r"index\.npz: unreadable index or card"),
        ("index.npz", None, r"index\.npz: file not found"),
        ("dataset.json", None, "file not found"),
    ],
)
def test_damaged_card_or_index(folder: Path, file: str, content: bytes | None, fault: str) -> None:
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(DataError, match=fault):
        ShardReader(folder)
    assert len(check_shards(folder)) == 1


def test_index_that_contradicts_itself(folder: Path) -> None:
    with np.load(folder / "index.npz") as index:
        arrays: dict[str, Any] = dict(index)
    np.savez(folder / "index.npz", **{**arrays, "shard": arrays["shard"] + 5})
    with pytest.raises(DataError, match="the index contradicts itself"):
        ShardReader(folder)


def test_check_names_every_fault_at_once(folder: Path) -> None:
    first, last = folder / "SHARD-000000.tar", folder / "SHARD-000002.tar"
    samples = list(_samples())
    _damage(first, _offset(folder, 1, 1), b"broken image")
    record = json.dumps(samples[2].to_record(), ensure_ascii=False).encode()
    _damage(first, _offset(folder, 2, 0), record.replace(b'"content": [0, 1,', b'"content": [0, 7,'))
    last.unlink()
    card = read_json(folder / "dataset.json")
    write_json(folder / "dataset.json", {**card, "num_images": 3})
    faults = [fault.removeprefix(f"{folder}/") for fault in check_shards(folder)]
    place = f"{folder}/SHARD-000000.tar:{shard_key(IDS[2])}:json"
    assert faults == [
        f"records.jsonl.zst:3: not the record of {place}",
        "dataset.json: counts differ from the index, which has 7 samples, 17 images",
        "SHARD-000000.tar: content differs from its hash in dataset.json",
        "SHARD-000002.tar: the shard is missing",
        "SHARD-000000.tar:b-1:0: not a readable PNG, JPEG, WebP, BMP, GIF, TIFF or DICOM image",
        f"SHARD-000000.tar:{shard_key(IDS[2])}:json: message names image 7, the sample has 2",
    ]


def test_an_index_of_other_places_is_found(folder: Path) -> None:
    with np.load(folder / "index.npz") as index:
        arrays: dict[str, Any] = dict(index)
    arrays["ranges"][arrays["start"][2] + 1] += (0, 2)  # the padding behind an image is taken for a part of it
    np.savez(folder / "index.npz", **arrays)
    faults = [fault.removeprefix(f"{folder}/") for fault in check_shards(folder)]
    assert faults == [
        "index.npz: content differs from its hash in dataset.json",
        f"SHARD-000000.tar:{shard_key(IDS[2])}:0.png: stands elsewhere than the index says",
    ]


def test_one_changed_byte_is_found(folder: Path) -> None:
    shard = folder / "SHARD-000001.tar"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1  # in the padding, which no reader looks at
    shard.write_bytes(data)
    assert check_shards(folder) == [f"{shard}: content differs from its hash in dataset.json"]


def test_many_shards_do_not_use_up_the_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jvlm.images.shards.reader._Descriptor.KEPT_OPEN", 2)
    write_shards(_samples(), tmp_path / "out", samples_per_shard=1)
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    reader = ShardReader(tmp_path / "out")
    assert _read_ids(reader) == IDS
    if before:
        assert len(list(Path("/proc/self/fd").iterdir())) - before == 2


def test_moved_folder_still_reads(folder: Path) -> None:
    moved = folder.with_name("moved")
    shutil.move(folder, moved)
    assert _read_ids(ShardReader(moved)) == IDS
