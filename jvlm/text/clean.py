"""One document in, its clean text and the list of what was taken out and why.

Which rules apply is a profile's business. `general` is Japanese prose, notes and pages; `medical` the same, but a chart
may say a line again and a laboratory report may be all numbers; `code` keeps lines, their indentation and blank lines,
and asks no language; `parallel` takes a document of Japanese and English lines whole or not at all.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from jvlm.text import rules
from jvlm.text.boilerplate import is_boilerplate
from jvlm.text.machine_made import is_machine_made
from jvlm.text.normalise import normalise

ProfileName = Literal["general", "medical", "code", "parallel"]
FOREIGN = "foreign_language"
REPEATED_LINE, TOO_SHORT = "repeated_line", "too_short"


@dataclass(frozen=True, slots=True)
class Profile:
    """The rules of a kind of text. Their order matters: the first that says yes names the reason.

    Broken bytes look like symbols and like foreign text, so they come first.
    """

    normalise: Callable[[str], str]
    line_rules: Mapping[str, rules.LineRule]
    document_rules: Mapping[str, rules.DocumentRule]
    as_laid_out: bool = False
    """Keep runs of blank lines."""
    repeats: bool = False
    """Keep repeated lines."""
    whole: bool = False
    """A bad line takes the document with it."""


def line_feeds(text: str) -> str:
    """CRLF and CR → LF, and nothing else."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


_LINES = {
    "mojibake": rules.is_mojibake,
    "boilerplate": is_boilerplate,
    "symbol_garbage": rules.is_symbol_garbage,
    "stutter": rules.is_stutter,
    "machine_made": is_machine_made,
}
PROFILES: dict[ProfileName, Profile] = {
    "general": Profile(normalise, _LINES, {"symbol_garbage": rules.is_wordless, FOREIGN: rules.is_foreign}),
    "medical": Profile(normalise, _LINES, {FOREIGN: rules.is_foreign}, repeats=True),
    "code": Profile(
        line_feeds,
        {"mojibake": rules.is_mojibake},
        {"machine_made": rules.is_machine_code},
        as_laid_out=True,
        repeats=True,
    ),
    "parallel": Profile(normalise, _LINES, {"not_parallel": rules.is_not_parallel}, whole=True),
}


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


def clean(text: str, *, min_chars: int = 20, any_language: bool = False, profile: ProfileName = "general") -> Cleaned:
    """Normalise, drop bad lines, then judge what is left. Blank lines at the ends and runs of them are closed up.

    A document left with fewer than `min_chars` characters is dropped whole, under the reason that took most of it;
    so is a loop: one line said three times or more and nothing else, or over nine tenths of repeats.
    With `any_language` a document need not be Japanese.
    """
    chosen = PROFILES[profile]
    kept: list[str] = []
    removals: list[Removal] = []
    seen: Counter[str] = Counter()
    previous: str | None = None
    for number, line in enumerate(chosen.normalise(text).split("\n"), 1):
        line, bare = line.rstrip(), line.strip()
        if not bare:
            if kept and (kept[-1] or chosen.as_laid_out):
                kept.append("")
            continue
        reason = _rule_against(bare, chosen.line_rules)
        if reason is None and not chosen.repeats and rules.is_repeat(bare, previous, seen):
            reason = REPEATED_LINE
        if reason:
            removals.append(Removal(reason, line, number))
        else:
            kept.append(line)
        previous = bare
        seen[bare] += 1
    left = "\n".join(kept).strip("\n")
    verdict = _document_reason(left, removals, min_chars, any_language, chosen)
    if verdict:
        return Cleaned(None, [*removals, Removal(verdict, left)])
    return Cleaned(left, removals)


def line_reason(text: str, profile: ProfileName = "general") -> str | None:
    """Why a line of raw text would be removed whatever stands around it; None when it stays."""
    chosen = PROFILES[profile]
    return _rule_against(chosen.normalise(text).strip(), chosen.line_rules)


def _rule_against(line: str, line_rules: Mapping[str, rules.LineRule]) -> str | None:
    return next((reason for reason, rule in line_rules.items() if rule(line)), None)


def _document_reason(
    left: str, removals: list[Removal], min_chars: int, any_language: bool, profile: Profile
) -> str | None:
    if profile.whole and removals:
        return removals[0].reason
    for reason, rule in profile.document_rules.items():
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
