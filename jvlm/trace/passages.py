"""A text in passages of some 300 characters that end where sentences end."""

from collections.abc import Iterator

LENGTH = 300
"""Characters of a passage, at most, where its sentences allow."""
OVERLAP = 32
"""Characters of the following passage that keywords are looked for in as well."""
_ENDS = ("。", "\n", "！", "？", ". ")
_CLOSING = "」』）)”\"'"


def cut(text: str) -> Iterator[tuple[int, int]]:
    """(start, stop) of each passage; together they are the whole text, but for blank ends.

    A passage ends behind the last sentence that fits; a sentence that does not fit ends it, unless it is longer than
    two passages: then it is cut.
    """
    start = 0
    while len(text) - start > LENGTH + LENGTH // 2:  # no short rest
        stop = _behind_last(text, start + LENGTH // 2, start + LENGTH)
        stop = stop or _behind_first(text, start + LENGTH, start + 2 * LENGTH) or start + LENGTH
        while stop < len(text) and text[stop] in _CLOSING:
            stop += 1
        if text[start:stop].strip():
            yield start, stop
        start = stop
    if text[start:].strip():
        yield start, len(text)


def _behind_last(text: str, begin: int, end: int) -> int:
    """The place behind the last end of a sentence there; 0 where there is none."""
    return 1 + max(text.rfind(mark, begin, end) for mark in _ENDS)


def _behind_first(text: str, begin: int, end: int) -> int:
    found = [place for mark in _ENDS if (place := text.find(mark, begin, end)) >= 0]
    return 1 + min(found) if found else 0
