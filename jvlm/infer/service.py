"""One model, many askers: requests wait in a bounded queue, and one thread, which owns the engine, answers them.

Who comes first is served first. An answer whose asker has gone is dropped before the next token is computed. A request
that the engine fails on fails alone: the others it was computed with are computed again, each by itself, and since no
answer depends on its batch, what was already given out of them stays true.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from jvlm.errors import JvlmError
from jvlm.infer.answer import Answer, Busy, Cancelled, Failed
from jvlm.infer.api import shares
from jvlm.infer.types import Event, Generation, Request
from jvlm.sample import Sample

__all__ = ["Answer", "Busy", "Cancelled", "Counters", "Failed", "Service"]

_log = logging.getLogger("jvlm.service")


class Stepper(Protocol):
    """What the service asks of an engine (`jvlm.infer.engine.Engine`)."""

    def admit(self, request: Request, key: Answer) -> None: ...

    def cancel(self, key: Answer) -> None: ...

    def step(self) -> list[Event]: ...


class Answerer(Protocol):
    """What the service asks of a model (`jvlm.infer.generate.VisionLanguageModel`)."""

    def engine(self, *, rows: int) -> Stepper:
        """An engine that answers up to `rows` requests at a time."""
        ...

    def prompt_tokens(self, request: Request) -> int:
        """Tokens of the prompt. Raises DataError for what cannot be answered: a bad image, no room in the window."""
        ...

    def choice_log_likelihoods(
        self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]
    ) -> list[list[float]]: ...


@dataclass
class Counters:
    """Since the start. Every request received is in the end refused, answered, failed or cancelled."""

    received: int = 0
    refused: int = 0
    answered: int = 0
    failed: int = 0
    cancelled: int = 0
    steps: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    answer_seconds: float = 0.0
    """From the request's arrival to the end of its answer, summed over those answered."""


class Service:
    """Answers requests of any number of threads with one model, `rows` at a time; `capacity` more may wait."""

    def __init__(self, model: Answerer, *, rows: int = 8, capacity: int = 32) -> None:
        self._model, self._rows, self._capacity = model, rows, capacity
        self._engine: Stepper | None = None
        self._changed = threading.Condition(threading.RLock())  # guards all that follows
        self._waiting: deque[Answer] = deque()
        self._running: list[Answer] = []
        self._leaving: list[Answer] = []  # cancelled, their rows not yet free
        self._closed = False
        self.counters = Counters()
        self._thread = threading.Thread(target=self._work, name="jvlm-service", daemon=True)
        self._thread.start()

    def submit(self, request: Request, notify: Callable[[], None] = lambda: None) -> Answer:
        """Queue a request. `notify` is called, in the engine's thread, whenever its answer has something new.

        Raises Busy when the queue is full; DataError for a bad image or a prompt that leaves no room for an answer.
        """
        self.check_room()
        prompt_tokens = self._model.prompt_tokens(request)  # images are decoded here, in the asker's thread
        answer = Answer(self, request, prompt_tokens, notify)
        with self._changed:
            self.check_room()
            self._waiting.append(answer)
            self.counters.received += 1
            self.counters.prompt_tokens += prompt_tokens
            self._changed.notify()
        return answer

    def check_room(self) -> None:
        """Raises Busy, and counts a refusal, when the queue is full: before work is put into a request."""
        with self._changed:
            if self._closed:
                raise Cancelled("the service is closed")
            if len(self._waiting) + len(self._running) >= self._rows + self._capacity:
                self.counters.received += 1
                self.counters.refused += 1
                raise Busy("too many requests are waiting", fix="try again in a moment")

    def close(self) -> None:
        """Cancel what is not finished and end the thread."""
        with self._changed:
            self._closed = True
            for answer in [*self._running, *self._waiting]:
                self.drop(answer)
            self._changed.notify()
        self._thread.join()

    @property
    def running(self) -> int:
        """Requests being answered."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether requests are answered."""
        return self._thread.is_alive()

    def drop(self, answer: Answer) -> None:
        """What `Answer.cancel` does."""
        with self._changed:
            if answer in self._running:
                self._running.remove(answer)
                self._leaving.append(answer)
            elif answer in self._waiting:
                self._waiting.remove(answer)
            else:
                return
            self.counters.cancelled += 1
            self._changed.notify()
        answer.finish(None, Cancelled("the answer was cancelled"))

    def position(self, answer: Answer) -> int:
        """What `Answer.position` tells."""
        with self._changed:
            return self._waiting.index(answer) + 1 if answer in self._waiting else 0

    # --- the thread that owns the engine --------------------------------------------------------------------------

    def _work(self) -> None:
        while self._exchange():
            self._step()

    def _exchange(self) -> bool:
        """Waits for something to do; frees the rows of those that left and gives them to the next in the queue.

        False when the service is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting or self._running or self._leaving)
            if self._closed:
                return False
            leaving, self._leaving = self._leaving, []
            coming = self._next_in_queue()
        try:
            for answer in leaving:
                if self._engine is not None:
                    self._engine.cancel(answer)
        except Exception as error:
            self._start_afresh(error)
            return True
        for answer in coming:
            try:
                answer.begin()
                self._engine = self._engine or self._model.engine(rows=self._rows)
                self._engine.admit(answer.request, answer)
            except Exception as error:
                self._end(answer, error=error)
        return True

    def _next_in_queue(self) -> list[Answer]:
        coming: list[Answer] = []
        while self._waiting and len(self._running) < self._rows:
            if self._running and (self._waiting[0].alone or self._running[0].alone):
                break
            coming.append(self._waiting.popleft())
            self._running.append(coming[-1])
        return coming

    def _step(self) -> None:
        if self._engine is None or not self._running:
            return
        try:
            events = self._engine.step()
        except Exception as error:
            self._start_afresh(error)
            return
        self.counters.steps += 1
        for event in events:
            answer = event.key
            assert isinstance(answer, Answer)
            answer.extend(event.text)
            if event.generation is not None:
                self._complete(answer, event.generation)

    def _complete(self, answer: Answer, generation: Generation) -> None:
        request = answer.request
        try:
            if request.choices:
                (logs,) = self._model.choice_log_likelihoods([request.sample], [request.choices])
                answer.choice_probabilities = shares(logs)
        except Exception as error:
            self._end(answer, error=error)
            return
        self._end(answer, generation=generation)

    def _end(self, answer: Answer, generation: Generation | None = None, error: Exception | None = None) -> None:
        if error is not None and not isinstance(error, JvlmError):
            _log.error("an answer failed", exc_info=error)
            error = Failed("the answer failed", fix="the log says why")
        with self._changed:
            if answer not in self._running:
                return  # cancelled meanwhile
            self._running.remove(answer)
            if generation is None:
                self.counters.failed += 1
            else:
                self.counters.answered += 1
                self.counters.generated_tokens += generation.num_tokens
                self.counters.answer_seconds += time.monotonic() - answer.arrived
        answer.finish(generation, error)

    def _start_afresh(self, error: Exception) -> None:
        """After a fault nothing of the engine is trusted, and who it failed on is found out."""
        self._engine = None
        with self._changed:
            suspects = list(self._running)
            if len(suspects) > 1:
                _log.error("a step failed: its requests are computed again, one by one", exc_info=error)
                for answer in suspects:
                    answer.alone = True
                self._running.clear()
                self._waiting.extendleft(reversed(suspects))
                return
        for answer in suspects:
            self._end(answer, error=error)
