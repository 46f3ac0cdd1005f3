"""Splits by content, and what keeps one content out of two of them."""

import hashlib
from collections import Counter

import pytest
from jvlm_data.splits import HeldOut, split_of, text_hash


def test_a_split_depends_on_the_content_alone_and_shares_are_kept():
    hashes = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(20_000)]
    counts = Counter(map(split_of, hashes))
    assert counts["test"] == pytest.approx(200, abs=60)
    assert counts["val"] == pytest.approx(200, abs=60)
    assert list(map(split_of, hashes[:50])) == list(map(split_of, hashes))[:50]


def test_the_rule_is_the_one_that_the_cards_print():
    def place(share):
        return f"{int(share * 2**64):016x}".ljust(64, "f")

    assert [split_of(place(share)) for share in (0, 0.0099, 0.0101, 0.0199, 0.0201, 0.999)] == [
        *("test", "test", "val", "val", "train", "train")
    ]
    assert split_of("0" * 64, {"val": 0.5}) == "val"
    assert split_of("9" + "0" * 63, {"val": 0.5}) == "train"


def test_width_and_spaces_make_no_other_text():
    assert text_hash("ＡＢＣ　の 絵\n") == text_hash("ABCの絵")
    assert text_hash("赤い丸") != text_hash("青い丸")


def test_the_more_protected_split_keeps_a_content():
    a, b, c = (hashlib.sha256(name).hexdigest() for name in (b"a", b"b", b"c"))
    held_out = HeldOut()
    for split, keys in (("train", [a, b]), ("test", [a, c]), ("val", [a])):
        held_out.add(split, keys)
    assert held_out.clash("train", [b]) is None
    assert held_out.clash("train", [b, a]) == "test"
    assert held_out.clash("val", [a]) == "test"
    assert held_out.clash("test", [a]) is None
    assert held_out.clash("train", [c]) == "test"
