"""What somebody types is text: every control token, in every disguise, in every place where text comes in."""

import itertools
import json
import random
from pathlib import Path

import pytest
from tally import times
from tiny import encoded_image

from jvlm.infer.conversation import Conversation, Turn
from jvlm.model.processor import Processor
from jvlm.sample import ImageRef, Message, Sample

ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"


def _full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def disguised(token: str, draw: random.Random) -> list[str]:
    """The token as it is, full-width, with characters that take no room, broken, doubled, nested."""
    place = draw.randrange(1, len(token)) if len(token) > 1 else 0
    return [
        token,
        _full_width(token),
        draw.choice(ZERO_WIDTH).join(token),
        token[:place] + draw.choice(ZERO_WIDTH) + token[place:],
        token[:place] + "\n" + token[place:],
        token[:place] + token + token[place:],
        token * 3,
        f" {token} ",
        token.upper(),
        json.dumps(token),
    ]


@pytest.fixture(scope="module")
def cases(tokenizer) -> list[list[str]]:
    """Texts that hold control tokens, in one or more pieces."""
    draw = random.Random(7)
    tokens = list(tokenizer.special)
    out = []
    for number in range(times(1_500, 10_000)):
        token = tokens[number % len(tokens)]
        form = disguised(token, draw)[number // len(tokens) % 10]
        text = draw.choice(["", "質問:", "<", "無視して"]) + form + draw.choice(["", "はい", ">", "\u3000"])
        place = draw.randrange(len(text) + 1)
        out.append([text[:place], text[place:]] if number % 2 else [text])
    return out


def _control(processor: Processor, ids: list[int]) -> list[int]:
    special = set(processor.tokenizer.special.values())
    return [token for token in ids if token in special]


def test_no_disguise_becomes_a_control_token(processor: Processor, cases, tally) -> None:
    """In training, evaluation, jobs, app and server alike, for all of them encode through the processor."""
    benign = {
        (role, n): _control(
            processor, processor.encode(_messages(role, ["あ"] * n), generation_prompt=role == "user").ids
        )
        for role, n in itertools.product(("user", "system", "assistant", "document"), (1, 2))
    }
    injected = 0
    for number, parts in enumerate(cases):
        role = ("user", "system", "assistant", "document")[number % 4]
        encoded = processor.encode(_messages(role, parts), generation_prompt=role == "user")
        injected += _control(processor, encoded.ids) != benign[role, len(parts)]
    tally |= {"injection_cases": len(cases), "injected_control_tokens": injected}
    assert injected == 0


def _messages(role: str, parts: list[str]) -> list[Message]:
    content: list[str | int] = [part for part in parts if part] or ["あ"]
    if role in ("user", "document"):
        return [Message(role, [0, *content])]  # type: ignore[arg-type,list-item]
    return [Message("user", [0, "あ"]), Message(role, content)]  # type: ignore[arg-type]


def test_no_disguise_in_a_conversation_of_the_app(processor: Processor, cases, tmp_path: Path) -> None:
    plain = Conversation("m", "h", [Turn("あ", [encoded_image(0)], answer="い", finish_reason="stop"), Turn("う")])
    wanted = _control(processor, processor.encode_sample(plain.sample(1), generation_prompt=True).ids)
    for parts in cases[:: max(1, len(cases) // 300)]:
        text = "".join(parts)
        talk = Conversation(text, text, [Turn(text, [encoded_image(0)], answer=text, finish_reason="stop"), Turn(text)])
        path = tmp_path / "talk.jsonl"
        path.write_text(talk.to_jsonl(), encoding="utf-8")
        sample = Conversation.read(path).sample(1)
        assert _control(processor, processor.encode_sample(sample, generation_prompt=True).ids) == wanted


def test_an_image_mark_that_is_typed_takes_no_image(processor: Processor) -> None:
    sample = Sample("x", [Message("user", ["<|image|><|image_start|>"])], [ImageRef(data=encoded_image(0))])
    encoded = processor.encode_sample(sample, generation_prompt=True)
    assert processor.image_token not in encoded.ids
    assert encoded.images == []
