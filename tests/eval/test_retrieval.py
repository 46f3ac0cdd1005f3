from itertools import combinations

import numpy as np
import pytest

from jvlm.errors import DataError
from jvlm.eval.retrieval import retrieval_within_source, source_only_over_chance

RNG = np.random.default_rng(0)


def pairs(n: int, dim: int = 32) -> tuple[np.ndarray, list[str]]:
    return RNG.normal(size=(n, dim)), [f"説明{i}" for i in range(n)]


def test_by_hand_with_a_duplicate_caption():
    """Three images, two captions, k = 1: images 0 and 1 share 甲, image 2 is nearer to 甲 than to its own 乙."""
    images = np.array([[1.0, 0.0], [0.9, 0.1], [0.8, 0.6]])
    texts = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = retrieval_within_source(images, texts, ["甲", "甲", "乙"], ["s"] * 3, k=1, min_pairs=3)["sources"]["s"]
    # images: 甲 right, 甲 right, 乙 wrong (0.8 to 甲, 0.6 to 乙); captions: 甲 finds image 0, 乙 finds image 2
    assert found["r_at_k"] == pytest.approx(4 / 5)
    # each image: 1 of 2 captions; 甲: 2 of 3 images, 乙: 1 of 3
    assert found["chance"] == pytest.approx((3 * 1 / 2 + 2 / 3 + 1 / 3) / 5)
    assert (found["n"], found["captions"]) == (5, 2)


def test_chance_of_a_caption_with_several_images_is_that_of_drawing_without_looking():
    images, captions = pairs(8)
    captions = ["三枚"] * 3 + captions[3:]
    found = retrieval_within_source(images, images, captions, ["s"] * 8, k=2, min_pairs=8)["sources"]["s"]
    draws = list(combinations(range(8), 2))
    triple = sum(any(i < 3 for i in drawn) for drawn in draws) / len(draws)
    assert found["chance"] == pytest.approx((8 * 2 / 6 + triple + 5 * 2 / 8) / 14)


def test_knowing_only_the_source_gives_nothing():
    """Features that name the source and nothing else: perfect in a mixed gallery, chance here."""
    images, captions = pairs(240)
    sources = ["a"] * 120 + ["b"] * 120
    mark = np.zeros((240, 32))
    mark[:120, 0] = mark[120:, 1] = 100.0
    blind = retrieval_within_source(images + mark, RNG.normal(size=images.shape) + mark, captions, sources)
    assert blind["over_chance"] == pytest.approx(1.0, abs=0.45)
    assert blind["interval"][0] < 1 < blind["interval"][1]
    seeing = retrieval_within_source(images + mark, images + mark, captions, sources)
    assert seeing["over_chance"] == pytest.approx(12.0)  # 120 captions, k = 10


def test_constant_features_find_nothing_and_small_sources_are_left_out():
    images, captions = pairs(130)
    sources = ["large"] * 60 + ["small"] * 49 + ["same words"] * 21
    found = retrieval_within_source(images, np.ones_like(images), captions, sources)
    assert found["left_out"] == {"small": 49, "same words": 21}
    assert found["sources"]["large"]["r_at_k"] < 0.5
    assert retrieval_within_source(np.ones((60, 2)), np.ones((60, 2)), captions[:60], ["s"] * 60)["over_chance"] == 0
    repeated = ["同じ"] * 60
    with pytest.raises(DataError, match="no source has 50 pairs"):
        retrieval_within_source(images[:60], images[:60], repeated, ["s"] * 60)


def test_the_interval_redraws_captions_with_their_images():
    """Two captions of two images each, one found in all its queries, the other in none: 0, 1/2 or 1 is drawn."""
    images = np.array([[1.0, 0, 0], [1.0, 0, 0], [0.9, 0, 0.4], [0.9, 0, 0.4]])
    texts = np.array([[1.0, 0, 0], [1.0, 0, 0], [0.95, 0, -0.3], [0.95, 0, -0.3]])
    found = retrieval_within_source(images, texts, ["甲", "甲", "乙", "乙"], ["s"] * 4, k=1, min_pairs=4)
    assert found["sources"]["s"]["r_at_k"] == pytest.approx(3 / 6)
    chance = (4 * 1 / 2 + 2 * 2 / 4) / 6
    assert found["interval"] == pytest.approx([0, 1 / chance])


def test_features_that_are_no_numbers_are_refused():
    images, captions = pairs(60)
    with pytest.raises(DataError, match="not a number"):
        retrieval_within_source(np.full_like(images, np.nan), images, captions, ["s"] * 60)


def test_the_source_alone_by_hand():
    """Two sources of 20 and 80 pairs: 10 of 20 and 10 of 80, where chance is 10 of 100."""
    assert source_only_over_chance(["a"] * 20 + ["b"] * 80) == pytest.approx((0.2 * 0.5 + 0.8 * 0.125) / 0.1)
    assert source_only_over_chance(["a"] * 50) == 1.0
    assert source_only_over_chance(["a"] * 5 + ["b"] * 45) == pytest.approx((0.1 * 1 + 0.9 * 10 / 45) / 0.2)
