"""A model that says what it was asked last, a character a step, so that an answer that went astray is seen."""

import threading
from collections.abc import Hashable, Sequence

from jvlm.errors import DataError
from jvlm.infer.types import Event, Generation, Request
from jvlm.sample import Message, Sample

BAD_PROMPT, BAD_ADMISSION, BAD_STEP = "BAD-PROMPT", "BAD-ADMISSION", "BAD-STEP"
"""Asked these, it fails: in the asker's thread, when it is admitted, or in the step of its third character."""


def request(text: str, **options) -> Request:
    return Request(Sample("x", [Message("user", [text])]), **options)


class Echo:
    """`pace` lets a test hand out steps one by one."""

    def __init__(self, pace: threading.Semaphore | None = None) -> None:
        self.pace, self.engines = pace, list[EchoEngine]()
        self.requests: list[Request] = []

    @property
    def newest(self) -> "EchoEngine":
        return self.engines[-1]

    def engine(self, rows: int = 64) -> "EchoEngine":
        self.engines.append(EchoEngine(rows, self.pace))
        return self.newest

    def prompt_tokens(self, request: Request) -> int:
        self.requests.append(request)
        if request.sample.messages[-1].text == BAD_PROMPT:
            raise DataError("the prompt is bad", where="/secret/path")
        return 7

    def choice_log_likelihoods(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[list[float]]:
        return [[float(-len(text)) for text in texts] for texts in choices]


class EchoEngine:
    def __init__(self, rows: int, pace: threading.Semaphore | None) -> None:
        self.rows, self.pace = rows, pace
        self.running: dict[Hashable, tuple[Request, int]] = {}
        self.admitted: list[str] = []
        self.steps: list[list[str]] = []  # whom each step served
        self.thread = threading.get_ident()

    def admit(self, request: Request, key: Hashable) -> None:
        assert threading.get_ident() == self.thread
        text = request.sample.messages[-1].text
        self.admitted.append(text)
        if text == BAD_ADMISSION:
            raise ValueError("secret of the engine")
        assert len(self.running) < self.rows
        self.running[key] = request, 0

    def cancel(self, key: Hashable) -> None:
        assert threading.get_ident() == self.thread
        self.running.pop(key, None)

    def step(self) -> list[Event]:
        assert threading.get_ident() == self.thread
        if self.pace is not None:
            self.pace.acquire()
        self.steps.append([request.sample.messages[-1].text for request, _ in self.running.values()])
        events = []
        for key, (request, said) in list(self.running.items()):
            text = request.choices[0] if request.choices else request.sample.messages[-1].text
            if text == BAD_STEP and said == 2:
                raise RuntimeError("secret of the engine")
            said += 1
            end = None
            if said == len(text) or said == request.max_new_tokens:
                reason = "stop" if said == len(text) else "length"
                end = Generation(text[:said], reason, said)
                del self.running[key]
            else:
                self.running[key] = request, said
            events.append(Event(key, text[said - 1 : said], end))
        return events

    @property
    def busy(self) -> bool:
        return bool(self.running)
