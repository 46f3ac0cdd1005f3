"""`make app` after `make demo`, by the clock: until the page is there, and until the first words of an answer.

On the model of JVLM_DEMO, a folder as `make demo` leaves it, or of runs/demo; skipped without one.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

DEMO = Path(os.environ.get("JVLM_DEMO", Path(__file__).resolve().parents[2] / "runs" / "demo"))
READY_SECONDS, FIRST_WORDS_SECONDS = 10, 2
_SAYS_SOMETHING = """() => {
    const answer = document.querySelectorAll('[data-testid=stChatMessage]')[1];
    return (answer?.querySelector('[data-testid=stText]')?.innerText || '').trim();
}"""


@pytest.fixture
def started(browser: Any, tmp_path: Path) -> Iterator[tuple[str, float]]:
    """`jvlm app` on the demo's model: its address, and when it was started."""
    if not (DEMO / "model" / "config.json").is_file():
        pytest.skip(f"no model in {DEMO / 'model'}: run `make demo` first")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from jvlm.cli import main; main()", "app", str(DEMO / "model")]
    begin = time.monotonic()
    with open(tmp_path / "output", "wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=output, stderr=subprocess.STDOUT, cwd=tmp_path, process_group=0
        )
    yield f"http://127.0.0.1:{port}", begin
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait_for_server(address: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the app was not ready within half a minute")


def test_the_page_is_there_soon_and_so_are_the_first_words_in_japanese(browser, started, capsys) -> None:
    address, begin = started
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(60_000)
    _wait_for_server(address)
    page.goto(address)
    box = page.get_by_test_id("stChatInputTextArea")
    box.wait_for()  # drawn once the model is loaded
    ready = time.monotonic() - begin

    page.get_by_text("例の画像").click()
    page.get_by_role("button", name="この画像を使う").first.click()
    page.get_by_text("次の質問に添える画像").wait_for()
    box.fill("この画像を説明してください。")
    asked = time.monotonic()
    box.press("Enter")
    page.wait_for_function(_SAYS_SOMETHING)
    first = time.monotonic() - asked
    about = page.get_by_test_id("stChatMessage").nth(1).get_by_text("最初の語まで")
    about.wait_for()
    assert page.get_by_test_id("stChatMessage").first.locator("img").count() == 1
    answer = page.evaluate(_SAYS_SOMETHING)
    with capsys.disabled():
        print(f"\npage ready after {ready:.1f} s, first words after {first:.2f} s ({about.inner_text()}): {answer}")
    context.close()
    assert re.search("[ぁ-ん]", answer)
    assert ready < READY_SECONDS
    assert first < FIRST_WORDS_SECONDS
