"""An answer that another thread is writing: read it piece by piece, wait for it, or let it go."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from jvlm.errors import JvlmError
from jvlm.infer.types import Generation, Request

_log = logging.getLogger("jvlm.service")


class Busy(JvlmError):
    """The queue is full; the same request can be made again later."""


class Cancelled(JvlmError):
    """Nobody waits for the answer any more: it was cancelled, or the service was closed."""


class Failed(JvlmError):
    """The answer failed through a fault of ours, whose traceback is in the log."""


class Queue(Protocol):
    """Where an answer is waited for (`jvlm.infer.service.Service`)."""

    def drop(self, answer: "Answer") -> None: ...

    def position(self, answer: "Answer") -> int: ...


class Answer:
    """An answer while it is made. One reader: iterating gives the text piece by piece and ends with it.

    `prompt_tokens` counts the tokens asked with. `choice_probabilities` is there once a request with choices is
    answered: the share of each of them, in their order.
    """

    def __init__(self, queue: "Queue", request: Request, prompt_tokens: int, notify: Callable[[], None]) -> None:
        self.request, self.prompt_tokens = request, prompt_tokens
        self.generation: Generation | None = None
        self.choice_probabilities: list[float] | None = None
        self.arrived = time.monotonic()
        self.alone = False  # computed with others it failed, or they with it
        self._queue, self._notify = queue, notify
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
        self._queue.drop(self)

    @property
    def position(self) -> int:
        """Place in the queue; 0 when it is being answered, or done."""
        return self._queue.position(self)

    def _next(self) -> str | None:
        with self._changed:
            self._changed.wait_for(lambda: self._done or len(self._text) > self._taken)
            return None if self._done and self._taken == len(self._text) else self.take()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    # --- for the service -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """It is computed from its beginning, for the first time or once more."""
        self._run_text = ""

    def extend(self, text: str) -> None:
        """What comes next. Nothing is given out twice when it is computed once more."""
        self._run_text += text
        with self._changed:
            if self._done or len(self._run_text) <= len(self._text):
                return
            self._text = self._run_text
            self._changed.notify_all()
        self._tell()

    def finish(self, generation: Generation | None, error: JvlmError | None) -> None:
        """Its end, for better or worse."""
        with self._changed:
            self.generation, self._error, self._done = generation, error, True
            self._changed.notify_all()
        self._tell()

    def _tell(self) -> None:
        try:
            self._notify()
        except Exception:  # the reader's mistake; the engine's thread goes on
            _log.exception("a reader cannot be told of its answer")
