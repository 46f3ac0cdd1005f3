"""The words a unigram vocabulary is pruned from, where no word may cross a boundary.

SentencePiece seeds with repeated strings that are followed by different characters. A word that always ends a run (a
kanji compound before a particle, a foreign name) is only ever followed by the boundary, so it is never a seed, and the
vocabulary fills with its fragments.
"""

from collections import Counter
from collections.abc import Iterable


def repeated_strings(runs: Iterable[str], longest: int) -> dict[str, int]:
    """How often each string of 2 to `longest` characters occurs in `runs`, of those that occur twice or more.

    A string that occurs only inside a longer one of them is left out.
    """
    counted = Counter(runs)
    characters: Counter[str] = Counter()
    for run, times in counted.items():
        for character in run:
            characters[character] += times
    found: dict[str, int] = {}
    shorter = {character: times for character, times in characters.items() if times > 1}
    for length in range(2, longest + 1):
        counted = Counter({run: times for run, times in counted.items() if len(run) >= length})
        level: Counter[str] = Counter()
        for run, times in counted.items():
            for start in range(len(run) - length + 1):
                string = run[start : start + length]
                if string[:-1] in shorter and string[1:] in shorter:  # a repeated string has repeated parts
                    level[string] += times
        repeated = {string: times for string, times in level.items() if times > 1}
        for string, times in repeated.items():
            for part in (string[:-1], string[1:]):
                if found.get(part) == times:
                    del found[part]
        found |= repeated
        shorter = repeated
    return found
