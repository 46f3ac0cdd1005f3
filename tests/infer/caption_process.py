"""A captioning job with a model that knows a picture by its hash: for tests, and as a process of its own to be killed.

python caption_process.py SOURCE OUT UNIT SECONDS_PER_IMAGE
"""

import sys
import time
from pathlib import Path
from typing import Any

from jvlm.errors import DataError
from jvlm.files import sha256_bytes
from jvlm.infer.caption import job
from jvlm.infer.caption.plan import Settings
from jvlm.infer.caption.unit import Tools
from jvlm.infer.types import Generation


class Hashing:
    """Says the hash of the first picture and what it was asked; each draw differs by the seed where there is heat."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.seen, self.calls = seconds, [], []
        self.dies_at: int | None = None
        self.longest_prompt = 400

    def check(self, sample, answers) -> None:
        if len(sample.messages[-1].text) > self.longest_prompt:
            raise DataError("the prompt takes too many tokens")

    def generate(self, samples, *, max_new_tokens=64, temperature=0.0, seed=0) -> list[Generation]:
        if self.dies_at is not None and len(self.seen) >= self.dies_at:
            raise KeyboardInterrupt
        for sample in samples:
            self.check(sample, [])
        time.sleep(self.seconds * len(samples))
        self.seen += [sample.id for sample in samples]
        self.calls.append(([sample.id for sample in samples], seed))
        drawn = [str(own) if temperature else "" for own in seed]
        texts = [f"{said(s)} {s.messages[-1].text}{heat}" for s, heat in zip(samples, drawn, strict=True)]
        return [Generation(text, "stop", max_new_tokens) for text in texts]


def said(sample: Any) -> str:
    return sha256_bytes(sample.images[0].read())[:8]


def run(source: Path | str, out: Path, model: Hashing | None = None, **options: Any) -> job.CaptionReport:
    """A job; options of `Settings` and of `job.caption` as they are."""
    names = ("formats", "retry_failed", "max_failures", "ray_workers", "on_progress")
    given = {name: options.pop(name) for name in names if name in options}
    settings = Settings(**{"source": str(source), "model_hash": "m" * 16, "threads": 1} | options)
    return job.caption(out, settings, lambda: Tools(model or Hashing()), **given)


if __name__ == "__main__":
    report = run(sys.argv[1], Path(sys.argv[2]), Hashing(float(sys.argv[4])), unit=int(sys.argv[3]))
    sys.exit(0 if report.complete else 9)
