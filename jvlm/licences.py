"""What may be done with data, models and what comes of them: terms read from words, and joined.

Terms are a set of duties. What comes of several things owes the duties of all, so joining is a union and the strictest
wins, whatever the order: public domain < notice (MIT, Apache-2.0) < CC-BY < CC-BY-SA, and to any of them no trade (NC,
research only), no changes (ND), unknown and closed may be added. What nobody has said anything of is taken for the
user's own: closed, which may be trained on, and whose result is not to be given away.

Words are recognised, nothing is judged: this is a safeguard against oversight, no legal advice.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Flag, auto
from functools import reduce
from operator import or_
from typing import Literal

from jvlm.errors import UsageError

Allowed = Literal["open", "non_commercial", "unknown"]
Unit = Literal["documents", "samples", "model"]


class Terms(Flag):
    """Duties of who uses something, or gives away what comes of it; none is the public domain."""

    NOTICE = auto()
    """Keep the notice that came with it: MIT, Apache-2.0, BSD."""
    NAME = auto()
    """Name who made it: CC-BY."""
    ALIKE = auto()
    """Give what comes of it away under the same terms: CC-BY-SA."""
    NO_TRADE = auto()
    """Not for commercial purposes, or for research alone: CC-BY-NC."""
    NO_CHANGES = auto()
    """What comes of it is not to be given away: CC-BY-ND."""
    UNKNOWN = auto()
    """Nobody has said it clearly: nothing is allowed that was not asked for."""
    CLOSED = auto()
    """The user's own: used by the user, given away by nobody."""


PUBLIC = Terms(0)
_NAMED = Terms.NAME | Terms.NOTICE
_CREATIVE_COMMONS = re.compile(r"\bcc[ -]?by(?P<marks>(?:[ -](?:nc|nd|sa)\b)*)", re.I)
_MARKS = {"nc": Terms.NO_TRADE, "nd": Terms.NO_CHANGES, "sa": Terms.ALIKE}
_WORDS: tuple[tuple[str, Terms], ...] = (
    (r"\bcc0\b|public domain|not subject to copyright|\bunlicense\b|\bwtfpl\b|パブリックドメイン", PUBLIC),
    (r"\bmit\b|\bapache\b|\bbsd\b|\bisc\b|\bpsf\b|\bofl\b|unicode licen[cs]e|\bzlib\b", Terms.NOTICE),
    (r"public data licen[cs]e|\bodc-by\b|政府標準利用規約", _NAMED),
    (r"\b[al]?gpl|\bgfdl\b|\bmpl\b|\bodbl\b|share-?alike", _NAMED | Terms.ALIKE),
    (r"non-?commercial|research[- ]only|for research|evaluation only|非商用|研究目的", _NAMED | Terms.NO_TRADE),
    (r"no-?deriv", _NAMED | Terms.NO_CHANGES),
    (r"\bunknown\b|\bnone (?:stated|given)\b|terms of use|^by (?:figure|part)\b|^of each\b|^other$", Terms.UNKNOWN),
    (r"\bclosed\b|\bconfidential\b|非公開|社外秘", Terms.CLOSED),
)
_DIFFERENT = 1000
_RULES = [(re.compile(pattern, re.I), terms) for pattern, terms in _WORDS]


@dataclass(frozen=True)
class Part:
    """Something that a model was made of."""

    name: str
    """Of the source, the set, or the model it began as."""
    licence: str
    """As its giver wrote it; empty where nothing is said."""
    amount: int
    """Documents or samples; 0 for a model."""
    unit: Unit


def note(origins: dict[str, dict[str, int]], source: str, licence: str) -> None:
    """Count one more of this source and licence. Of too many different ones the rest are counted together."""
    of = origins.setdefault(source if source in origins or len(origins) < _DIFFERENT else "others", {})
    licence = licence if licence in of or len(of) < _DIFFERENT else "unknown"
    of[licence] = of.get(licence, 0) + 1


def terms_of(words: str) -> Terms:
    """The terms that these words name, all of them together; closed where there are no words, unknown where none is
    understood."""
    words = words.strip()
    if not words:
        return Terms.CLOSED
    found = [terms for pattern, terms in _RULES if pattern.search(words)]
    for match in _CREATIVE_COMMONS.finditer(words):
        marks = re.findall("nc|nd|sa", match["marks"].lower())
        found.append(reduce(or_, (_MARKS[mark] for mark in marks), _NAMED))
    return reduce(or_, found) if found else Terms.UNKNOWN


def joined(parts: Iterable[Part]) -> Terms:
    """The terms of what comes of all these."""
    return reduce(or_, (terms_of(part.licence) for part in parts), PUBLIC)


def written(terms: Terms) -> str:
    """Terms in words that `terms_of` reads back as the same: Hugging Face's names of licences, «closed», «unknown»."""
    found = [word for term, word in ((Terms.CLOSED, "closed"), (Terms.UNKNOWN, "unknown")) if term in terms]
    if Terms.NO_TRADE in terms or Terms.NO_CHANGES in terms:
        trade = "-nc" if Terms.NO_TRADE in terms else ""
        if Terms.NO_CHANGES in terms and Terms.ALIKE in terms:  # no licence of theirs is both
            found.append("cc-by-sa-4.0")
        changes = "-nd" if Terms.NO_CHANGES in terms else "-sa" if Terms.ALIKE in terms else ""
        found.append(f"cc-by{trade}{changes}-4.0")
    elif Terms.ALIKE in terms:
        found.append("cc-by-sa-4.0")
    elif Terms.NAME in terms:
        found.append("cc-by-4.0")
    elif Terms.NOTICE in terms:
        found.append("apache-2.0")
    return ", ".join(found) or "cc0-1.0"


def refuse(parts: Iterable[Part], allowed: Allowed, where: object = None) -> None:
    """Raise UsageError that names every part whose terms go beyond what is `allowed` to be trained on."""
    faults = [part for part in parts if _beyond(terms_of(part.licence), allowed)]
    if not faults:
        return
    needed = "unknown" if any(Terms.UNKNOWN in terms_of(part.licence) for part in faults) else "non_commercial"
    listed = "; ".join(f"{part.name}: {part.licence}" for part in faults[:5])
    more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
    kind = "whose licence is not clear, or not for commercial use" if needed == "unknown" else "not for commercial use"
    fix = f"leave it out, or set licences={needed} and what comes of it is bound by that"
    raise UsageError(f"it would be trained on what is {kind}: {listed}{more}", where=where, fix=fix)


def _beyond(terms: Terms, allowed: Allowed) -> bool:
    if Terms.UNKNOWN in terms:
        return allowed != "unknown"
    return allowed == "open" and bool(terms & (Terms.NO_TRADE | Terms.NO_CHANGES))
