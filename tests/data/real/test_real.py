"""Real data: a made folder of the same layout, and the counts of the real one."""

import io
import json
import shutil
from pathlib import Path

import pytest
import zstandard
from jvlm_data.real.build import RealConfig, build
from jvlm_data.real.pictures import Picture, splits
from jvlm_data.real.questions import product
from jvlm_data.real.texts import MAX_CHARS, head
from PIL import Image

from jvlm.errors import DataError, UsageError
from jvlm.eval.items import load_items
from jvlm.files import read_json_lines, sha256_bytes
from jvlm.images.shards import ShardReader

FRUIT = ("りんご", "バナナ", "ぶどう（赤）")
LONG_QUESTION = "見渡すかぎり田んぼが広がる風景のことを何と呼ぶのが最もふさわしいか？"
FRAMES = ("{}", "店で撮影した{}の写真", "売り場に並ぶ{}")


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 12), (number % 256, number // 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def write_set(folder: Path, name: str, rows: list[dict], images: dict[str, bytes]) -> None:
    (folder / name).mkdir(parents=True)
    for file, data in images.items():
        (folder / name / file).write_bytes(data)
    lines = [json.dumps(row | {"image": f"{name}/{row['image']}", "license": "made"}) for row in rows]
    (folder / f"{name}.jsonl").write_text("\n".join(lines))


def write_text(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(json.dumps({"text": text, "license": "made"}) + "\n" for text in texts)
    path.write_bytes(zstandard.compress(rows.encode()))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    write_text(root / "text" / "novels.jsonl.zst", [f"第{i}話。" + "むかしの話です。" * 20 for i in range(40)])
    write_text(root / "en_text" / "novels_en.jsonl.zst", [f"Chapter {i}. " + "It was so. " * 20 for i in range(40)])
    write_text(root / "medical_text" / "law.jsonl.zst", [f"第{i}条 医師は、診療をする。" for i in range(40)])
    write_text(root / "medical_text" / "quiz.jsonl.zst", [f"問題。{LONG_QUESTION}"])
    images = {f"{i}.png": png(i) for i in range(120)}
    rows = [{"image": f"{i}.png", "text": FRAMES[i % 3].format(FRUIT[i % 3])} for i in range(120)]
    write_set(root / "images", "grocery_store", rows, images)
    photos = {f"{i}.png": png(1000 + i) for i in range(120)} | {"torn.png": png(5)[:20]}
    rows = [{"image": f"{i}.png", "text": f"写真{i}" if i > 19 else "城の写真"} for i in range(120)]
    rows += [
        {"image": "torn.png", "text": "破れ"},
        {"image": "gone.png", "text": "不在"},
        {"image": "1.png", "text": " "},
    ]
    write_set(root / "images", "photos", rows, photos)
    smears = {f"{i}.png": png(2000 + i) for i in range(60)}
    rows = [
        {
            "image": f"{i}.png",
            "label": {"WBC": i % 3} | ({"RBC": 9} if i % 2 else {}),
            "caption_ja": f"白血球{i % 3}個。",
        }
        for i in range(60)
    ]
    write_set(root / "medical_images", "bccd", rows, smears)
    films = {f"{i}.png": png(3000 + i) for i in range(20)}
    asked = [(i, "test" if i % 4 == 0 else "train") for i in range(20)] + [(0, "train")]
    rows = [
        {"image": f"{i}.png", "question": f"Normal? {i} {n}", "answer": "no", "answer_type": "CLOSED", "split": split}
        for n, (i, split) in enumerate(asked)
    ]
    write_set(root / "medical_images", "vqa_rad", [*rows, rows[0] | {"answer": ""}], films)
    commonsense = root / "evals" / "jglue" / "datasets" / "jcommonsenseqa-v1.3"
    commonsense.mkdir(parents=True)
    choices = {f"choice{i}": text for i, text in enumerate(("畑", "海", "田園", "地方", "牧場"))}
    valid = [
        {"q_id": 7, "question": "田んぼが広がる風景は？", "label": 2} | choices,
        {"q_id": 8, "question": "", "label": 1},
        {"q_id": 11, "question": LONG_QUESTION, "label": 2} | choices,
        {"q_id": 9, "question": "どれでもないのは？", "label": 5} | choices,
        {"q_id": 10, "question": "どれでもないのは？", "label": -1} | choices,
    ]
    (commonsense / "valid-v1.3.json").write_text("\n".join(map(json.dumps, valid)))
    return root


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("built")
    return out, build(RealConfig(root, 3000, 2000, 400), out)


def images_of(out: Path, name: str) -> set[str]:
    reader = ShardReader(out / "shards" / name)
    return {sha256_bytes(i.read()) for n in range(len(reader)) for i in reader.read(n).images}


def test_no_picture_of_a_test_set_stands_in_training(built):
    out, _ = built
    held_out = ("captions_val", "captions_test", "naming_test", "counting_test", "vqa_rad_test")
    trained = ("captions_train", "instruct_train", "naming_train", "medical_pages", "medical_training")
    unseen = set().union(*(images_of(out, name) for name in held_out))
    assert all(images_of(out, name) for name in (*held_out, *trained))
    assert not unseen & set().union(*(images_of(out, name) for name in trained))


def test_a_written_caption_never_crosses_and_a_template_binds_nothing(built):
    out, _ = built
    places: dict[str, set[str]] = {}
    for name in ("captions_train", "captions_val", "captions_test"):
        reader = ShardReader(out / "shards" / name)
        for number in range(len(reader)):
            meta = reader.record(number)["meta"]
            places.setdefault(meta["text"], set()).add(name)
    assert len(places["城の写真"]) == 1  # twenty photos
    assert len(places["りんご"]) > 1


def test_groups_go_where_their_smallest_hash_goes():
    def picture(number, caption, source="photos", **row):
        digest = sha256_bytes(str(number).encode())
        return Picture(f"{source}-{number}", "x:1", source, Path("x"), digest, {"text": caption} | row)

    many = [picture(n, f"題{n // 2}") for n in range(400)]
    found = splits(many)
    assert all(found[a.sha256] == found[b.sha256] for a, b in zip(many[::2], many[1::2], strict=True))
    shares = [list(found.values()).count(name) / 400 for name in ("test", "val", "train")]
    assert shares == pytest.approx([0.10, 0.02, 0.88], abs=0.07)
    chained = [picture(1, "甲"), picture(2, "甲"), picture(2, "乙"), picture(3, "乙")]
    assert len(set(splits(chained).values())) == 1
    assert splits(chained) == splits(chained[::-1])
    radiology = [picture(n, "", "vqa_rad", split="train") for n in range(50)]
    radiology.append(picture(0, "", "vqa_rad", split="test"))
    assert sorted(splits(radiology).values()).count("test") == 1


def test_faults_are_recorded_and_the_build_goes_on(built):
    out, counts = built
    faults = {row["where"]: row["error"] for row in read_json_lines(out / "errors.jsonl")}
    assert counts["errors"] == len(faults) == sum(kind["n"] for kind in counts["faults"]) == 10
    labels = [kind for kind in counts["faults"] if "names no choice" in kind["error"]]
    assert [kind["n"] for kind in labels] == [1, 1]
    assert labels[0]["first"].startswith("evals/jglue/datasets/jcommonsenseqa-v1.3/valid-v1.3.json:")
    assert {place for place in faults if place.startswith("images/")} == {
        f"images/photos.jsonl:{n}" for n in (121, 122, 123)
    }
    assert "no text" in faults["images/photos.jsonl:123"] or "no caption" in faults["images/photos.jsonl:123"]
    assert {"evals/igakuqa119", "evals/clinical_lab", "medical_images/vqa_rad.jsonl:22"} < faults.keys()
    assert counts["differs_from_card"] == 56


def test_text_is_a_share_of_every_source(built):
    out, counts = built
    rows = read_json_lines(out / "text" / "general" / "novels.jsonl")
    assert 3000 <= counts["text"]["novels"] < 3000 + MAX_CHARS
    assert sum(len(row["text"]) for row in rows) == counts["text"]["novels"]
    assert {row["language"] for row in rows} == {"ja"}
    assert (out / "text" / "general" / "novels_en.jsonl").is_file()
    # the other source holds a question
    assert {row["source"] for row in read_json_lines(out / "text" / "medical.jsonl")} == {"law"}
    assert head("あ。" * 4000) == "あ。" * 3000
    assert head("い" * 9000) == "い" * MAX_CHARS


def test_questions_and_records(built, root):
    out, counts = built
    reader = ShardReader(out / "shards" / "naming_test")
    assert {reader.record(n)["meta"]["gold"] for n in range(len(reader))} <= set(FRUIT)
    kinds = {
        name: {reader.record(n)["meta"]["kind"] for n in range(len(reader))}
        for name in ("instruct_train", "naming_train")
        for reader in [ShardReader(out / "shards" / name)]
    }
    assert kinds["naming_train"] == {"naming"}
    assert {"describe", "product", "CLOSED"} <= kinds["instruct_train"]
    assert "naming" not in kinds["instruct_train"]
    reader = ShardReader(out / "shards" / "counting_test")
    golds = [reader.record(n)["meta"] for n in range(len(reader))]
    assert {meta["gold"] for meta in golds if meta["kind"] == "count_red"} == {"9"}  # not asked where not annotated
    assert len([m for m in golds if m["kind"] == "count_red"]) < len([m for m in golds if m["kind"] == "count_white"])
    assert counts["vqa_rad_test"] == 5
    item, long = load_items(out / "exam" / "jcommonsenseqa" / "items.jsonl")
    assert (item.accept, item.options[2].text, item.answer_type) == ([["c"]], "田園", "mcq_single")
    assert [row["text"] for row in read_json_lines(out / "evaluation.jsonl")] == [item.stem, long.stem]
    loose = [path for path in (out / "folder").iterdir() if path.suffix == ".png"]
    assert len(loose) == min(48, counts["captions_test"])
    again = build(RealConfig(root, 3000, 2000, 400), out)
    assert again["exam"] == counts["exam"]


def test_an_unreadable_exam_and_absent_test_pictures_are_faults(root, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(root, source)
    (source / "evals" / "clinical_lab").mkdir()
    (source / "evals" / "clinical_lab" / "questions.jsonl").write_text("{torn")
    (source / "medical_images" / "vqa_rad.jsonl").unlink()
    counts = build(RealConfig(source, 3000, 2000, 400), tmp_path / "out")
    faults = {row["where"]: row["error"] for row in read_json_lines(tmp_path / "out" / "errors.jsonl")}
    assert "no usable question" in faults["evals/clinical_lab"]
    assert "medical_images/vqa_rad.jsonl" in faults["vqa_rad_test"]
    assert counts["vqa_rad_test"] == 0
    assert not (tmp_path / "out" / "shards" / "vqa_rad_test").exists()
    (source / "images" / "grocery_store.jsonl").rename(source / "images" / "shop.jsonl")
    with pytest.raises(DataError, match=r"naming_train.*grocery_store\.jsonl"):
        build(RealConfig(source, 3000, 2000, 400), tmp_path / "out")


def test_products_lose_the_frame_alone():
    def named(text):
        return product(Picture("x", "x:1", "grocery_store", Path("x"), "0", {"text": text}))

    assert [named(frame.format("ぶどう（赤）")) for frame in FRAMES] == ["ぶどう（赤）"] * 3


def test_what_is_missing_is_named(root, tmp_path):
    with pytest.raises(UsageError, match="no folder of data") as caught:
        build(RealConfig(tmp_path / "nowhere", 1, 1, 1), tmp_path / "out")
    assert "medical_images/" in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="zst file"):
        build(RealConfig(tmp_path / "empty", 1, 1, 1), tmp_path / "out")


@pytest.mark.shared
def test_the_folder_the_card_describes(data_root, tmp_path):
    counts = build(RealConfig(data_root, 20_000, 20_000, 20_000), tmp_path / "out")
    assert counts["differs_from_card"] == 0
    assert counts["errors"] == 11  # 5 and 6 exam questions, as their cards say
    assert counts["exam"] == {"igakuqa119": 395, "clinical_lab": 394, "jcommonsenseqa": 1119}
    golds = {ShardReader(tmp_path / "out/shards/naming_test").record(n)["meta"]["gold"] for n in range(100)}
    assert len(golds) > 40


def test_two_sources_of_one_name_are_refused(root, tmp_path):
    for folder in ("text", "en_text", "medical_text"):
        write_text(tmp_path / folder / "book.jsonl.zst", ["本です。"])
    with pytest.raises(DataError, match=r"two sources are called book\.jsonl\.zst"):
        build(RealConfig(tmp_path, 3000, 2000, 400), tmp_path / "out")
