"""Twenty visitors ask at once: who comes first is served first, each gets their own answer, and the page reacts.

One app, one engine of two rows on a tiny model, eighteen places in its queue; each visitor is a browser context of its
own. What the model says to a question is computed beside it, by the model alone.
"""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from jvlm.infer.generate import load_model
from jvlm.sample import Message, Sample

pytestmark = pytest.mark.browser

VISITORS = 20
MAX_NEW_TOKENS = 96  # as the page begins
SLOWEST_REACTION, SLOWEST_OPENING = 3.0, 10.0  # seconds; what runs app and engine draws 21 pages as well
NAMES = "桜梅松竹菊蘭椿藤萩柳桃栗柿杉楓楠桐桂樫椎"


def _until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def _seconds(action: Callable[[], Any]) -> float:
    begin = time.monotonic()
    action()
    return time.monotonic() - begin


def _letters(text: str) -> str:
    """What a page shows of a text for certain: it may fold blanks and control characters."""
    return "".join(filter(str.isalnum, text))


def _fill(page: Any, question: str) -> Any:
    box = page.get_by_test_id("stChatInputTextArea")
    box.fill(question)
    return box


def _switch_language(page: Any) -> float:
    """Seconds from a click to the page in the other language."""
    japanese = page.get_by_role("heading", name="画像への質問").is_visible()
    wanted, heading = ("English", "Image Q&A") if japanese else ("日本語", "画像への質問")

    def switch() -> None:
        page.get_by_test_id("stSidebar").get_by_text(wanted, exact=True).click()
        page.get_by_role("heading", name=heading, exact=True).wait_for()

    return _seconds(switch)


def test_twenty_sessions_at_once(server, model_folder, open_page, capsys) -> None:
    app = server("queue", model_folder)
    hold = app.log.with_name("hold")
    hold.touch()

    def noted(what: str) -> list[str]:
        lines = [line.partition(" ") for line in app.log.read_text().splitlines()]
        return [question for kind, _, question in lines if kind == what]

    questions = [f"{number}番の合言葉は{name}ですか。" for number, name in enumerate(NAMES[:VISITORS], 1)]
    pages = [open_page(app) for _ in questions]
    boxes = [_fill(page, question) for page, question in zip(pages, questions, strict=True)]
    for box in boxes:
        box.press("Enter")
    _until(lambda: len(noted("came")) == VISITORS)
    came, running = noted("came"), len(noted("served"))
    assert sorted(came) == sorted(questions)

    for place, question in enumerate(came[running:], 1):  # each is told how many are before them
        pages[questions.index(question)].get_by_text(re.compile(f"前の人: {place}$")).wait_for()
    late: list[Any] = []
    opened = _seconds(lambda: late.append(open_page(app)))
    box = _fill(late[0], "満員ですか。")
    refused = _seconds(lambda: (box.press("Enter"), late[0].get_by_text("混み合っています。").wait_for()))

    hold.unlink()
    reactions = [_switch_language(late[0]) for _ in range(6)]
    assert len(noted("served")) < VISITORS, "the queue was empty before the page had been tried"
    for page in pages:
        page.get_by_text("最初の語まで").wait_for(timeout=180_000)

    assert noted("served") == came
    model = load_model(model_folder)
    expected = [_letters(_alone(model, question)) for question in questions]
    assert len({*expected}) == VISITORS, "answers that are alike would hide that they were exchanged"
    wrong = 0
    for own, page in enumerate(pages):
        messages = page.get_by_test_id("stChatMessage")
        assert messages.count() == 2
        shown = [messages.nth(i).get_by_test_id("stText").first.inner_text() for i in (0, 1)]
        wrong += shown[0] != questions[own] or _letters(shown[1]) != expected[own]
        body = page.inner_text("body")
        assert not any(other in body for other in questions if other != questions[own])
    assert wrong == 0
    with capsys.disabled():
        print(
            f"\n{VISITORS} sessions at once: served in the order they came, {wrong} answers in a wrong session; with a"
            f" full queue a new page opened in {opened:.2f} s and a refusal came in {refused:.2f} s; while it emptied a"
            f" click took {sorted(reactions)[len(reactions) // 2]:.2f} s, at most {max(reactions):.2f} s"
        )
    assert max(reactions) < SLOWEST_REACTION
    assert max(opened, refused) < SLOWEST_OPENING


def _alone(model: Any, question: str) -> str:
    (answer,) = model.generate([Sample("q", [Message("user", [question])])], max_new_tokens=MAX_NEW_TOKENS)
    return answer.text
