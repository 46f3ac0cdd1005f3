"""The app as it is, on an engine that the browser suite can watch.

JVLM_BROWSER_ENGINE=slow: the real engine on a tiny model, each step of it slowed down and written to JVLM_BROWSER_LOG.
JVLM_BROWSER_ENGINE=echo: an engine that answers with the question itself, so that a test decides what is said.
JVLM_BROWSER_ENGINE=queue: the real engine on a tiny model, two answers at a time, eighteen in the queue; who came and
who was served is written to JVLM_BROWSER_LOG. It makes no step while the file beside the log, `hold`, is there.
"""

import os
import runpy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jvlm_apps import shared

from jvlm.infer.service import Service
from jvlm.infer.types import Generation, Request

PAGE = Path(shared.__file__).resolve().parent / "image_qa.py"
STEP_SECONDS = 0.08


class Echo:
    """Says what it was asked."""

    position = 0

    def __init__(self, model: Any) -> None:
        pass

    def submit(self, request: Request) -> Any:
        said = Echo(None)
        said.text = request.sample.messages[-1].text  # type: ignore[attr-defined]
        return said

    done = False

    def take(self) -> str:
        """All at once, and nothing more."""
        said, self.done = ("" if self.done else self.text), True  # type: ignore[attr-defined]
        return said

    def result(self, timeout: float | None = None) -> Generation:
        return Generation(self.text, "stop", len(self.text))  # type: ignore[attr-defined]

    def cancel(self) -> None:
        pass


def _slow_down() -> None:
    from jvlm.infer.engine import Engine

    if hasattr(Engine, "watched"):
        return
    step = Engine.step

    def watched(self: Any) -> Any:
        time.sleep(STEP_SECONDS)
        events = step(self)
        _note(f"{time.time()}")
        return events

    Engine.step = watched  # type: ignore[method-assign]
    Engine.watched = True  # type: ignore[attr-defined]


class Queue(Service):
    """Two rows, eighteen places in the queue."""

    def __init__(self, model: Any) -> None:
        super().__init__(model, rows=2, capacity=18)

    def submit(self, request: Request, notify: Callable[[], None] = lambda: None) -> Any:
        with self._changed:  # nobody comes between the queue and the note
            answer = super().submit(request, notify)
            _note(f"came {request.sample.messages[-1].text}")
        return answer


def _hold() -> None:
    """Let the engine wait where it is told to, and note whom it serves."""
    from jvlm.infer.engine import Engine

    if hasattr(Engine, "watched"):
        return
    step, admit, hold = Engine.step, Engine.admit, Path(os.environ["JVLM_BROWSER_LOG"]).with_name("hold")

    def held(self: Any) -> Any:
        while hold.exists():
            time.sleep(0.01)
        time.sleep(STEP_SECONDS / 4)
        return step(self)

    def noted(self: Any, request: Request, key: Any) -> None:
        _note(f"served {request.sample.messages[-1].text}")
        admit(self, request, key)

    Engine.step, Engine.admit = held, noted  # type: ignore[method-assign]
    Engine.watched = True  # type: ignore[attr-defined]


def _note(line: str) -> None:
    with open(os.environ["JVLM_BROWSER_LOG"], "a") as log:
        log.write(f"{line}\n")


match os.environ["JVLM_BROWSER_ENGINE"]:
    case "echo":
        shared.Service = Echo  # type: ignore[assignment,misc]
    case "queue":
        _hold()
        shared.Service = Queue  # type: ignore[misc]
    case _:
        _slow_down()
runpy.run_path(str(PAGE), run_name="__main__")
