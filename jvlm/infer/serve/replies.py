"""What the server says: OpenAI's completion objects, whole or in chunks, and server-sent events."""

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from jvlm.infer.service import Answer

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Reply:
    """The objects about one answer. With `usage` every chunk has that field, null but in the last."""

    model: str
    usage: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Of an answer that is finished."""
        generation = answer.result()
        message = {"role": "assistant", "content": generation.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": generation.finish_reason}
        return self._object("chat.completion", [choice]) | {"usage": _usage(answer)} | _probabilities(answer)

    def first(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, text: str) -> bytes:
        return self._chunk({"content": text})

    def last(self, answer: Answer) -> bytes:
        """What ends the stream of an answer that is finished."""
        end = self._chunk({}, answer.result().finish_reason, **_probabilities(answer))
        if self.usage:
            end += event(self._object("chat.completion.chunk", []) | {"usage": _usage(answer)})
        return end + DONE

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self.usage else {}
        return event(self._object("chat.completion.chunk", [choice]) | usage | more)

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}


def event(record: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(record, ensure_ascii=False)}\n\n".encode()


def _usage(answer: Answer) -> dict[str, int]:
    asked, written = answer.prompt_tokens, answer.result().num_tokens
    return {"prompt_tokens": asked, "completion_tokens": written, "total_tokens": asked + written}


def _probabilities(answer: Answer) -> dict[str, list[float]]:
    found = answer.choice_probabilities
    return {} if found is None else {"choice_probabilities": found}
