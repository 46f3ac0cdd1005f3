import io
import re
from pathlib import Path

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


@pytest.mark.parametrize(
    "line", ["{", "[]", "{}", '{"model": "m", "model_hash": "h", "images": ["?"], "settings": {}}']
)
def test_what_is_no_turn_is_told_by_its_line(talk: Conversation, tmp_path: Path, line: str) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_text(talk.to_jsonl() + line + "\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        Conversation.read(path)
    assert str(error.value.where) == f"{path}:3"


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
