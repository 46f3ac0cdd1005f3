import io
from pathlib import Path
from zipfile import ZipFile

import pytest

pytest.importorskip("streamlit.testing.v1", reason="the app extra is not installed")

from fake_service import FakeService, open_app, png

from jvlm.datasets import build_set
from jvlm.datasets.reviews import read_reviews
from jvlm.images.shards import open_shards
from jvlm.infer.service import Busy, Failed


def _zip(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_", "."), data)
    return stream.getvalue()


def _propose(at, *files: tuple[str, bytes, str]):
    at.file_uploader[0].set_value(list(files)).run()
    return at.button[0].click().run()


def test_images_and_archives_are_captioned_and_bad_ones_told(monkeypatch) -> None:
    service = FakeService()
    at = open_app(monkeypatch, service, "caption")
    archive = _zip(a_png=png("blue"), b_png=b"damaged", notes_txt=b"no image")
    _propose(at, ("x.png", png(), "image/png"), ("more.zip", archive, "application/zip"))
    assert not at.exception
    rows = at.session_state["proposals"]
    assert [row["name"] for row in rows] == ["x.png", "a.png", "b.png"]
    assert [row["status"] == "ok" for row in rows] == [True, True, False]
    assert len(service.asked) == 2


def test_what_a_person_accepts_or_mends_becomes_a_data_set(monkeypatch, tmp_path: Path) -> None:
    reviews = tmp_path / "reviews"
    at = open_app(monkeypatch, FakeService("青い丸です。"), "caption", REVIEWS=reviews)
    _propose(
        at, ("x.png", png(), "image/png"), ("y.png", png("blue"), "image/png"), ("z.png", png("green"), "image/png")
    )
    at.session_state["editor-1"] = {
        "edited_rows": {0: {"accept": True}, 1: {"accept": True, "text": "青い四角です。"}},
        "added_rows": [],
        "deleted_rows": [],
    }
    next(f for f in at.text_input if f.label == "お名前").set_value("佐藤")
    next(b for b in at.button if b.label == "確かめたものを保存する").click().run()
    assert not at.exception
    found = [review for _, review in read_reviews(reviews)]
    assert [(r.verdict, r.text, r.by) for r in found] == [
        ("accepted", "青い丸です。", "佐藤"),
        ("mended", "青い四角です。", "佐藤"),
    ]
    build_set(reviews, tmp_path / "shards")
    reader = open_shards(tmp_path / "shards")
    samples = [reader.read(i) for i in range(len(reader))]
    assert sorted(sample.messages[-1].text for sample in samples) == ["青い丸です。", "青い四角です。"]


def test_a_name_is_asked_for(monkeypatch, tmp_path: Path) -> None:
    at = open_app(monkeypatch, FakeService(), "caption", REVIEWS=tmp_path / "reviews")
    _propose(at, ("x.png", png(), "image/png"))
    next(b for b in at.button if b.label == "確かめたものを保存する").click().run()
    assert at.error
    assert not (tmp_path / "reviews").exists()


def test_what_was_said_of_a_picture_is_not_said_of_the_next_one(monkeypatch, tmp_path: Path) -> None:
    """The editor goes by the number of its rows: ticks and texts must not pass on to other pictures."""
    reviews = tmp_path / "reviews"
    at = open_app(monkeypatch, FakeService("青い丸です。"), "caption", REVIEWS=reviews)
    _propose(at, ("x.png", png(), "image/png"))
    at.session_state[f"editor-{at.session_state.batch}"] = {
        "edited_rows": {0: {"accept": True, "text": "赤い四角です。"}},
        "added_rows": [],
        "deleted_rows": [],
    }
    at.run()
    _propose(at, ("y.png", png("blue"), "image/png"))
    next(f for f in at.text_input if f.label == "お名前").set_value("佐藤")
    next(b for b in at.button if b.label == "確かめたものを保存する").click().run()
    assert not at.exception
    assert "0 件" in at.success[0].value
    assert not reviews.exists()


@pytest.mark.parametrize("error", [Busy("full"), Failed("the answer failed"), TimeoutError()])
def test_one_that_fails_does_not_lose_the_others(monkeypatch, error: Exception) -> None:
    service = FakeService()
    at = open_app(monkeypatch, service, "caption")
    submit = service.submit

    def second_fails(request):
        if len(service.asked) == 1:
            service.asked.append(request)
            raise error
        return submit(request)

    monkeypatch.setattr(service, "submit", second_fails)
    _propose(at, *((f"{name}.png", png(name), "image/png") for name in ("red", "blue", "green")))
    assert [row["status"] == "ok" for row in at.session_state["proposals"]] == [True, False, True]
