"""Who judges open answers: a model on this machine, or one behind an OpenAI-compatible address.

Nothing is sent anywhere unless an address is named. The key of an address is read from the environment and goes into
no record, no result and no message.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any, Literal, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from jvlm.errors import JvlmError, UsageError
from jvlm.infer.types import Generation, TextModel
from jvlm.sample import Sample

KEY = "JVLM_JUDGE_KEY"
"""Environment variable that holds the key of an address."""

TIMEOUT_SECONDS = 120.0
TRIES = 5
PARALLEL = 4
"""Requests to an address at the same time."""

_LONGEST_WAIT = 60.0
_WORTH_ANOTHER_TRY = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_OF_THE_QUESTION = {400, 413, 422}
"""Statuses that refuse this question, such as one that is too long, and not the whole work."""


class Judge(Protocol):
    """Something that reads a question and writes a verdict, always the same for the same question where it can."""

    @property
    def name(self) -> str:
        """Which judge this is; verdicts of two judges never mix."""
        ...

    @property
    def about(self) -> dict[str, Any]:
        """What the results say of it."""
        ...

    def answer(self, questions: Sequence[Sample], max_new_tokens: int) -> list[Generation | str]:
        """One verdict a question, or why there is none. Raises JvlmError when there is no judging at all."""
        ...


class LocalJudge:
    """A model that is loaded here, asked greedily."""

    def __init__(self, model: TextModel, name: str) -> None:
        self.model, self.name = model, name

    @property
    def about(self) -> dict[str, Any]:
        return {"id": self.name, "kind": "local", "settings": dict(self.model.settings)}

    def answer(self, questions: Sequence[Sample], max_new_tokens: int) -> list[Generation | str]:
        """What does not fit the model's window is refused, with the reason."""
        refused = self.model.refusals(questions, [[]] * len(questions))
        asked = [question for question, why in zip(questions, refused, strict=True) if why is None]
        said = iter(self.model.generate(asked, max_new_tokens=max_new_tokens) if asked else [])
        return [next(said) if why is None else why for why in refused]


class UrlJudge:
    """`POST BASE/chat/completions` at temperature 0, a few at a time; tried again when the server is busy or silent.

    Args:
        base: address up to and with its version, such as http://localhost:8000/v1. model: the model's name there.
        wait: sleeps for that many seconds; tests hand in their own.
    """

    def __init__(self, base: str, model: str | None, wait: Callable[[float], None] = time.sleep) -> None:
        parts = urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"'{base}' is no address of a judge", fix="give it as https://HOST/v1")
        if parts.username or parts.password or parts.query:
            raise UsageError("the address of a judge holds more than host and path", fix=f"put its key into ${KEY}")
        if not model:
            raise UsageError("which model of the address judges is not said", fix="name it with --judge-model")
        self.base, self.model, self._wait = base.rstrip("/"), model, wait
        self._open = build_opener(_NoRedirect).open  # a key is never carried on to another address

    @property
    def name(self) -> str:
        return f"{self.model} at {self.base}"

    @property
    def about(self) -> dict[str, Any]:
        return {"id": self.name, "kind": "url", "url": self.base, "model": self.model, "temperature": 0}

    def answer(self, questions: Sequence[Sample], max_new_tokens: int) -> list[Generation | str]:
        """Raises JvlmError when the server refuses the key or the model, or still does not answer at the last try."""
        with ThreadPoolExecutor(PARALLEL) as pool:
            return list(pool.map(lambda question: self._ask(question, max_new_tokens), questions))

    def _ask(self, question: Sample, max_new_tokens: int) -> Generation | str:
        messages = [{"role": message.role, "content": message.text} for message in question.messages]
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": max_new_tokens}
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        request = Request(f"{self.base}/chat/completions", json.dumps(body).encode(), headers, method="POST")
        problem = ""
        for number in range(TRIES):
            pause = min(2.0**number, _LONGEST_WAIT)
            try:
                with self._open(request, timeout=TIMEOUT_SECONDS) as reply:
                    return _generation(reply.read())
            except HTTPError as error:
                problem = f"status {error.code}: {_start(error)}"
                if error.code in _OF_THE_QUESTION:
                    return problem
                if error.code not in _WORTH_ANOTHER_TRY:
                    raise JvlmError(f"the judge refuses: {problem}", where=self.base, fix=_HELP) from None
                told = error.headers.get("Retry-After", "") if error.headers else ""
                pause = min(float(told), _LONGEST_WAIT) if told.isdigit() else pause
            except (URLError, HTTPException, OSError) as error:
                problem = str(getattr(error, "reason", error) or type(error).__name__)
            if number + 1 < TRIES:
                self._wait(pause)
        raise JvlmError(f"the judge does not answer: {problem}", where=self.base, fix=_HELP)


_HELP = f"see that the address, the model and ${KEY} are right; run the same command again to go on"


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _generation(reply: bytes) -> Generation | str:
    try:
        said = json.loads(reply)
        choice = said["choices"][0]
        text = choice["message"]["content"]
        finish: Literal["stop", "length"] = "length" if choice.get("finish_reason") == "length" else "stop"
        number = int((said.get("usage") or {}).get("completion_tokens") or 0)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return f"not a chat completion: {reply[:200].decode(errors='replace')}"
    return Generation(text, finish, number) if isinstance(text, str) else "the judge said no text"


def _start(error: HTTPError) -> str:
    try:
        return error.read(300).decode(errors="replace").strip()
    except (OSError, HTTPException):
        return str(error.reason)
