from collections import Counter

import numpy as np
import pytest
from jvlm_data.toyworld.scene import SPLITS, Thing, canonical, sample_scene, sample_split_scene, split_of
from jvlm_data.toyworld.world import (
    ALL_PAIRS,
    COLOURS,
    HELD_OUT_PAIRS,
    POSITIONS,
    SHAPES,
    SIGN_CHARACTERS,
    SIZES,
    TEXTURES,
    TRAIN_PAIRS,
)

from jvlm.errors import UsageError


def test_held_out_table() -> None:
    assert len(set(HELD_OUT_PAIRS)) == 12
    assert set(TRAIN_PAIRS) | set(HELD_OUT_PAIRS) == set(ALL_PAIRS)
    for colour in COLOURS:
        assert 1 <= sum(pair[0] == colour for pair in HELD_OUT_PAIRS) <= 2
    for shape in SHAPES:
        assert 1 <= sum(pair[1] == shape for pair in HELD_OUT_PAIRS) <= 2


@pytest.mark.parametrize("split", SPLITS)
def test_scenes_obey_the_world_and_their_split(split: str) -> None:
    rng = np.random.default_rng(1)
    for index in range(300):
        scene = sample_split_scene(rng, split, sign=index % 2 == 0)
        cells = [POSITIONS.index(thing.position) for thing in scene.things]
        assert cells == sorted(set(cells))
        assert len(scene.pairs) == len(scene.things) in (1, 2, 3)
        assert {t.size for t in scene.things} <= set(SIZES)
        assert {t.texture for t in scene.things} <= set(TEXTURES)
        assert split_of(scene.truth) == split
        assert bool(scene.pairs & set(HELD_OUT_PAIRS)) == (split == "compositional")
        assert (scene.sign is not None) == (index % 2 == 0)
        if scene.sign is not None:
            assert 1 <= len(scene.sign) <= 4
            assert set(scene.sign) <= set(SIGN_CHARACTERS)
            assert scene.sign_row not in {thing.row for thing in scene.things}


def test_no_truth_is_shared_between_splits() -> None:
    rng = np.random.default_rng(2)
    truths = {split: {canonical(sample_split_scene(rng, split).truth) for _ in range(500)} for split in SPLITS}
    for split in SPLITS:
        for other in SPLITS:
            assert split == other or not truths[split] & truths[other]


def test_counts_are_uniform_and_every_word_is_drawn() -> None:
    rng = np.random.default_rng(3)
    scenes = [sample_split_scene(rng, "test") for _ in range(1500)]
    counts = Counter(len(scene.things) for scene in scenes)
    assert all(abs(counts[number] - 500) < 75 for number in (1, 2, 3))
    assert {thing.position for scene in scenes for thing in scene.things} == set(POSITIONS)
    assert {pair for scene in scenes for pair in scene.pairs} == set(TRAIN_PAIRS)
    compositional = [sample_split_scene(rng, "compositional") for _ in range(300)]
    assert {p for scene in compositional for p in scene.pairs if p in HELD_OUT_PAIRS} == set(HELD_OUT_PAIRS)


def test_same_generator_state_same_scene() -> None:
    assert sample_scene(np.random.default_rng(4)) == sample_scene(np.random.default_rng(4))
    assert sample_scene(np.random.default_rng(4)) != sample_scene(np.random.default_rng(5))


def test_split_is_a_property_of_the_set_not_of_its_order() -> None:
    truth = [("左上", "赤", "丸"), ("右", "青", "星")]
    assert canonical(truth) == canonical(truth[::-1]) == "左上/赤/丸|右/青/星"
    assert split_of(truth) == split_of(truth[::-1])


def test_unknown_split() -> None:
    with pytest.raises(UsageError, match="unknown split 'dev'"):
        sample_split_scene(np.random.default_rng(0), "dev")


def test_rows_and_columns() -> None:
    thing = Thing("右下", "赤", "丸", "大", "無地")
    assert (thing.row, thing.column) == (2, 2)
