"""Licences: read from the words that really occur, joined so that the strictest wins, refused unless asked for."""

from functools import reduce
from itertools import combinations
from operator import or_

import pytest
import yaml

from jvlm.assets import asset
from jvlm.errors import UsageError
from jvlm.licences import PUBLIC, Part, Terms, joined, note, refuse, terms_of, written

NOTICE, NAME, ALIKE = Terms.NOTICE, Terms.NOTICE | Terms.NAME, Terms.NOTICE | Terms.NAME | Terms.ALIKE
NO_TRADE, NO_CHANGES = NAME | Terms.NO_TRADE, NAME | Terms.NO_CHANGES
WORDS = {
    "CC0 1.0 (VQA-RAD, OSF)": PUBLIC,
    "CC0 (ISIC 2017 challenge data are published under CC0; the copying repo states none)": PUBLIC,
    "Japanese statutes: not subject to copyright (Copyright Act art. 13); repo states no restriction": PUBLIC,
    "Public domain works only (Aozora Bunko; works with CC/other grants in the colophon left out)": PUBLIC,
    "MIT OR Apache-2.0": NOTICE,
    "PSF licence (po header: distributed under the same license as the Python package)": NOTICE,
    "images OFL 1.1/Apache 2.0 (Noto Emoji); names Unicode License v3 (CLDR ja)": NOTICE,
    "CC BY 4.0 (Microsoft docs)": NAME,
    "CC BY": NAME,
    "cc-by-4.0": NAME,
    "Public Data License 1.0 / CC BY 4.0 compatible (MHLW terms; the copying repo states none)": NAME,
    "CC BY-SA 4.0 (blog contents and the author's own photos, © Spiegel)": ALIKE,
    "CC-BY-SA-4.0 (before June 2023 3.0) and GFDL": ALIKE,
    "per image: CC BY 3.0/4.0, CC BY-SA, Apache 2.0": ALIKE,
    "CC BY-NC": NO_TRADE,
    "CC-BY-NC-SA-4.0": NO_TRADE | ALIKE,
    "cc by-nc-nd 4.0": NO_TRADE | NO_CHANGES,
    "for research only": NO_TRADE,
    "非商用に限る": NO_TRADE,
    "CC-BY-4.0; jmmlu_med CC-BY-SA-4.0; nrner and jcsts CC-BY-NC-SA-4.0": NO_TRADE | ALIKE,
    "CC-BY-NC-4.0, and OpenAI's terms of use (the conversations were generated with GPT-4)": NO_TRADE | Terms.UNKNOWN,
    "CC-BY-4.0 (captions); the images are Flickr users', under COCO's terms of use": NAME | Terms.UNKNOWN,
    "none stated; exam material": Terms.UNKNOWN,
    "NO-CC CODE": Terms.UNKNOWN,
    "gemma": Terms.UNKNOWN,
    "permitted": Terms.UNKNOWN,  # no MIT
    "closed": Terms.CLOSED,
    "社外秘": Terms.CLOSED,
    "": Terms.CLOSED,
    "  ": Terms.CLOSED,
}


@pytest.mark.parametrize("words", WORDS)
def test_words_are_understood(words: str) -> None:
    assert terms_of(words) == WORDS[words]


def test_every_source_of_the_real_recipe_is_open() -> None:
    """`make real` needs no setting: not one source is beyond what is allowed without asking."""
    sources = yaml.safe_load(asset("data", "real", "card.yaml").read_text(encoding="utf-8"))["sources"]
    parts = [Part(source["path"], source["licence"], 1, "documents") for source in sources]
    assert len(parts) > 50
    refuse(parts, "open")
    assert joined(parts) == ALIKE


def test_the_strictest_wins_in_any_order() -> None:
    order = ["CC0", "MIT", "CC-BY", "CC-BY-SA"]
    for one, other in combinations(range(len(order)), 2):
        for pair in ((one, other), (other, one)):
            parts = [Part("x", order[number], 1, "samples") for number in pair]
            assert joined(parts) == terms_of(order[other])
    mixed = [Part("x", words, 1, "samples") for words in ("CC-BY-NC", "closed", "MIT", "unknown")]
    assert joined(mixed) == joined(mixed[::-1]) == NO_TRADE | Terms.CLOSED | Terms.UNKNOWN
    assert joined([]) == PUBLIC


def test_what_is_written_is_read_back_as_the_same() -> None:
    """So nothing is lost on the way through any number of cards."""
    seen = set(WORDS.values())
    for size in range(1, 5):
        for some in combinations(seen, size):
            terms = reduce(or_, some)
            assert terms_of(written(terms)) == terms, written(terms)
    assert written(PUBLIC) == "cc0-1.0"
    assert written(NOTICE) == "apache-2.0"
    assert written(ALIKE) == "cc-by-sa-4.0"
    assert written(NO_TRADE | ALIKE) == "cc-by-nc-sa-4.0"
    assert written(NO_TRADE | Terms.CLOSED) == "closed, cc-by-nc-4.0"


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        ("MIT", ("open", "non_commercial", "unknown")),
        ("CC-BY-SA", ("open", "non_commercial", "unknown")),
        ("", ("open", "non_commercial", "unknown")),
        ("CC-BY-NC", ("non_commercial", "unknown")),
        ("CC-BY-ND", ("non_commercial", "unknown")),
        ("gemma", ("unknown",)),
        ("CC-BY-NC, OpenAI's terms of use", ("unknown",)),
    ],
)
def test_what_is_not_asked_for_is_refused(words: str, allowed: tuple[str, ...]) -> None:
    parts = [Part("good", "CC0", 3, "samples"), Part("that one", words, 3, "samples")]
    for setting in ("open", "non_commercial", "unknown"):
        if setting in allowed:
            refuse(parts, setting)
            continue
        with pytest.raises(UsageError, match="that one") as caught:
            refuse(parts, setting, where="stages.instruct")
        assert f"licences={allowed[0]}" in str(caught.value)
        assert "good" not in str(caught.value)


def test_sources_without_number_are_counted_together() -> None:
    origins: dict[str, dict[str, int]] = {}
    for number in range(3000):
        note(origins, f"source {number}", f"licence {number % 2}")
        note(origins, "one", f"licence {number}")
    assert sum(sum(of.values()) for of in origins.values()) == 6000
    assert len(origins) <= 1001
    assert len(origins["one"]) <= 1001
    assert joined([Part("x", words, 1, "samples") for words in origins["one"]]) == Terms.UNKNOWN
