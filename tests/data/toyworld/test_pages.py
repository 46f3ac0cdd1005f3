"""Pages with pictures: text and pictures in turn, what is said of them true, and nothing that is held out."""

import json
import re
from collections import Counter
from itertools import pairwise

import pytest
from jvlm_data.toyworld.judge import caption_is_exact
from jvlm_data.toyworld.lexicon import ADJECTIVES, COLOUR_NOUNS, KANJI_NUMBERS
from jvlm_data.toyworld.pages import PICTURES, page
from jvlm_data.toyworld.scene import split_of
from jvlm_data.toyworld.world import HELD_OUT_PAIRS

from jvlm.images.load import load_image
from jvlm.sample import Sample

PAGES = [page(3, index, 32) for index in range(300)]
NUMBER = f"[{''.join(KANJI_NUMBERS)}]+"


def number(kanji: str) -> int:
    """From 一 to 十九."""
    return sum(map(KANJI_NUMBERS.index, kanji))


def parts(sample: Sample) -> tuple[list[str], list[int]]:
    content = sample.messages[0].content
    return [p for p in content if isinstance(p, str)], [p for p in content if isinstance(p, int)]


def test_a_page_is_a_pure_function_of_seed_and_index() -> None:
    def fingerprint(sample: Sample) -> tuple[str, list[bytes | None]]:
        return json.dumps(sample.to_record()), [image.data for image in sample.images]

    assert [fingerprint(page(3, index, 32)) for index in range(20)] == [fingerprint(p) for p in PAGES[:20]]
    assert all(fingerprint(page(4, index, 32)) != fingerprint(PAGES[index]) for index in range(20))
    assert [page(3, index, 48).messages for index in range(20)] == [p.messages for p in PAGES[:20]]
    assert load_image(page(3, 0, 48).images[0]).size == (48, 48)
    assert len({sample.id for sample in PAGES}) == len(PAGES)


def test_text_and_pictures_come_in_turn_and_text_comes_last() -> None:
    counts = Counter[int]()
    for sample in PAGES:
        assert [message.role for message in sample.messages] == ["document"]
        texts, pictures = parts(sample)
        assert pictures == list(range(len(sample.images)))
        content = sample.messages[0].content
        assert isinstance(content[0], str)
        assert isinstance(content[-1], str)
        assert not any(isinstance(a, int) and isinstance(b, int) for a, b in pairwise(content))
        counts[len(pictures)] += 1
        assert 60 < sum(map(len, texts)) < 600
    assert set(counts) == set(range(PICTURES[0], PICTURES[1] + 1))
    assert min(counts.values()) > 60


def test_what_stands_behind_a_picture_is_what_it_shows() -> None:
    for sample in PAGES:
        content = sample.messages[0].content
        for place, truth in enumerate(sample.meta["truths"]):
            behind = content[content.index(place) + 1]
            assert isinstance(behind, str)
            assert caption_is_exact(behind, truth), behind
            assert split_of(truth) == "train"


def test_what_a_page_says_at_its_end_is_true() -> None:
    said = Counter[str]()
    for sample in PAGES:
        truths = sample.meta["truths"]
        numbers = [len(truth) for truth in truths]
        last = parts(sample)[0][-1]
        if "合わせて" in last:
            found = [(number(a), number(b)) for a, b in re.findall(f"({NUMBER})枚目に({NUMBER})個", last)]
            assert found == list(enumerate(numbers, 1))
            assert number(re.findall(f"合わせて({NUMBER})個", last)[0]) == sum(numbers)
            said["sum"] += 1
        elif "いちばん" in last:
            most = [number(a) for a in re.findall(f"({NUMBER})枚目", last)]
            assert most == [place for place, n in enumerate(numbers, 1) if n == max(numbers)]
            assert number(re.findall(f"({NUMBER})個", last)[0]) == max(numbers)
            said["most"] += 1
        else:
            (place, colour, _), (end, other, _) = truths[0][0], truths[-1][-1]
            assert f"はじめの絵の{place}の図形は{COLOUR_NOUNS[colour]}、" in last
            assert f"おわりの絵の{end}の図形は{COLOUR_NOUNS[other]}で" in last
            said["first and last"] += 1
    assert min(said.values()) > 60


@pytest.mark.parametrize("pair", HELD_OUT_PAIRS, ids="".join)
def test_no_held_out_pair_is_named(pair: tuple[str, str]) -> None:
    text = "\n".join(sample.messages[0].text for sample in PAGES)
    assert ADJECTIVES[pair[0]] + pair[1] not in text
