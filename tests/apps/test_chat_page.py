import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jvlm.errors import DataError

pytest.importorskip("streamlit.testing.v1", reason="the app extra is not installed")

from fake_service import FakeService, open_app, png, texts

from jvlm.datasets.reviews import read_reviews
from jvlm.infer.service import Busy

NASTY = "![x](http://example.invalid/leak.png) <script>alert(1)</script> **太字** $x$ :red[x]"


def _ask(at: Any, question: str, *images: bytes) -> Any:
    box = at.chat_input[0]
    for number, data in enumerate(images):
        box = box.upload(f"{number}.png", data, "image/png")
    return box.set_value(question).run()


def test_a_question_about_images_is_answered_and_the_next_takes_the_turns_before_along(monkeypatch) -> None:
    service = FakeService()
    at = open_app(monkeypatch, service)
    _ask(at, "何色ですか。", png("red"), png("blue"))
    assert not at.exception
    assert texts(at)[:2] == ["何色ですか。", "赤い四角です。"]
    _ask(at, "形は？")
    first, second = service.asked
    assert first.sample.messages[-1].content == [0, 1, "何色ですか。"]
    assert [m.role for m in second.sample.messages] == ["user", "assistant", "user"]
    assert second.sample.messages[1].content == ["赤い四角です。"]
    assert [image.read() for image in second.sample.images] == [png("red"), png("blue")]
    assert service.cancelled == 0


def test_an_address_in_a_question_is_text_and_followed_by_nobody(monkeypatch) -> None:
    service = FakeService()
    at = open_app(monkeypatch, service)
    question = "http://192.0.2.1/x.png と ![](https://example.invalid/y.png) を見て"
    _ask(at, question)  # the suite's guard would refuse a connection
    (request,) = service.asked
    assert request.sample.images == []
    assert request.sample.messages[-1].content == [question]


def test_settings_reach_the_engine(monkeypatch) -> None:
    service = FakeService()
    at = open_app(monkeypatch, service)
    length, temperature, top_p = at.slider
    length.set_value(16)
    temperature.set_value(0.7)
    top_p.set_value(0.9)
    at.number_input[0].set_value(5)
    at.run()
    _ask(at, "何色ですか。", png())
    (request,) = service.asked
    assert (request.max_new_tokens, request.temperature, request.top_p, request.seed) == (16, 0.7, 0.9, 5)


def test_regenerating_by_chance_takes_the_next_seed_and_replaces_the_answer(monkeypatch) -> None:
    service = FakeService()
    at = open_app(monkeypatch, service)
    at.slider[1].set_value(0.7)
    at.run()
    _ask(at, "何色ですか。", png())
    service.reply = "青です。"
    next(b for b in at.button if b.key == "again-0").click().run()
    assert [request.seed for request in service.asked] == [0, 1]
    assert "青です。" in texts(at)
    assert "赤い四角です。" not in texts(at)


def test_an_edited_question_replaces_the_turn_and_keeps_its_images(monkeypatch) -> None:
    service = FakeService()
    at = open_app(monkeypatch, service)
    _ask(at, "何色ですか。", png())
    next(a for a in at.text_area if a.key == "edit-0").set_value("形は？")
    next(b for b in at.button if b.key == "resend-0").click().run()
    assert service.asked[-1].sample.messages[-1].content == [0, "形は？"]
    assert len(at.session_state["talk"].turns) == 1


def test_an_end_in_the_middle_keeps_the_text_and_frees_the_engine(monkeypatch) -> None:
    from streamlit.runtime.scriptrunner import StopException

    service = FakeService("あいうえお")
    at = open_app(monkeypatch, service)
    count = iter(range(100))

    def stop_at_the_third() -> None:
        if next(count) == 2:
            raise StopException

    service.on_piece = stop_at_the_third
    _ask(at, "何色ですか。", png())
    (turn,) = at.session_state["talk"].turns
    assert (turn.answer, turn.finish_reason, service.cancelled) == ("あい", "stopped", 1)
    assert any(b.key == "again-0" for b in at.button)  # what can be done with it is there


def test_what_a_model_says_is_never_read_as_markup(monkeypatch) -> None:
    at = open_app(monkeypatch, FakeService(NASTY))
    _ask(at, NASTY, png())
    assert texts(at)[:2] == [NASTY, NASTY]
    shown = [element.value for kind in (at.markdown, at.caption, at.title) for element in kind]
    assert not any("example.invalid" in text for text in shown)


@pytest.mark.parametrize(
    "error", [Busy("full"), DataError("the prompt is too long"), RuntimeError("/secret/path 0x7f")]
)
def test_errors_are_told_without_internals_and_the_page_goes_on(monkeypatch, error: Exception) -> None:
    service = FakeService(error)
    at = open_app(monkeypatch, service)
    _ask(at, "何色ですか。", png())
    assert not at.exception
    told = [e.value for e in [*at.error, *at.warning]]
    assert told
    assert not any("secret" in text for text in [*told, *texts(at)])
    service.reply = "はい。"
    next(b for b in at.button if b.key == "again-0").click().run()
    assert "はい。" in texts(at)


def test_a_bad_image_is_refused_and_nothing_asked(monkeypatch) -> None:
    service = FakeService()
    at = open_app(monkeypatch, service)
    _ask(at, "何色ですか。", b"no image at all")
    assert at.error
    assert not service.asked


def test_more_images_than_allowed_are_refused(monkeypatch) -> None:
    service = FakeService()
    at = open_app(monkeypatch, service)
    _ask(at, "何色ですか。", *[png()] * 5)
    assert at.error
    assert not service.asked


def test_english(monkeypatch) -> None:
    at = open_app(monkeypatch, FakeService())
    at.radio[0].set_value("en").run()
    assert at.title[0].value == "Image Q&A"


def test_a_model_that_cannot_be_loaded_is_told_without_internals(monkeypatch) -> None:
    at = open_app(monkeypatch, RuntimeError("/secret/path"))
    assert at.error
    assert not any("secret" in e.value for e in at.error)


def test_without_a_model_the_page_says_how_to_start(monkeypatch) -> None:
    at = open_app(monkeypatch, FakeService())
    monkeypatch.setenv("JVLM_MODELS", "")
    assert "jvlm app" in at.run().error[0].value


def test_ratings_are_kept_only_where_the_visitor_says_so(monkeypatch, tmp_path: Path) -> None:
    reviews = tmp_path / "reviews"
    at = open_app(monkeypatch, FakeService(), REVIEWS=reviews)
    _ask(at, "何色ですか。", png())
    assert not at.get("feedback")
    next(t for t in at.toggle if t.key == "may_keep").set_value(True).run()
    at.feedback[0].set_value(0).run()
    next(a for a in at.text_area if a.key is None or not str(a.key).startswith("edit")).set_value("赤い丸です。")
    by = [field for field in at.text_input if field.label == "お名前"]
    by[0].set_value("佐藤")
    next(b for b in at.button if b.label == "保存").click().run()
    ((_, review),) = read_reviews(reviews)
    assert (review.verdict, review.text, review.proposed, review.by) == (
        "mended",
        "赤い丸です。",
        "赤い四角です。",
        "佐藤",
    )


def test_evidence_is_shown_with_source_and_steps(monkeypatch, tmp_path: Path) -> None:
    from types import SimpleNamespace

    from jvlm_apps import evidence

    row = SimpleNamespace(text="赤い四角です。", source="toyworld", licence="CC0", id="d-1", steps=(3, 9))
    found = SimpleNamespace(spans=[row], passages=[], images=[])
    monkeypatch.setattr(evidence, "_trace", lambda folder: SimpleNamespace(evidence=lambda text, image: found))
    at = open_app(monkeypatch, FakeService(), TRACE=tmp_path)
    _ask(at, "何色ですか。", png())
    assert any("toyworld · CC0 · d-1" in text and "3–9" in text for text in texts(at))


def test_the_conversation_is_offered_as_files(monkeypatch) -> None:
    at = open_app(monkeypatch, FakeService())
    _ask(at, "何色ですか。", png())
    assert {b.key for b in at.download_button} >= {"conversation.jsonl", "conversation.md", "conversation.html"}
    row = json.loads(at.session_state["talk"].to_jsonl())
    assert row["question"] == "何色ですか。"


def test_a_photo_goes_with_one_question_and_can_be_dropped(monkeypatch) -> None:
    service = FakeService()
    at = open_app(monkeypatch, service)
    next(t for t in at.toggle if t.label == "カメラを使う").set_value(True).run()
    at.camera_input[0].set_value(("shot.jpg", png("blue"), "image/jpeg")).run()
    _ask(at, "何色ですか。")
    _ask(at, "形は？")
    assert [len(request.sample.images) for request in service.asked] == [1, 1]  # the second sees that of the first
    at.camera_input[0].set_value(("shot.jpg", png("green"), "image/jpeg")).run()
    next(b for b in at.button if b.label == "添えるのをやめる").click().run()
    _ask(at, "では？")
    assert len(service.asked[-1].sample.images) == 1


def test_a_picture_is_made_ready_once_and_not_at_every_press(monkeypatch) -> None:
    at = open_app(monkeypatch, FakeService())
    _ask(at, "何色ですか。", png())
    saved, save = [], Image.Image.save
    monkeypatch.setattr(Image.Image, "save", lambda self, *given, **more: saved.append(1) or save(self, *given, **more))
    for _ in range(3):
        assert not at.run().exception
    assert not saved
