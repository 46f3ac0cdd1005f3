import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jvlm.errors import DataError
from jvlm.infer.conversation import Conversation, Settings, Turn
from jvlm.sample import ImageRef


def _png(colour: str = "red") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def talk() -> Conversation:
    first = Turn("何色ですか。", [_png()], Settings(32, 0.7, 0.9, 5), "赤です。", "stop", 4, 1.5, 0.2)
    return Conversation("demo", "abc", [first, Turn("これは？", [_png("blue"), _png("green")])])


def test_a_question_is_put_after_the_turns_before_it_with_its_own_images(talk: Conversation) -> None:
    request = talk.request(1)
    assert [message.content for message in request.sample.messages] == [
        [0, "何色ですか。"],
        ["赤です。"],
        [1, 2, "これは？"],
    ]
    assert request.sample.images == [ImageRef(data=_png(colour)) for colour in ("red", "blue", "green")]
    assert (request.max_new_tokens, request.temperature) == (96, 0.0)
    first = talk.request(0)
    assert (first.max_new_tokens, first.temperature, first.top_p, first.seed) == (32, 0.7, 0.9, 5)
    assert len(first.sample.images) == 1


def test_a_file_gives_back_the_conversation(talk: Conversation, tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_text(talk.to_jsonl(), encoding="utf-8")
    assert Conversation.read(path) == talk


def _line(**changed: Any) -> str:
    """A whole turn with some fields changed; `_` stands for one that is left out."""
    turn = Turn("何色ですか。", [_png()], Settings(32, 0.7, 0.9, 5), "赤です。", "stop", 4, 1.5, 0.2)
    row = json.loads(Conversation("demo", "abc", [turn]).to_jsonl()) | changed
    return json.dumps({name: value for name, value in row.items() if value != "_"})


DAMAGED = {
    "cut": _line()[:60],
    "no object": "[]",
    "empty": "{}",
    "no bytes": "\\xff\\xfe",
    "nested without end": "[" * 200_000,
    "a number too long": '{"model": ' + "1" * 5000 + "}",
    "no question": _line(question="_"),
    "no settings": _line(settings=[]),
    "question": _line(question=5),
    "half a character": _line(question="\ud800"),
    "answer": _line(answer=None),
    "images": _line(images="red.png"),
    "images of images": _line(images=[[1]]),
    "an image of no bytes": _line(images=["?"]),
    "no image": _line(images=["aGVsbG8="]),
    "half an image": _line(images=[base64.b64encode(_png()[:20]).decode()]),
    "a bomb": _line(images=[base64.b64encode(_png()[:16] + b"\x7f" * 8 + _png()[24:]).decode()]),
    "model": _line(model={}),
    "another model": _line(model_hash="other"),
    "unknown field": _line(command="rm"),
    "unknown setting": _line(settings={"temprature": 1}),
    "a setting of text": _line(settings={"temperature": "hot"}),
    "a setting of nothing": _line(settings={"seed": None}),
    "too cold": _line(settings={"temperature": -1}),
    "too hot": _line(settings={"temperature": float("inf")}),
    "not a number": _line(settings={"top_p": float("nan")}),
    "no tokens": _line(settings={"max_new_tokens": 0}),
    "finish": _line(finish_reason="exploded"),
    "seconds": _line(seconds="long"),
}


@pytest.mark.parametrize("line", DAMAGED.values(), ids=DAMAGED)
def test_what_is_no_turn_is_told_by_its_line(talk: Conversation, tmp_path: Path, line: str) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_text(talk.to_jsonl() + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"not a turn of this conversation: .") as error:
        Conversation.read(path)
    assert str(error.value.where) == f"{path}:3"
    assert error.value.fix


@pytest.mark.parametrize("odd", [None, True, -1, 10**400, 1e308, "x", "\ud800", [], {}, [[]], {"a": 1}], ids=repr)
def test_no_value_in_no_place_breaks_what_reads_it_later(talk: Conversation, tmp_path: Path, odd: object) -> None:
    """What is not refused can be put to a model, saved and shown."""
    path, whole = tmp_path / "talk.jsonl", json.loads(_line())
    places = [(whole, name) for name in whole] + [(whole["settings"], name) for name in whole["settings"]]
    for place, name in places:
        before, place[name] = place[name], odd
        path.write_text(json.dumps(whole) + "\n")
        place[name] = before
        try:
            read = Conversation.read(path)
        except DataError:
            continue
        request = read.request(0)
        assert type(request.max_new_tokens) is type(request.seed) is int
        assert type(request.temperature) is type(request.top_p) is float
        path.write_text(read.to_jsonl(), encoding="utf-8")
        assert Conversation.read(path) == read
        assert read.to_html().encode()
        assert read.to_markdown().encode()


def test_an_empty_file_is_no_conversation(tmp_path: Path) -> None:
    (tmp_path / "talk.jsonl").write_text("")
    with pytest.raises(DataError, match="no turn"):
        Conversation.read(tmp_path / "talk.jsonl")


def test_pages_to_read_hold_text_as_text(talk: Conversation) -> None:
    nasty = '</pre><script>alert(1)</script> ![x](http://example.invalid/a.png) ```\n# 見出し <img src="http://example.invalid">'
    talk.turns[0].answer = nasty
    page = talk.to_html()
    assert "<script" not in page
    assert re.findall(r'src="(?!data:)', page) == []
    assert "default-src 'none'" in page
    blocks = re.findall(r"^(`{3,})text\n(.*?)\n\1$", talk.to_markdown(), re.S | re.M)
    assert nasty in [text for _, text in blocks]
