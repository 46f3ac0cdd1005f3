import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import jvlm
from jvlm.errors import JvlmError
from jvlm.images.load import DEFAULT_LIMITS
from jvlm.sample import Sample

testing = pytest.importorskip("streamlit.testing.v1", reason="the app extra is not installed")

APP = Path(__file__).resolve().parent.parent.parent / "apps" / "image_qa.py"
NASTY = "![x](http://example.invalid/leak.png) <script>alert(1)</script> **太字** $x$"


@dataclass
class Answer:
    text: str
    finish_reason: str = "stop"
    num_tokens: int = 3


class FakeModel:
    def __init__(self, reply: Answer | Exception) -> None:
        self.reply, self.asked = reply, list[Sample]()

    def generate(self, samples: Sequence[Sample], *, max_new_tokens: int = 64, **_: Any) -> list[Answer]:
        self.asked.extend(samples)
        if isinstance(self.reply, Exception):
            raise self.reply
        return [self.reply] * len(samples)


def _png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens the page on a fake model; cached models of other tests are forgotten."""
    import streamlit

    streamlit.cache_resource.clear()
    monkeypatch.setenv("JVLM_MODEL", "model-folder")

    def open_page(model: FakeModel | Exception) -> Any:
        def load(folder: str) -> FakeModel:
            assert folder == "model-folder"
            if isinstance(model, Exception):
                raise model
            return model

        monkeypatch.setattr(jvlm, "load", load, raising=False)
        return testing.AppTest.from_file(str(APP), default_timeout=30).run()

    return open_page


def _upload(at: Any, data: bytes) -> Any:
    at.file_uploader[0].set_value(("a.png", data, "image/png"))
    return at.run()


def _ask(at: Any, question: str) -> Any:
    at.text_input[0].set_value(question)
    at.button[0].click()
    return at.run()


def _texts(at: Any) -> list[str]:
    return [element.value for element in at.text]


def _markdown(at: Any) -> str:
    elements = [*at.markdown, *at.caption, *at.error, *at.title]
    return "\n".join(element.value for element in elements)


def test_answer_is_shown_as_plain_text(page: Any) -> None:
    model = FakeModel(Answer(NASTY))
    at = _ask(_upload(page(model), _png()), " 何色ですか。 ")
    assert not at.exception
    assert _texts(at) == [NASTY]
    assert "example.invalid" not in _markdown(at)
    (sample,) = model.asked
    assert sample.messages[0].content == [0, "何色ですか。"]
    assert sample.images[0].data == _png()


def test_answer_cut_by_length_says_so(page: Any) -> None:
    at = _ask(_upload(page(FakeModel(Answer("長い", "length"))), _png()), "説明して。")
    assert "途中で終わっています" in _markdown(at)


@pytest.mark.parametrize("data", [b"not an image", _png()[:40], _png().replace(b"\x08\x00\x00\x00\x08", b"\x7f" * 5)])
def test_bad_image_is_refused_without_internals(page: Any, data: bytes) -> None:
    model = FakeModel(Answer("x"))
    at = _upload(page(model), data)
    assert not at.exception
    assert at.error[0].value == "この画像は使えません。"
    assert "0x" not in "".join(_texts(at))
    assert not at.text_input
    assert not model.asked


def test_empty_question_is_not_sent(page: Any) -> None:
    model = FakeModel(Answer("x"))
    at = _ask(_upload(page(model), _png()), "   ")
    assert at.error[0].value == "質問を書いてください。"
    assert not model.asked


@pytest.mark.parametrize(
    ("failure", "shown"),
    [(RuntimeError("secret /srv/path"), False), (JvlmError("the question is too long"), True)],
)
def test_failing_model_shows_a_short_message(page: Any, failure: Exception, shown: bool) -> None:
    at = _ask(_upload(page(FakeModel(failure)), _png()), "何ですか。")
    assert not at.exception
    assert at.error[0].value.startswith("回答できませんでした。")
    assert _texts(at) == ([str(failure)] if shown else [])
    assert "secret" not in _markdown(at)


def test_model_that_cannot_be_loaded(page: Any) -> None:
    at = page(RuntimeError("secret /srv/path"))
    assert not at.exception
    assert "モデルを読み込めませんでした" in at.error[0].value
    assert "secret" not in _markdown(at)


def test_no_model_named(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JVLM_MODEL")
    monkeypatch.setattr(sys, "argv", ["image_qa.py"])
    at = page(FakeModel(Answer("x")))
    assert "モデルのフォルダー" in at.error[0].value
    assert not at.file_uploader


def test_flags_are_settings_that_streamlit_knows() -> None:
    from jvlm_apps.launch import streamlit_flags
    from streamlit import config

    flags = dict(flag.removeprefix("--").split("=") for flag in streamlit_flags())
    assert not set(flags) - set(config.get_config_options())
    assert flags["server.address"] == "127.0.0.1"
    assert flags["browser.gatherUsageStats"] == "false"
    assert flags["client.showErrorDetails"] == "none"
    assert int(flags["server.maxUploadSize"]) * 2**20 == DEFAULT_LIMITS.max_bytes
