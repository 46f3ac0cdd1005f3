"""Building the whole world: the same bytes for any number of workers, and only what is missing is made."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from jvlm_data.toyworld import build as build_module
from jvlm_data.toyworld.build import ToyworldConfig, build
from jvlm_data.toyworld.dirt import score_cleaning

from jvlm.assets import asset
from jvlm.eval.items import load_items
from jvlm.files import read_json, read_json_lines, verify_folder
from jvlm.images.load import load_image
from jvlm.images.shards import ShardReader

TINY = ToyworldConfig(
    seed=5,
    image_size=32,
    text_bytes=20_000,
    captions_train=130,
    captions_val=6,
    captions_test=6,
    captions_compositional=6,
    singles_train=6,
    attributes_train=6,
    look_ups_train=6,
    instruct_train=6,
    pages_train=6,
    vqa_val_per_kind=1,
    vqa_test_per_kind=1,
    preference_pool=4,
    medical_pages=6,
    medical_training=130,
    textbook_editions=1,
    case_reports=4,
    exam_test=20,
    exam_twohop=4,
    caption_folder=3,
    workers=1,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    build(TINY, out)
    return out


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_bytes_do_not_depend_on_the_number_of_workers(world: Path, tmp_path: Path) -> None:
    build(replace(TINY, workers=2), tmp_path)
    assert _files(tmp_path) == _files(world)


def test_every_part_is_there_and_readable(world: Path) -> None:
    for name, count in TINY.set_sizes.items():
        reader = ShardReader(world / "shards" / name)
        assert len(reader) == count
        sample = reader.read(0)
        assert all(load_image(image).size == (32, 32) for image in sample.images)
    assert len(load_items(world / "exam" / "test.jsonl")) == 20
    assert len(load_items(world / "exam" / "twohop.jsonl")) == 4
    assert len(list((world / "folder").glob("*.jpg"))) == 3
    medical = read_json_lines(world / "text" / "medical.jsonl")
    assert {record["source"] for record in medical} == {"textbook", "case_report"}
    assert all("架空" in record["text"] for record in medical)


def test_the_dirt_list_belongs_to_the_text(world: Path) -> None:
    records = read_json_lines(world / "text" / "general.jsonl")
    truth = read_json_lines(world / "text" / "dirt.jsonl")
    assert truth
    assert {item["id"] for item in truth} <= {record["id"] for record in records}
    assert score_cleaning(truth, records, records)["dirt_recall"] == 0.0


def test_finished_parts_are_kept_and_broken_ones_made_again(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _files(world)
    (world / "shards" / "medical_pages" / build_module.CARD).unlink()  # a kill before the part was finished
    tar = next((world / "shards" / "captions_val").glob("*.tar"))
    tar.write_bytes(b"damaged")
    made: list[str] = []
    monkeypatch.setattr(build_module, "write_shards", _recording(made))
    said: list[str] = []
    build(TINY, world, said.append)
    assert sorted(made) == ["captions_val", "medical_pages"]
    assert sum(line.endswith("already there") for line in said) == len(said) - 2
    assert _files(world) == before


def test_a_changed_setting_remakes_only_what_depends_on_it(world: Path, tmp_path: Path) -> None:
    said: list[str] = []
    build(replace(TINY, captions_test=7, exam_twohop=5), world, said.append)
    assert {line.split(":")[0] for line in said if "already" not in line} == {"shards/captions_test", "exam"}
    assert len(ShardReader(world / "shards" / "captions_test")) == 7
    build(TINY, world)


def test_an_interrupted_build_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = build_module.make_sample

    def interrupted(set_name: str, seed: int, index: int, size: int) -> object:
        if (set_name, index) == ("captions_train", 120):
            raise KeyboardInterrupt
        return real(set_name, seed, index, size)

    monkeypatch.setattr(build_module, "make_sample", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(TINY, tmp_path)
    assert list((tmp_path / "shards").iterdir()) == []
    verify_folder(tmp_path / "text")


def test_counts_come_back_and_stand_on_the_cards(world: Path) -> None:
    counts = build(TINY, world)
    assert counts["shards/captions_train"] == {"samples": 130, "images": 130}
    assert counts["exam"] == read_json(world / "exam" / build_module.CARD)["counts"]


def test_the_published_card_tells_the_default_counts() -> None:
    card = yaml.safe_load(asset("data", "toyworld", "card.yaml").read_text(encoding="utf-8"))
    default = ToyworldConfig()
    assert card["counts"]["shards"] == default.set_sizes
    assert card["counts"]["exam"] == {"test": default.exam_test, "twohop": default.exam_twohop}
    assert card["counts"]["folder"] == default.caption_folder
    assert card["licence"] == "Apache-2.0"
    named = " ".join(card["splits"].values())
    assert all(name in named for name in default.set_sizes)


def _recording(made: list[str]):  # type: ignore[no-untyped-def]
    real = build_module.write_shards

    def write(samples: Iterator, folder: Path, about: dict) -> dict:
        made.append(folder.name)
        return real(samples, folder, about=about)

    return write
