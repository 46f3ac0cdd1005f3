"""Lines no one wrote as text: numbers in a row, hashes, dumps, packed code, repeated units, other scripts, word lists.

Each rule asks for a form that prose, clinical notes, tables and readable code do not have, whatever the words are.
"""

import re
from itertools import pairwise

from jvlm.text.rules import KANA, LETTERS, count

_INTEGER = re.compile("[0-9]{1,4}")
_HASH = re.compile(
    r"(?<![0-9A-Za-z])(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{32,}(?![0-9A-Za-z])"
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)
_PACKED = re.compile(r"[A-Za-z0-9+/_-]{64,}={0,2}")
_LONG_RUN = re.compile("[0-9A-Za-z+/_-]{32}")  # what the two above need
_DUMP = re.compile(r"(?:0x)?[0-9a-fA-F]{6,8}:?\s+(?:[0-9a-fA-F]{2,4}\s+){6,}")
_BYTES = re.compile(r"(?:0x[0-9a-f]{2}\s*,\s*){12,}|(?:\\x[0-9a-fA-F]{2}){6,}")
_ENTITY = re.compile(r"&(?:[a-z]{2,6}|#[0-9]{2,5});")
_PLACEHOLDER = re.compile(
    r"\{\{[^{}]*\}\}|%%[A-Z_]+%%|\[\[(?:ファイル|File|画像|Image|カテゴリ|Category):[^\]]*\]\]|\[/?caption[^\]]*\]"
)
_UNIT = re.compile(r"^(.{2,10}?)\1{7,}.{0,10}$")
_ORNAMENT = re.compile("^[□■★☆◆◇●○▼▲▽△♪♡♥▓▒░!！?？\\s]{12,}$")
_JAPANESE = re.compile("[ぁ-ヿ一-鿿]")
_OTHER_SCRIPT = re.compile("[가-힣\u0400-\u04ff\u0600-\u06ff\u0e00-\u0e7f\u0590-\u05ff\u0900-\u097f]")
_SENTENCE = re.compile("[、。，．「」,.()（）:：;]")


def is_machine_made(line: str) -> bool:
    """Whether any of the rules below holds."""
    return (
        is_count(line)
        or is_hash(line)
        or is_packed_code(line)
        or is_placeholder(line)
        or is_loop(line)
        or is_other_script(line)
        or is_word_list(line)
    )


def is_count(line: str) -> bool:
    """Eight whole numbers or more, each one more than the one before, and little else: a calendar, a row of pages."""
    numbers = _INTEGER.findall(line)
    if len(numbers) < 8 or sum(map(len, numbers)) * 4 < len("".join(line.split())):
        return False
    run = longest = 1
    for before, after in pairwise(map(int, numbers)):
        run = run + 1 if after == before + 1 else 1
        longest = max(longest, run)
    return longest >= 8


def is_hash(line: str) -> bool:
    """Two thirds of it or more are hashes, identifiers, dumped bytes or base64."""
    if _DUMP.match(line) or (("0x" in line or "\\x" in line) and _BYTES.search(line)):
        return True
    if not _LONG_RUN.search(line):
        return False
    packed = sum(len(found) for found in _PACKED.findall(line) if _looks_packed(found))
    return (packed + sum(map(len, _HASH.findall(line)))) * 3 >= 2 * len(line) > 0


def _looks_packed(word: str) -> bool:
    """Letters of both cases and digits mixed, or one character over and over: no path and no long name."""
    mixed = re.search("[a-z]", word) and re.search("[A-Z]", word) and re.search("[0-9]", word)
    return (bool(mixed) and word.count("_") + word.count("-") < 4) or len(set(word)) <= 3


def is_packed_code(line: str) -> bool:
    """150 characters or more of code without room to breathe."""
    return (
        len(line) >= 150
        and line.count(" ") * 20 < len(line)
        and sum(line.count(mark) for mark in "(){};,=") * 6 >= len(line)
        and not _JAPANESE.search(line)
    )


def is_placeholder(line: str) -> bool:
    """A template that was never filled in, or what a page's markup left behind."""
    marks = sum(len(found) for found in _PLACEHOLDER.findall(line))
    return marks * 3 >= len(line) > 0 or len(_ENTITY.findall(line)) >= 3


def is_loop(line: str) -> bool:
    """A unit of two to ten characters eight times or more and nothing else, or a wall of ornaments."""
    bare = line.strip()
    if _ORNAMENT.match(bare):
        return True
    match = _UNIT.match(bare)
    return len(bare) >= 24 and match is not None and len(set(match[1])) > 1


def is_other_script(line: str) -> bool:
    """Hangul, Cyrillic, Arabic, Thai, Hebrew or Devanagari: half of its letters or more, six at least, and no kana."""
    found = len(_OTHER_SCRIPT.findall(line))
    return found >= 6 and found * 2 >= count(LETTERS, line) and not KANA.search(line)


def is_word_list(line: str) -> bool:
    """Nine Japanese words or more between single spaces, no sentence among them, some said again: search bait."""
    words = line.split(" ")
    if len(words) < 9 or _SENTENCE.search(line):
        return False
    japanese = [word for word in words if _JAPANESE.search(word)]
    return len(japanese) * 10 >= len(words) * 8 and len(set(words)) < len(words)
