"""An engine that says what a test wants, and opens the pages on it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jvlm.infer.types import Generation, Request
from jvlm.sample import Sample

APP = Path(__file__).resolve().parent.parent / "apps" / "image_qa.py"
HASH = "0123456789abcdef"


def png(colour: str = "red") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(stream, "PNG")
    return stream.getvalue()


class FakeAnswer:
    position = 0

    def __init__(self, service: "FakeService", request: Request, reply: str, finish: Any) -> None:
        self.service, self.reply, self.finish, self.ended, self.said = service, reply, finish, False, 0
        self.choice_probabilities = service.shares(request.sample)[: len(request.choices)]

    @property
    def done(self) -> bool:
        self.ended = self.said == len(self.reply)
        return self.ended

    def take(self) -> str:
        """One character more each time, while there are any."""
        if not self.done:
            self.service.on_piece()
        piece = self.reply[self.said : self.said + 1]
        self.said += len(piece)
        return piece

    def result(self, timeout: float | None = None) -> Generation:
        return Generation(self.reply, self.finish, len(self.reply))

    def cancel(self) -> None:
        self.service.cancelled += not self.ended


class FakeService:
    """Answers every request with `reply`, or raises it."""

    def __init__(self, reply: str | Exception = "赤い四角です。", finish: str = "stop") -> None:
        self.reply, self.finish = reply, finish
        self.asked: list[Request] = []
        self.cancelled = 0
        self.shares: Callable[[Sample], list[float]] = lambda sample: [0.6364, 0.2341, 0.0861, 0.0317, 0.0117]
        self.on_piece: Callable[[], None] = lambda: None

    def submit(self, request: Request) -> FakeAnswer:
        self.asked.append(request)
        if isinstance(self.reply, Exception):
            raise self.reply
        return FakeAnswer(self, request, self.reply, self.finish)


def open_app(monkeypatch: pytest.MonkeyPatch, service: FakeService | Exception, page: str = "", **places: Path) -> Any:
    """The app on a fake engine, on one of its pages; `places` as `jvlm app` would set them."""
    import streamlit
    from jvlm_apps import shared
    from streamlit.testing.v1 import AppTest

    streamlit.cache_resource.clear()
    streamlit.cache_data.clear()

    def make(_: Any) -> Any:
        if isinstance(service, Exception):
            raise service
        return service

    monkeypatch.setattr("jvlm.load", lambda folder: folder)
    monkeypatch.setattr(shared, "Service", make)
    monkeypatch.setattr(shared, "model_hash", lambda folder: HASH)
    monkeypatch.setenv("JVLM_MODELS", "runs/demo/model")
    for name in ("EXAM", "RESULTS", "REVIEWS", "TRACE", "EXAMPLES"):
        monkeypatch.delenv(f"JVLM_{name}", raising=False)
    for name, place in places.items():
        monkeypatch.setenv(f"JVLM_{name}", str(place))
    at = AppTest.from_file(str(APP), default_timeout=60).run()
    return at.switch_page(f"{page}_page.py").run() if page else at


def texts(at: Any) -> list[str]:
    return [element.value for element in at.text]
