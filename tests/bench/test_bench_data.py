"""The loader's benchmark: the ceiling reads every picture whole, the arithmetic is right, a miniature runs."""

import json
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import zstandard
from PIL import Image
from typer.testing import CliRunner

from jvlm.bench import data, data_pictures
from jvlm.cli import app
from jvlm.errors import UsageError
from jvlm.images.shards import ShardReader, write_shards

WORDS = ["血液", "検査", "東京", "山", "です", "を", "した", "患者", "の", "は", "見た", "大きい", "川", "に", "行く"]


def picture(width: int, height: int, colour: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (width, height), (colour, 90, 9)).save(file, "WEBP")
    return file.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six photographs, an icon, a picture without a caption."""
    (tmp_path / "images" / "photos").mkdir(parents=True)
    sizes = [(256, 100 + n) for n in range(6)] + [(128, 128), (300, 300)]
    rows = []
    for number, size in enumerate(sizes):
        (tmp_path / "images" / "photos" / f"{number}.webp").write_bytes(picture(*size, number))
        text = "" if size == (300, 300) else f"写真の{number}"
        rows.append(json.dumps({"image": f"photos/{number}.webp", "text": text}))
    (tmp_path / "images" / "photos.jsonl").write_text("\n".join(rows))
    (tmp_path / "text").mkdir()
    rng = np.random.default_rng(1)
    texts = [json.dumps({"text": "".join(rng.choice(WORDS, 200))}) for _ in range(90)]
    (tmp_path / "text" / "novels.jsonl.zst").write_bytes(zstandard.compress("\n".join(texts).encode()))
    return tmp_path


def test_real_pictures_are_those_of_a_photographs_size_with_a_caption(root: Path) -> None:
    found = data_pictures.real_pictures(root, 100)
    samples = list(found.samples)
    assert [sample.messages[1].text for sample in samples] == [f"写真の{n}" for n in range(6)]
    assert found.what == "real pictures"
    assert "写真の3" in found.texts
    assert len(found.texts) == 3 + 6  # every fortieth document, every caption
    few = list(data_pictures.real_pictures(root, 2).samples)
    assert [sample.id for sample in few] == [samples[0].id, samples[3].id]


def test_a_folder_of_icons_is_refused(root: Path, monkeypatch) -> None:
    monkeypatch.setattr(data_pictures, "LEAST_SIDE", 400)
    with pytest.raises(UsageError, match="400 pixels"):
        data_pictures.real_pictures(root, 100)


def test_made_pictures_are_photographs_by_size_and_the_same_every_time() -> None:
    first, again = (list(data_pictures.made_pictures(12).samples) for _ in range(2))
    assert [sample.images[0].data for sample in first] == [sample.images[0].data for sample in again]
    pictures = [Image.open(BytesIO(sample.images[0].read())) for sample in first]
    assert all(320 <= max(found.size) <= 1024 and found.format == "JPEG" for found in pictures)
    assert len({found.size for found in pictures}) > 8
    bits = [8 * len(s.images[0].read()) / np.prod(p.size) for s, p in zip(first, pictures, strict=True)]
    assert all(0.5 < b < 4 for b in bits)  # of a pixel: photographs take 1 to 3 at this quality
    assert all(10 <= len(sample.messages[1].text) < 60 for sample in first)


def test_the_ceiling_reads_the_very_bytes_of_every_picture(root: Path, tmp_path: Path) -> None:
    samples = [*data_pictures.real_pictures(root, 100).samples, *data_pictures.made_pictures(5).samples]
    write_shards(samples, tmp_path / "shards", samples_per_shard=4)
    reader = ShardReader(tmp_path / "shards")
    expected = [image.read() for n in range(len(reader)) for image in reader.read(n).images]
    with ExitStack() as closing:
        places = data.picture_places(tmp_path / "shards", closing)
        assert [place.read() for place in places] == expected
    seen: list[int] = []
    data._over(places, lambda place: seen.append(place.offset), threads=3)  # type: ignore[arg-type]
    assert sorted(seen) == sorted(place.offset for place in places)


def test_ratios_are_of_medians() -> None:
    seconds = {"read_decode": [1.0, 9.0, 2.0], "read_decode_resize": [3.0, 2.5, 9.0], "ours": [4.0, 0.1, 8.0]}
    assert data.ratios(seconds) == {"of_read_decode_ceiling": 0.5, "of_read_decode_resize_ceiling": 0.75}


def test_the_fill_is_that_of_an_epochs_rows() -> None:
    class Lengths:
        def __init__(self, lengths: list[int]) -> None:
            self.lengths = np.array(lengths)

    assert data.packing_fill(Lengths([4096, 2048, 2048])) == 1.0  # type: ignore[arg-type]
    assert data.packing_fill(Lengths([3000, 3000])) == pytest.approx(6000 / 8192)  # type: ignore[arg-type]
    # many short samples: only the last row of a window may have a hole
    lengths = np.random.default_rng(3).integers(40, 120, 512)
    rows = -(-int(lengths.sum()) // 4096)
    assert data.packing_fill(Lengths(lengths.tolist())) == pytest.approx(lengths.sum() / rows / 4096)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("real", [False, True])
def test_a_miniature_from_end_to_end(root: Path, monkeypatch, real: bool) -> None:
    monkeypatch.delenv("JVLM_DATA_ROOT", raising=False)
    small, make = data.Plan(pictures=30, rounds=2), data_pictures.real_pictures

    def with_few_pieces(folder: Path, most: int) -> data_pictures.Pictures:
        found = make(folder, most)
        return data_pictures.Pictures(found.what, found.samples, found.texts, 430)

    monkeypatch.setattr(data, "Plan", lambda: small)
    monkeypatch.setattr(data, "real_pictures", with_few_pieces)
    command = ["bench", "data", "--json", *(["--data-root", str(root)] if real else [])]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert set(result["ratios"]) == {"of_read_decode_ceiling", "of_read_decode_resize_ceiling"}
    assert {who: len(seconds) for who, seconds in result["seconds_of_rounds"].items()} == dict.fromkeys(
        ("read_decode", "read_decode_resize", "ours"), 2
    )
    assert result["pictures"]["number"] == (6 if real else 30)
    assert ("made" in result["pictures"]["what"]) != real
    assert 0 < result["packing_fill"] <= 1
    speed = result["images_per_s"]
    assert speed["ours"] / speed["read_decode"] == pytest.approx(result["ratios"]["of_read_decode_ceiling"])
