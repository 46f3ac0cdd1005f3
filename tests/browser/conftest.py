"""The app in a real headless Chromium: skipped, with the reason, where there is none."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import PROJECTOR, VISION, make_model

HERE = Path(__file__).resolve().parent
SHOTS = Path(os.environ.get("JVLM_SCREENSHOTS", HERE.parent.parent / "docs" / "app"))
"""Where the suite leaves a picture of each page."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    pytest.importorskip("streamlit", reason="the app extra is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine: apt-get install chromium fonts-noto-cjk")
    with playwright.sync_playwright() as api:
        opened = api.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def model_folder(tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of random weights."""
    from jvlm.model.directory import save_model
    from jvlm.model.processor import Processor

    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(folder, make_model(tokenizer), Processor(tokenizer, VISION, PROJECTOR))
    return folder


@pytest.fixture(scope="session")
def server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., "Server"]]:
    """Starts the app once for each engine and keeps it for the session."""
    running: dict[str, Server] = {}

    def start(engine: str, model: Path, **places: Path) -> Server:
        if engine not in running:
            running[engine] = Server(engine, model, tmp_path_factory.mktemp(engine), places)
        return running[engine]

    yield start
    for one in running.values():
        one.process.kill()
        one.process.wait()


class Server:
    """A running app: its address, and the log of its engine's steps."""

    def __init__(self, engine: str, model: Path, folder: Path, places: dict[str, Path]) -> None:
        from jvlm_apps.launch import streamlit_flags

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.log = folder / "steps"
        self.log.touch()
        given = {"JVLM_MODELS": str(model), "JVLM_BROWSER_ENGINE": engine, "JVLM_BROWSER_LOG": str(self.log)}
        given |= {f"JVLM_{name}": str(place) for name, place in places.items()}
        page = str(HERE / "watched_app.py")
        command = [sys.executable, "-m", "streamlit", "run", page, *streamlit_flags(), "--server.port", str(port)]
        with open(folder / "output", "wb") as output:
            self.process = subprocess.Popen(
                command, env=os.environ | given, stdout=output, stderr=subprocess.STDOUT, cwd=folder
            )
        self._wait_until_ready()

    @property
    def steps(self) -> list[float]:
        """When the engine made its steps, in seconds since 1970."""
        return [float(line) for line in self.log.read_text().split()]

    def _wait_until_ready(self) -> None:
        for _ in range(300):
            assert self.process.poll() is None, "the app ended at once"
            try:
                urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=1)
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError("the app was not ready within a minute")


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens the app in a new window of its own (nothing shared with others) and closes it afterwards."""
    contexts = []

    def open_one(server: Server, path: str = "", **settings: Any) -> Any:
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.goto(f"{server.address}/{path}")
        page.get_by_role("heading", level=1).wait_for()
        if not path:  # the first to come waits for the model
            page.get_by_test_id("stChatInputTextArea").wait_for(timeout=180_000)
        return page

    yield open_one
    for context in contexts:
        context.close()


@pytest.fixture
def shoot() -> Callable[[Any, str], None]:
    """Saves a picture of a page under a name."""

    def save(page: Any, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(500)  # what is drawn moves in
        page.screenshot(path=str(SHOTS / f"{name}.png"))

    return save
