"""The generation engine: many requests at once, each as if it were alone."""

from collections.abc import Hashable

from jvlm.infer.types import Event, Request
from jvlm.model.jvlm import JvlmModel
from jvlm.model.processor import Processor


class Engine:
    """Rows of one batch, refilled as answers end. Not thread-safe: one thread owns it.

    `pieces`: whether events come while an answer is being written; without, one comes at its end, which is faster.
    """

    def __init__(self, model: JvlmModel, processor: Processor, rows: int = 64, *, pieces: bool = True) -> None:
        raise NotImplementedError

    def admit(self, request: Request, key: Hashable) -> None:
        """Put a request at the end of the queue.

        Raises DataError for an image that cannot be read and a prompt that leaves no room for an answer.
        """
        raise NotImplementedError

    def cancel(self, key: Hashable) -> None:
        """Forget a request; its row is free at the next step. Unknown keys are ignored."""
        raise NotImplementedError

    def step(self) -> list[Event]:
        """Read the prompts for which there is room, then write one token of every running answer."""
        raise NotImplementedError

    @property
    def busy(self) -> bool:
        """Whether anything is queued or running."""
        raise NotImplementedError
