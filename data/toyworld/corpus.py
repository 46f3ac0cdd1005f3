"""A Japanese text corpus about the toy world: encyclopaedia, stories, dialogues and instructions.

Things keep their colours and places through a document and later sentences refer back to them, so a model with
a long memory can predict what a character n-gram cannot. No fact about the toy medicine stands here.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from jvlm_data.toyworld import encyclopaedia, tales
from jvlm_data.toyworld.lexicon import COUNTERS, allowed_pairs, pick
from jvlm_data.toyworld.world import SHAPES

Pairs = list[tuple[str, str]]
Writer = Callable[[np.random.Generator, Pairs, Pairs], str]

WRITERS: dict[str, Writer] = {
    "encyclopaedia": encyclopaedia.article,
    "story": tales.story,
    "dialogue": tales.dialogue,
    "instruction": tales.instruction,
}
SOURCES = tuple(WRITERS)
_STREAM = 101  # keeps these random numbers apart from those of the other generators of the same seed


def document(seed: int, index: int) -> dict[str, Any]:
    """Document `index` of the corpus: `{"id", "text", "source"}`, a pure function of (seed, index).

    No document names a (colour, shape) pair that is held out of training (`world.HELD_OUT_PAIRS`).
    """
    rng = np.random.default_rng([seed, _STREAM, index])
    source = pick(rng, SOURCES)
    text = WRITERS[source](rng, *_pairs())
    return {"id": f"{source}-{index:07d}", "text": text, "source": source}


def documents(seed: int, num_bytes: int) -> Iterator[dict[str, Any]]:
    """Documents until their texts hold at least `num_bytes` bytes of UTF-8."""
    written, index = 0, 0
    while written < num_bytes:
        record = document(seed, index)
        yield record
        written += len(record["text"].encode())
        index += 1


@cache
def _pairs() -> tuple[Pairs, Pairs]:
    return allowed_pairs(SHAPES), allowed_pairs(tuple(COUNTERS))
