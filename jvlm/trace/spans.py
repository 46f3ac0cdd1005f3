"""Which parts of an answer stand in the training text, character by character.

Every run of `LEAST` characters holds a probe of nine that begins at a multiple of `STRIDE`. Passages that may hold a
probe come from the index; each match is confirmed in the record's text and widened there in both directions, over the
borders of passages.
"""

from collections.abc import Iterator

from jvlm.trace.passages import OVERLAP
from jvlm.trace.types import MOST_ORIGINS, Span, TraceIndex

LEAST, STRIDE = 12, 4
PROBE = LEAST - STRIDE + 1
_CANDIDATES = 16  # passages looked at for a probe
_CONTEXT = 24  # characters on each side of a probe that its candidates should share

assert PROBE <= OVERLAP


def verbatim_spans(text: str, index: TraceIndex) -> list[Span]:
    """The longest runs of `LEAST` characters or more that stand in training, none inside another, longest first."""
    found: dict[tuple[int, int], dict[int, None]] = {}  # records by (start, stop), in order
    widened: dict[tuple[int, int], int] = {}  # by record and shift between text and record: up to where in the text
    for at in range(0, len(text) - PROBE + 1, STRIDE):
        piece = text[at : at + PROBE]
        if sum(map(str.isalnum, piece)) <= PROBE // 2:  # rules and dots say nothing of where they come from
            continue
        near = text[max(0, at - _CONTEXT) : at + PROBE + _CONTEXT]
        for passage in index.holding(piece, near, _CANDIDATES):
            record, begin, end = index.place(passage)
            body = index.text(record)
            for place in _places(piece, body, begin, end + OVERLAP):
                if widened.get((record, place - at), 0) >= at + PROBE:
                    continue
                start = at - _common(text[:at][::-1], body[max(0, place - at) : place][::-1])
                stop = at + _common(text[at:], body[place : place + len(text) - at])
                widened[record, place - at] = stop
                start, stop = _without_blank_ends(text, start, stop)
                if stop - start >= LEAST:
                    found.setdefault((start, stop), {})[record] = None
    longest = sorted(found, key=lambda span: (span[0] - span[1], span[0]))
    kept: list[tuple[int, int]] = []
    for span in longest:
        if not any(start <= span[0] and span[1] <= stop for start, stop in kept):
            kept.append(span)
    return [
        Span(text[start:stop], tuple(map(index.origin, list(found[start, stop])[:MOST_ORIGINS])), start, stop)
        for start, stop in kept
    ]


def _places(piece: str, body: str, begin: int, end: int) -> Iterator[int]:
    """Where `piece` stands in ``body[begin:end]``."""
    place = body.find(piece, begin, end)
    while place >= 0:
        yield place
        place = body.find(piece, place + 1, end)


def _common(first: str, second: str) -> int:
    """Characters that both begin with."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))


def _without_blank_ends(text: str, start: int, stop: int) -> tuple[int, int]:
    inside = text[start:stop]
    return start + len(inside) - len(inside.lstrip()), stop - (len(inside) - len(inside.rstrip()))
