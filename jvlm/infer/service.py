"""One model, many askers: requests wait in a bounded queue, and one thread, which owns the engine, answers them.

Who comes first is served first. An answer whose asker has gone is dropped before the next token is computed. A request
that the engine fails on fails alone: the others it was computed with are computed again, each by itself, and since no
answer depends on its batch, what was already given out of them stays true.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from jvlm.errors import JvlmError
from jvlm.infer.api import shares
from jvlm.infer.types import Event, Generation, Request
from jvlm.sample import Sample

_log = logging.getLogger("jvlm.service")


class Busy(JvlmError):
    """The queue is full; the same request can be made again later."""


class Cancelled(JvlmError):
    """Nobody waits for the answer any more: it was cancelled, or the service was closed."""


class Failed(JvlmError):
    """The answer failed through a fault of ours, whose traceback is in the log."""


class Stepper(Protocol):
    """What the service asks of an engine (`jvlm.infer.engine.Engine`)."""

    def admit(self, request: Request, key: "Answer") -> None: ...

    def cancel(self, key: "Answer") -> None: ...

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


class Answer:
    """An answer while it is made. One reader: iterating gives the text piece by piece and ends with it.

    `prompt_tokens` counts the tokens asked with. `choice_probabilities` is there once a request with choices is
    answered: the share of each of them, in their order.
    """

    def __init__(self, service: "Service", request: Request, prompt_tokens: int, notify: Callable[[], None]) -> None:
        self.request, self.prompt_tokens = request, prompt_tokens
        self.generation: Generation | None = None
        self.choice_probabilities: list[float] | None = None
        self.arrived = time.monotonic()
        self.alone = False  # computed with others it failed, or they with it
        self._service, self._notify = service, notify
        self._changed = threading.Condition()
        self._text = self._run_text = ""  # all that was said; what the run now going on said
        self._taken = 0  # characters of it that the reader has
        self._error: JvlmError | None = None
        self._done = False

    def __iter__(self) -> Iterator[str]:
        """Leaving the loop early cancels the answer. Raises JvlmError when it fails or is cancelled."""
        try:
            while (piece := self._next()) is not None:
                yield piece
        finally:
            self.cancel()
        self._raise()

    def take(self) -> str:
        """What was said since the last time, without waiting."""
        with self._changed:
            piece, self._taken = self._text[self._taken :], len(self._text)
        return piece

    @property
    def done(self) -> bool:
        """Whether no more comes: answered, failed or cancelled."""
        return self._done

    def result(self, timeout: float | None = None) -> Generation:
        """The whole answer, waiting at most `timeout` seconds for it.

        Raises JvlmError when it fails or is cancelled, TimeoutError.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._done, timeout):
                raise TimeoutError("the answer is not finished")
        self._raise()
        assert self.generation is not None
        return self.generation

    def cancel(self) -> None:
        """Nobody waits for it any more. Its row is free at the next token; of no effect once it is done."""
        self._service._cancel(self)

    @property
    def position(self) -> int:
        """Place in the queue; 0 when it is being answered, or done."""
        return self._service._position(self)

    def _next(self) -> str | None:
        with self._changed:
            self._changed.wait_for(lambda: self._done or len(self._text) > self._taken)
            return None if self._done and self._taken == len(self._text) else self.take()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _begin(self) -> None:
        self._run_text = ""

    def _extend(self, text: str) -> None:
        self._run_text += text
        with self._changed:
            if len(self._run_text) <= len(self._text):
                return  # a second run has not yet come as far as the first
            self._text = self._run_text
            self._changed.notify_all()
        self._tell()

    def _finish(self, generation: Generation | None, error: JvlmError | None) -> None:
        with self._changed:
            self.generation, self._error, self._done = generation, error, True
            self._changed.notify_all()
        self._tell()

    def _tell(self) -> None:
        try:
            self._notify()
        except Exception:  # the reader's mistake; the engine's thread goes on
            _log.exception("a reader cannot be told of its answer")


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
                self._cancel(answer)
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

    def _cancel(self, answer: Answer) -> None:
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
        answer._finish(None, Cancelled("the answer was cancelled"))

    def _position(self, answer: Answer) -> int:
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
        for answer in leaving:
            if self._engine is not None:
                self._engine.cancel(answer)
        for answer in coming:
            try:
                answer._begin()
                self._engine = self._engine or self._model.engine(rows=self._rows)
                self._engine.admit(answer.request, answer)
            except Exception as error:
                self._end(answer, error=error)
        return True

    def _next_in_queue(self) -> list[Answer]:
        coming = []
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
            if answer not in self._running:
                continue  # cancelled meanwhile
            answer._extend(event.text)
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
        answer._finish(generation, error)

    def _start_afresh(self, error: Exception) -> None:
        """After a step that failed, nothing of the engine is trusted, and who it failed on is found out."""
        self._engine = None
        with self._changed:
            suspects = list(self._running)
            if len(suspects) > 1:
                for answer in suspects:
                    answer.alone = True
                self._running.clear()
                self._waiting.extendleft(reversed(suspects))
                return
        for answer in suspects:
            self._end(answer, error=error)
