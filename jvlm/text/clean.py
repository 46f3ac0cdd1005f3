"""One document in, its clean text and the list of what was taken out and why."""

from collections import Counter
from dataclasses import dataclass

from jvlm.text import rules
from jvlm.text.boilerplate import is_boilerplate
from jvlm.text.machine_made import is_machine_made
from jvlm.text.normalise import normalise

# Order matters: broken bytes look like symbols and like foreign text, so they are named first.
LINE_RULES: dict[str, rules.LineRule] = {
    "mojibake": rules.is_mojibake,
    "boilerplate": is_boilerplate,
    "symbol_garbage": rules.is_symbol_garbage,
    "stutter": rules.is_stutter,
    "machine_made": is_machine_made,
}
FOREIGN = "foreign_language"
DOCUMENT_RULES: dict[str, rules.DocumentRule] = {
    "symbol_garbage": rules.is_wordless,
    FOREIGN: rules.is_foreign,
}
REPEATED_LINE, TOO_SHORT = "repeated_line", "too_short"


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed: a line (`line`, 1-based) or, with `line` None, all that was left of the document."""

    reason: str
    text: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Cleaned:
    """`text` is None when nothing worth keeping is left."""

    text: str | None
    removals: list[Removal]


def clean(text: str, *, min_chars: int = 20, any_language: bool = False) -> Cleaned:
    """Normalise, drop bad lines, then judge what is left. Blank lines at the ends and runs of them are closed up.

    A document left with fewer than `min_chars` characters is dropped whole, under the reason that took most of it;
    so is a loop: one line said three times or more and nothing else, or over nine tenths of repeats.
    With `any_language` a document need not be Japanese.
    """
    kept: list[str] = []
    removals: list[Removal] = []
    seen: Counter[str] = Counter()
    previous: str | None = None
    for number, line in enumerate(normalise(text).split("\n"), 1):
        line, bare = line.rstrip(), line.strip()
        if not bare:
            if kept and kept[-1]:
                kept.append("")
            continue
        reason = _rule_against(bare) or (REPEATED_LINE if rules.is_repeat(bare, previous, seen) else None)
        if reason:
            removals.append(Removal(reason, line, number))
        else:
            kept.append(line)
        previous = bare
        seen[bare] += 1
    left = "\n".join(kept).strip("\n")
    verdict = _document_reason(left, removals, min_chars, any_language)
    if verdict:
        return Cleaned(None, [*removals, Removal(verdict, left)])
    return Cleaned(left, removals)


def line_reason(text: str) -> str | None:
    """Why a line of raw text would be removed whatever stands around it; None when it stays."""
    return _rule_against(normalise(text).strip())


def _rule_against(line: str) -> str | None:
    return next((reason for reason, rule in LINE_RULES.items() if rule(line)), None)


def _document_reason(left: str, removals: list[Removal], min_chars: int, any_language: bool) -> str | None:
    for reason, rule in DOCUMENT_RULES.items():
        if rule(left) and not (any_language and reason == FOREIGN):
            return reason
    characters: Counter[str] = Counter()
    for removal in removals:
        characters[removal.reason] += len(removal.text)
    if characters[REPEATED_LINE] > (9 if "\n" in left else 1.9) * len(left):
        return REPEATED_LINE
    if len(left) >= min_chars and left.strip():
        return None
    taken = characters.most_common(1)
    return taken[0][0] if taken and taken[0][1] > len(left) else TOO_SHORT
