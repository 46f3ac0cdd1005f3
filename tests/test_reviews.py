import io
from pathlib import Path

import pytest
from PIL import Image

from jvlm.datasets import build_set
from jvlm.datasets.reviews import FILE, add_review, read_reviews
from jvlm.errors import DataError, UsageError
from jvlm.images.shards import open_shards
from jvlm.sample import ImageRef, Message, Sample


def _question(colour: str) -> Sample:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(stream, "PNG")
    return Sample("q", [Message("user", [0, "何色ですか。"])], [ImageRef(data=stream.getvalue())])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    add_review(tmp_path / "r", _question("red"), "赤です。", "赤です。", by="佐藤", model_hash="abc")
    add_review(tmp_path / "r", _question("blue"), "赤です。", "青です。", by="鈴木", comment="違う")
    add_review(tmp_path / "r", _question("green"), "赤です。", None, by="鈴木")
    return tmp_path / "r"


def _built(source: Path, out: Path, layout: str | None = None) -> list[Sample]:
    counts = build_set(source, out, layout) if layout else build_set(source, out)
    assert counts["errors"] == 0
    reader = open_shards(out)
    return [reader.read(i) for i in range(len(reader))]


def test_accepted_and_mended_answers_become_conversations(folder: Path, tmp_path: Path) -> None:
    samples = _built(folder, tmp_path / "out")
    assert sorted(sample.messages[-1].text for sample in samples) == ["赤です。", "青です。"]
    assert all(sample.rejected is None and len(sample.images) == 1 for sample in samples)
    assert {sample.meta["by"] for sample in samples} == {"佐藤", "鈴木"}


def test_mended_answers_become_preferences_over_what_was_said(folder: Path, tmp_path: Path) -> None:
    (pair,) = _built(folder, tmp_path / "out", "review-pairs")
    assert pair.messages[-1].text == "青です。"
    assert pair.rejected is not None
    assert pair.rejected[0].text == "赤です。"


def test_a_later_review_of_the_same_answer_replaces_the_earlier(folder: Path) -> None:
    add_review(folder, _question("green"), "赤です。", "緑です。", by="佐藤")
    found = [review for _, review in read_reviews(folder)]
    assert [review.verdict for review in found] == ["accepted", "mended", "mended"]
    assert found[-1].text == "緑です。"


def test_what_is_no_review_is_told_by_its_line(folder: Path, tmp_path: Path) -> None:
    with open(folder / FILE, "a") as file:
        file.write('{"id": "x"}\n')
    with pytest.raises(DataError) as error:
        build_set(folder, tmp_path / "out")
    assert str(error.value.where).endswith(f"{FILE}:4")


def test_an_empty_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs a text"):
        add_review(tmp_path, _question("red"), "赤です。", " ", by="佐藤")
    assert not (tmp_path / FILE).exists()


def test_a_folder_without_reviews_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises((DataError, UsageError)):
        build_set(tmp_path / "empty", tmp_path / "out", "reviews")
