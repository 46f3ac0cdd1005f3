"""Text that is given out while tokens come: it is never taken back, and it adds up."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jvlm.infer.pieces import Pieces

TEXTS = ["赤い丸が左上にあります。", "𠮷野家で🍣を食べる", "a b  c\n\n終わり", "▁と�と鱻"]


def give(tokenizer, ids, stop=()):
    """The pieces of these tokens and the Pieces that gave them."""
    pieces, out = Pieces(tokenizer, stop), []
    for token in ids:
        out.append(pieces.add(token))
        if pieces.stopped:
            break
    return [*out, pieces.end()], pieces


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_whole_characters_and_add_up(tokenizer, text):
    ids = tokenizer.encode(text)
    out, pieces = give(tokenizer, ids)
    assert "".join(out) == pieces.text == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in out)
    assert any(token in tokenizer.byte_ids for token in ids) or sum(map(bool, out)) > 3


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**9), stop=st.lists(st.sampled_from(["。", "ます", "が左", "\ufffd", "ああ"]), max_size=1))
def test_what_was_given_out_is_never_taken_back(tokenizer, seed, stop):
    """Any tokens, bytes that are no text among them; whatever comes next, the answer begins with what is out."""
    draw = random.Random(seed)
    usual, odd = tokenizer.encode("赤い丸が左上にあります。ああ"), [*tokenizer.byte_ids]
    ids = [draw.choice(usual if draw.random() < 0.6 else odd) for _ in range(draw.randrange(1, 12))]
    ids += [0, *usual] if draw.random() < 0.5 else []
    out, pieces = give(tokenizer, ids, stop)
    whole = tokenizer.decode(ids)
    cut = min((whole.find(mark) for mark in stop if mark in whole), default=len(whole))
    assert "".join(out) == pieces.text == whole[:cut]
    assert pieces.stopped == (cut < len(whole))


def test_text_that_a_stop_text_may_swallow_is_held_back(tokenizer):
    ids = [token for letter in "赤いabcd" for token in tokenizer.encode(letter)]
    out, pieces = give(tokenizer, ids, ("abcx", "bcz"))
    assert pieces.text == "赤いabcd"
    assert not pieces.stopped
    seen = ""
    for piece in out:
        seen += piece
        assert not seen.endswith(("a", "ab", "abc"))
    out, pieces = give(tokenizer, ids, ("い", "abcx"))
    assert ("".join(out), pieces.stopped) == ("赤", True)
