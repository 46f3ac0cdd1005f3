"""Each public layout: what is usable becomes samples, the rest is told by its place."""

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tiny import encoded_image

from jvlm.datasets import build_set
from jvlm.datasets.layouts import LAYOUTS, layout_of
from jvlm.errors import DataError, UsageError
from jvlm.files import read_json, read_json_lines
from jvlm.images.shards import ShardReader, check_shards, write_shards
from jvlm.infer.caption.inputs import list_items
from jvlm.sample import CAPTION_PROMPT, Sample


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with images 0.png to 3.png, cut.png, and a/0.png."""
    folder = tmp_path / "source"
    (folder / "a").mkdir(parents=True)
    for number in range(4):
        (folder / f"{number}.png").write_bytes(encoded_image(number))
    (folder / "a" / "0.png").write_bytes(encoded_image(9))
    (folder / "cut.png").write_bytes(encoded_image(3)[:200])
    return folder


def built(source: Path, layout: str | None = None, **options: Any) -> tuple[list[Sample], dict[str, str]]:
    """The samples of a source, and what was left out by its place below it."""
    out = source.parent / "out"
    counts = build_set(source, out, layout, **options)
    assert check_shards(out) == []
    reader = ShardReader(out)
    rows = read_json_lines(source.parent / "out.errors.jsonl")
    assert counts == {"samples": len(reader), "errors": len(rows)}
    assert not (source.parent / "out.work").exists()
    base = f"{source if source.is_dir() else source.parent}/"
    assert all(row["where"].startswith(base) for row in rows)
    return [reader.read(i) for i in range(len(reader))], {r["where"].removeprefix(base): r["error"] for r in rows}


def captioned(sample: Sample, caption: str, number: int) -> bool:
    """Whether the sample is a caption of the image of this number."""
    asked = [(m.role, m.content) for m in sample.messages]
    return asked == [("user", [0, CAPTION_PROMPT]), ("assistant", [caption])] and [
        image.read() for image in sample.images
    ] == [encoded_image(number)]


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


# --- folder -----------------------------------------------------------------------------------------------------


def test_a_folder_with_captions_beside_the_images(source: Path) -> None:
    (source / "0.txt").write_text("赤い丸。\n", encoding="utf-8-sig")
    (source / "a" / "0.txt").write_text("青い丸。", encoding="utf-8")
    (source / "2.txt").write_bytes("緑".encode("cp932"))
    (source / "3.txt").write_text(" \n")
    (source / "cut.txt").write_text("半分。")
    samples, faults = built(source)
    assert [sample.id for sample in samples] == ["0.png", "a/0.png"]
    assert captioned(samples[0], "赤い丸。", 0)
    assert captioned(samples[1], "青い丸。", 9)
    assert faults == {
        "1.png": "no caption: 1.txt is not beside it",
        "2.png": "2.txt: not UTF-8",
        "3.png": "no text in 'caption'",
        "cut.png": "cut.png: the image file is truncated",
    }


def test_linked_folders_belong_to_it(source: Path, tmp_path: Path) -> None:
    """Each once, and never in a circle; what a captioning job reads of a folder is the same."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "7.png").write_bytes(encoded_image(7))
    for image in (*source.rglob("*.png"), elsewhere / "7.png"):
        image.with_suffix(".txt").write_text(image.stem)
    (source / "again").symlink_to(source / "a")
    (source / "set").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(source)
    found, left = built(source)
    assert [sample.id for sample in found] == ["0.png", "1.png", "2.png", "3.png", "a/0.png", "set/7.png"]
    assert [*left] == ["cut.png"]
    assert sorted([sample.id for sample in found] + [*left]) == [item.id for item in list_items(str(source))]


@pytest.mark.parametrize("columns", [("file_name", "text"), ("image", "caption")])
@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv", "captions.csv"])
def test_a_folder_with_a_listing(source: Path, name: str, columns: tuple[str, str]) -> None:
    rows = [("1.png", "二行の\n「説明」, です。"), ("9.png", "無い"), ("../x.png", "外"), ("a/0.png", "青")]
    rows.append(("2.png", ""))
    with open(source / name, "w", encoding="utf-8", newline="") as file:
        if name.endswith(".csv"):
            csv.writer(file).writerows([columns, *rows])
        else:
            file.writelines(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
    (source / "0.txt").write_text("列挙にない。")
    samples, faults = built(source)
    assert [sample.meta["file"] for sample in samples] == ["1.png", "a/0.png"]
    assert captioned(samples[0], rows[0][1], 1)
    lines = {place.rpartition(":")[2] for place in faults}
    assert lines == ({"2", "3", "5"} if name.endswith(".jsonl") else {"4", "5", "7"})
    assert "no such file" in " ".join(faults.values())
    assert "leads out of the folder" in " ".join(faults.values())


def test_a_listing_without_columns_is_an_error(source: Path) -> None:
    (source / "captions.csv").write_text("1.png,赤\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"captions\.csv: no columns.*file_name,text"):
        build_set(source, source.parent / "out")
    assert not (source.parent / "out.work").exists()


# --- LLaVA ------------------------------------------------------------------------------------------------------


def turns(*said: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(said)]


LLAVA_GOOD = [
    ({"id": "7", "image": "0.png", "conversations": turns("<image>\n何色。", "赤。")}, [[0, "何色。"], ["赤。"]]),
    ({"image": "0.png", "conversations": turns("何色ですか。\n<image>", "赤。")}, [["何色ですか。", 0], ["赤。"]]),
    ({"image": "0.png", "conversations": turns("何色ですか。", "赤。")}, [[0, "何色ですか。"], ["赤。"]]),
    ({"conversations": turns("元気？", "はい。", "<b>", "え。")}, [["元気？"], ["はい。"], ["<b>"], ["え。"]]),
    (
        {
            "image": ["0.png", "1.png"],
            "conversations": turns("<image>と\n<image>の違いは。", "色。", "本当？", "はい。"),
        },
        [[0, "と", 1, "の違いは。"], ["色。"], ["本当？"], ["はい。"]],
    ),
    (
        {"image": ["0.png", "1.png"], "conversations": turns("<image>\nこれは。", "赤。", "<image>\n次は。", "青。")},
        [[0, "これは。"], ["赤。"], [1, "次は。"], ["青。"]],
    ),
    (
        {"conversations": [{"from": "system", "value": "短く。"}, *turns("色は。", "赤。")], "image": "0.png"},
        [["短く。"], [0, "色は。"], ["赤。"]],
    ),
]
LLAVA_BAD = {
    "marks 2 images and has 1": {"image": "0.png", "conversations": turns("<image><image>", "赤。")},
    "marks 1 images and has 0": {"conversations": turns("<image>\n何", "赤。")},
    "turn 2 marks an image": {"image": "0.png", "conversations": turns("何", "<image>赤。")},
    "does not end with an answer": {"image": "0.png", "conversations": turns("何", "赤。", "次")},
    "turn 1 is not the user's": {"conversations": turns("何", "赤。")[1:]},
    "turn 2 is not the assistant's": {"conversations": [*turns("何"), *turns("何", "赤。")]},
    "turn 1 is not of human or gpt": {"conversations": [{"from": ["x"], "value": "y"}]},
    "turn 2 is not of human": {"conversations": [*turns("何"), {"from": "gpt", "value": None}]},
    "no conversations": {"image": "0.png"},
    "not a JSON object": [1],
    "an answer, caption or document has no text": {"image": "0.png", "conversations": turns("何", " ")},
    "leads out": {"image": "/etc/passwd", "conversations": turns("何", "赤。")},
    "no such file": {"image": "9.png", "conversations": turns("何", "赤。")},
    "no text in 'image'": {"image": 5, "conversations": turns("何", "赤。")},
    "half a surrogate pair": {"image": "0.png", "conversations": turns("何", "\ud800")},
}


def test_llavas_marks_become_structure(source: Path) -> None:
    path = source / "v1.json"
    path.write_text(json.dumps([record for record, _ in LLAVA_GOOD]), encoding="utf-8")
    samples, faults = built(path)
    assert faults == {}
    for number, (sample, (_, wanted)) in enumerate(zip(samples, LLAVA_GOOD, strict=True), 1):
        assert sample.id == f"v1-{number:08d}"
        assert [message.content for message in sample.messages] == wanted
        assert "<image>" not in json.dumps(sample.to_record())
    assert samples[0].meta == {"original_id": "7"}
    assert [image.read() for image in samples[4].images] == [encoded_image(0), encoded_image(1)]


def test_llavas_bad_records_are_told(source: Path) -> None:
    path = source / "v1.json"
    path.write_text(json.dumps([LLAVA_GOOD[0][0], *LLAVA_BAD.values()]), encoding="utf-8")
    samples, faults = built(path)
    assert len(samples) == 1
    assert list(faults) == [f"v1.json:{number}" for number in range(2, len(LLAVA_BAD) + 2)]
    for error, wanted in zip(faults.values(), LLAVA_BAD, strict=True):
        assert wanted in error


def test_images_may_lie_elsewhere(source: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    path = write(tmp_path / "lists" / "v1.json", [LLAVA_GOOD[0][0]])
    with pytest.raises(DataError, match="nothing usable"):
        build_set(path, tmp_path / "out")
    assert build_set(path, tmp_path / "out", images=source) == {"samples": 1, "errors": 0}


# --- COCO -------------------------------------------------------------------------------------------------------


def test_coco_keeps_all_captions_of_an_image_in_one_sample(source: Path) -> None:
    pictures = [{"id": n, "file_name": f"{n}.png"} for n in (0, 1, 2, 1)]
    pictures += [{"id": 3}, {"file_name": "3.png"}, {"id": [4]}]  # type: ignore[list-item]
    said = ((1, " 青。"), (0, "赤。"), (1, "青い丸。"), (8, "無"))
    notes: list[Any] = [{"image_id": n, "caption": caption} for n, caption in said]
    notes += [{"image_id": 3, "caption": "緑。"}, {"image_id": 0, "caption": ""}, {"caption": "x"}, 5]
    path = write(source / "stair_train.json", {"images": pictures, "annotations": notes, "licenses": []})
    samples, faults = built(path)
    assert [sample.id for sample in samples] == ["stair_train-0", "stair_train-1"]
    assert captioned(samples[1], "青。", 1)
    assert samples[1].meta == {"image_id": 1, "file": "1.png", "captions": ["青。", "青い丸。"]}
    errors = list(faults.items())
    assert [place for place, _ in errors] == [
        *(f"stair_train.json:annotations:{number}" for number in (6, 7, 8)),
        *(f"stair_train.json:images:{number}" for number in (3, 4, 5, 6, 7)),
        "stair_train.json:annotations",
    ]
    assert "no caption" in faults["stair_train.json:images:3"]
    assert "stands twice" in faults["stair_train.json:images:4"]
    assert "no text in 'image'" in faults["stair_train.json:images:5"]
    assert "image 8, which is not among the images" in faults["stair_train.json:annotations"]


@pytest.mark.parametrize(("layout", "value"), [("coco", [1]), ("llava", {"a": 1}), ("coco", {"images": []})])
def test_json_of_another_layout_is_an_error(source: Path, layout: str, value: object) -> None:
    path = write(source / "x.json", value)
    with pytest.raises(DataError, match=r"x\.json: "):
        build_set(path, source.parent / "out", layout)
    path.write_text("{")
    with pytest.raises(DataError, match=r"x\.json: not JSON"):
        build_set(path, source.parent / "out", layout)


# --- tables -----------------------------------------------------------------------------------------------------


def table(source: Path) -> Any:
    pyarrow = pytest.importorskip("pyarrow")
    images = [{"bytes": encoded_image(n), "path": None} for n in range(3)]
    images += [{"bytes": None, "path": "3.png"}, {"bytes": None, "path": "../3.png"}, None]
    texts = ["赤。", None, "青。", "緑。", "外。", "無。"]
    return pyarrow.table({"image": images, "text": texts, "extra": [object.__name__] * 6})


def check_table(samples: list[Sample], faults: dict[str, str], file: str) -> None:
    for sample, caption, number in zip(samples, ("赤。", "青。", "緑。"), (0, 2, 3), strict=True):
        assert captioned(sample, caption, number)
    assert list(faults) == [f"{file}:{row}" for row in (2, 5, 6)]
    assert list(faults.values())[2] == "a caption of 0 images"


def test_parquet(source: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (source / "b").mkdir()
    parquet.write_table(table(source), source / "b" / "x.parquet", row_group_size=2)
    (source / "y.parquet").write_bytes(b"PAR1")
    samples, faults = built(source)
    assert "not a Parquet file" in faults.pop("y.parquet")
    check_table(samples, faults, "b/x.parquet")
    assert [sample.id for sample in samples] == [f"b/x-{n:08d}" for n in (1, 3, 4)]
    assert captioned(built(source / "b" / "x.parquet", images=source)[0][2], "緑。", 3)


def test_parquet_of_bytes_and_conversations(source: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    talks = [turns("<image>\n何", "赤。"), turns("何", "青。"), turns("何")]
    two = [[encoded_image(0)], [encoded_image(1), encoded_image(2)], []]
    pyarrow.parquet.write_table(pyarrow.table({"images": two, "conversations": talks}), source / "x.parquet")
    samples, faults = built(source / "x.parquet")
    assert [message.content for message in samples[1].messages] == [[0, 1, "何"], ["青。"]]
    assert list(faults) == ["x.parquet:3"]
    for columns in (["image"], ["text"], ["image", "text", "caption"], ["image", "images", "text"]):
        pyarrow.parquet.write_table(pyarrow.table({name: [b"x"] for name in columns}), source / "y.parquet")
        with pytest.raises(DataError, match=r"columns are .*one column"):
            build_set(source / "y.parquet", source.parent / "out")


def save_to_disk(folder: Path, rows: Any) -> None:
    """What `datasets` leaves behind: Arrow streams, and which they are."""
    import pyarrow

    folder.mkdir(parents=True)
    names = []
    for number, part in enumerate((rows.slice(0, 2), rows.slice(2))):
        names.append(f"data-{number:05d}-of-00002.arrow")
        with pyarrow.ipc.new_stream(folder / names[-1], rows.schema) as stream:
            stream.write_table(part, max_chunksize=2)
    write(folder / "state.json", {"_data_files": [{"filename": name} for name in names], "_split": "train"})
    write(folder / "dataset_info.json", {"features": {}})


def test_a_folder_that_datasets_saved(source: Path) -> None:
    rows = table(source)
    save_to_disk(source / "saved" / "train", rows)
    samples, faults = built(source / "saved" / "train", images=source)
    first, second = (f"data-0000{n}-of-00002.arrow" for n in range(2))
    assert list(faults) == [f"{first}:2", f"{second}:3", f"{second}:4"]
    assert captioned(samples[1], "青。", 2)
    assert captioned(samples[2], "緑。", 3)
    write(source / "saved" / "dataset_dict.json", {"splits": ["train", "test"]})
    with pytest.raises(UsageError, match=r"several splits.*\{train,test\}"):
        build_set(source / "saved", source.parent / "out")
    (source / "saved" / "train" / second).write_bytes(b"ARROW1")
    samples, faults = built(source / "saved" / "train")
    assert "not an Arrow stream" in faults[second]


# --- webdataset -------------------------------------------------------------------------------------------------


def test_what_webdatasets_writer_wrote(source: Path) -> None:
    import webdataset

    tars = source / "tars"
    tars.mkdir()
    talk = {"conversations": turns("違い", "色")}
    rows: list[dict[str, Any]] = [
        {"__key__": "000", "png": encoded_image(0), "txt": "赤。".encode()},
        {"__key__": "001", "jpg": encoded_image(1), "json": {"caption": "青。", "width": 3}},
        {"__key__": "002", "png": encoded_image(2), "cls": 3},
        {"__key__": "003", "txt": "絵がない。".encode()},
        {"__key__": "004", "0.png": encoded_image(0), "1.png": encoded_image(1), "json": talk},
        {"__key__": "005", "png": encoded_image(2), "txt": "危険。".encode(), "pyd": {"a": 1}},
        {"__key__": "006", "png": encoded_image(2)[:100], "txt": "半分。".encode()},
        {"__key__": "007", "png": encoded_image(3), "txt": "緑。".encode()},
    ]
    # webdataset itself opens no file under WDS_SECURE
    opener = partial(open, mode="wb")
    many = {f"{n}.png": encoded_image(n) for n in range(11)}  # 10.png is written before 2.png
    rows.append({"__key__": "008", "json": {"conversations": turns("数", "色")}, **many})
    with webdataset.ShardWriter(str(tars / "set-%04d.tar"), maxcount=4, verbose=0, opener=opener) as writer:
        for row in rows:
            writer.write(row)
    samples, faults = built(tars)
    assert [sample.id for sample in samples] == [
        "set-0000:000",
        "set-0000:001",
        "set-0001:004",
        "set-0001:007",
        "set-0002:008",
    ]
    assert captioned(samples[0], "赤。", 0)
    assert captioned(samples[1], "青。", 1)
    assert [message.content for message in samples[2].messages] == [[0, 1, "違い"], ["色"]]
    assert captioned(samples[3], "緑。", 3)
    assert [image.read() for image in samples[4].images] == list(many.values())
    assert faults == {
        "set-0000.tar:002": "no text in 'caption'",
        "set-0000.tar:003": "a caption of 0 images",
        "set-0001.tar:005:pyd": "a pickle, which runs code when it is read",
        "set-0001.tar:006": "image 0: the image file is truncated",
    }
    assert built(tars / "set-0001.tar")[0][1].id == "set-0001:007"


def test_our_own_shards_are_read_back_as_webdataset(source: Path, tmp_path: Path) -> None:
    path = source / "v1.json"
    path.write_text(json.dumps([record for record, _ in LLAVA_GOOD]), encoding="utf-8")
    first, _ = built(path)
    write_shards(first, tmp_path / "tars")
    again, faults = built(tmp_path / "tars", "webdataset")
    assert faults == {}
    assert [(s.messages, s.images) for s in again] == [(s.messages, s.images) for s in first]


# --- which layout -----------------------------------------------------------------------------------------------


def test_a_layout_is_recognised_or_the_choices_are_named(source: Path) -> None:
    def refused(path: Path, what: str) -> None:
        with pytest.raises(UsageError, match=what) as caught:
            layout_of(path)
        assert all(name in str(caught.value) for name in LAYOUTS)

    refused(source, "not recognised")
    refused(source / "0.png", "not recognised")
    for name, value, layout in (("l.json", [], "llava"), ("c.json", {}, "coco"), ("r.jsonl", {}, "jsonl")):
        assert layout_of(write(source / name, value)) == layout
    for name in ("x.tar", "x.parquet"):
        (source / name).write_bytes(b"")
        assert layout_of(source / name) == {"x.tar": "webdataset", "x.parquet": "parquet"}[name]
    refused(source, "could be parquet or webdataset")
    (source / "x.parquet").unlink()
    assert layout_of(source) == "webdataset"
    (source / "0.txt").write_text("赤")
    refused(source, "could be webdataset or folder")
    assert layout_of(source, "folder") == "folder"
    with pytest.raises(UsageError, match=r"no layout 'csv'.*folder, llava"):
        layout_of(source, "csv")
    with pytest.raises(DataError, match="nowhere: file not found"):
        layout_of(source / "nowhere", "folder")
    with pytest.raises(UsageError, match="pipe: runs a shell command"):
        layout_of(Path("pipe:cat x.tar"), "webdataset")


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_no_layout_breaks_on_a_source_of_another_kind(source: Path, layout: str) -> None:
    """A folder without what it wants, and an image instead of a list."""
    for path in (source / "a", source / "0.png"):
        with pytest.raises((DataError, UsageError)) as caught:
            build_set(path, source.parent / "out", layout)
        assert str(path) in str(caught.value)
        assert not (source.parent / "out").exists()


def test_the_card_tells_the_layout(source: Path) -> None:
    (source / "0.txt").write_text("赤い丸。")
    built(source, about={"licence": "CC0", "source": "https://example.org"})
    card = read_json(source.parent / "out" / "dataset.json")
    assert (card["layout"], card["licence"], card["source"]) == ("folder", "CC0", "https://example.org")
    assert str(source.parent) not in json.dumps(card)
