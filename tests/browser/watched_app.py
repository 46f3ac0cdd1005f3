"""The app as it is, on an engine that the browser suite can watch.

JVLM_BROWSER_ENGINE=slow: the real engine on a tiny model, each step of it slowed down and written to JVLM_BROWSER_LOG.
JVLM_BROWSER_ENGINE=echo: an engine that answers with the question itself, so that a test decides what is said.
"""

import os
import runpy
import time
from pathlib import Path
from typing import Any

from jvlm_apps import shared

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
        with open(os.environ["JVLM_BROWSER_LOG"], "a") as log:
            log.write(f"{time.time()}\n")
        return events

    Engine.step = watched  # type: ignore[method-assign]
    Engine.watched = True  # type: ignore[attr-defined]


if os.environ["JVLM_BROWSER_ENGINE"] == "echo":
    shared.Service = Echo  # type: ignore[assignment,misc]
else:
    _slow_down()
runpy.run_path(str(PAGE), run_name="__main__")
