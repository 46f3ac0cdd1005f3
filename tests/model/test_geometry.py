"""How many tiles a picture has and how many tokens it takes: 10,000 random sizes and settings, and other programs."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SIDE, VISION, encoded_image
from transformers.image_processing_utils import select_best_resolution

from jvlm.model.config import ProjectorConfig, TilesConfig, VisionConfig
from jvlm.model.geometry import WHOLE, Grid, grid_for, grids_for, image_tokens
from jvlm.model.processor import Processor
from jvlm.model.projector import build_projector
from jvlm.sample import ImageRef, Message, Sample

CASES = 10_000


def random_size(rng, most=3000):
    """Thin strips, squares, tiny and large ones."""
    return tuple(int(n) for n in np.exp(rng.uniform(0, np.log(most), 2)).round().astype(int) + rng.integers(0, 2, 2))


def scale_of(size, width, height):
    """The scale at which a picture is shown in `width` × `height`, at most 1."""
    return min(Fraction(width, size[0]), Fraction(height, size[1]), Fraction(1))


def test_a_grid_keeps_the_most_and_then_wastes_the_least():
    rng = np.random.default_rng(0)
    chosen = set()
    for _ in range(CASES):
        size, side, budget = random_size(rng), int(rng.integers(8, 400)), int(rng.integers(0, 13))
        grid = grid_for(size, side, budget)
        assert grid.tiles <= budget
        assert grid.views == 1 + grid.rows * grid.columns
        assert (grid.rows == 0) == (grid.columns == 0)
        assert grid.tiles != 1
        if max(size) <= side or budget < 2:
            assert grid == WHOLE
            continue
        rows, columns = grid if grid.tiles else (1, 1)
        ours = (scale_of(size, columns * side, rows * side), -rows * columns)
        for r in range(1, budget + 1):
            for c in range(1, budget // r + 1):
                assert (scale_of(size, c * side, r * side), -r * c) <= ours
        turned = grid_for(size[::-1], side, budget)
        assert turned == grid[::-1] or size[0] == size[1]
        assert columns >= rows or size[0] <= size[1]
        # no tile is all margin: the picture reaches into the outermost ones
        scale = min(Fraction(columns * side, size[0]), Fraction(rows * side, size[1]))
        assert size[0] * scale > (columns - 2) * side
        assert size[1] * scale > (rows - 2) * side
        chosen.add(grid)
    assert len(chosen) > 30


def test_it_is_the_best_resolution_of_llava_next():
    """transformers rounds down to whole pixels, so it may take another one that shows no more than a line less."""
    rng = np.random.default_rng(1)
    other = 0
    for _ in range(2000):
        size, side, budget = random_size(rng), int(rng.integers(100, 400)), int(rng.integers(2, 10))
        if max(size) <= side or min(size) < 20:
            continue
        sizes = [[r * side, c * side] for r in range(1, budget + 1) for c in range(1, budget // r + 1)]
        height, width = select_best_resolution(size[::-1], sizes)
        theirs = Grid(height // side, width // side)
        ours = grid_for(size, side, budget)
        if (ours if ours.tiles else Grid(1, 1)) != theirs:
            other += 1
            mine = scale_of(size, max(1, ours.columns) * side, max(1, ours.rows) * side)
            assert mine >= scale_of(size, width, height)
    assert other < 200


def test_images_of_a_sample_share_its_budget_alike():
    rng = np.random.default_rng(2)
    shared = 0
    for _ in range(3000):
        sizes = [random_size(rng, 500) if rng.random() < 0.9 else None for _ in range(int(rng.integers(0, 7)))]
        tiles = TilesConfig(per_image=int(rng.integers(0, 8)), per_sample=int(rng.integers(0, 20)))
        grids = grids_for(sizes, SIDE, tiles)
        assert grids == grids_for(sizes, SIDE, tiles)
        assert sum(grid.tiles for grid in grids) <= tiles.per_sample
        assert all(grid == WHOLE for grid, size in zip(grids, sizes, strict=True) if size is None)
        order = rng.permutation(len(sizes))
        assert grids_for([sizes[i] for i in order], SIDE, tiles) == [grids[i] for i in order]
        budgets = [
            [WHOLE if size is None else grid_for(size, SIDE, budget) for size in sizes]
            for budget in range(tiles.per_image + 1)
        ]
        counts = [sum(grid.tiles for grid in found) for found in budgets]
        assert counts == sorted(counts)
        best = max(budget for budget, count in enumerate(counts) if count <= tiles.per_sample)
        assert grids == budgets[best]
        shared += 0 < best < tiles.per_image
        assert grids_for(sizes, SIDE, tiles.model_copy(update={"per_sample": None})) == budgets[-1]
    assert shared > 300


def test_frames_of_a_film_are_shown_alike():
    film = [(1920, 1080)] * 8
    assert grids_for(film, 336, TilesConfig(per_image=6, per_sample=16)) == [Grid(1, 2)] * 8
    assert grids_for(film, 336, TilesConfig(per_image=6, per_sample=15)) == [WHOLE] * 8
    assert grids_for(film[:1], 336, TilesConfig(per_image=6, per_sample=15)) == [Grid(2, 3)]


# --- tokens ------------------------------------------------------------------------------------------------------

KINDS = [
    (ProjectorConfig(kind="linear"), lambda grid: grid**2),
    (ProjectorConfig(kind="mlp"), lambda grid: grid**2),
    (ProjectorConfig(shuffle=2), lambda grid: (grid // 2) ** 2),
    (ProjectorConfig(shuffle=1), lambda grid: grid**2),
    (ProjectorConfig(kind="resampler", queries=3), lambda grid: 3),
]


def parsed(ids, processor):
    """Views of each image, row by row, read back from the ids: [[[whole], [tile, tile], …], …] of numbers of tokens."""
    marks, number = processor.image_ids, processor.num_image_tokens
    images, run = [], 0
    for token in ids:
        if token == marks.image:
            run += 1
            continue
        if token == marks.start:
            assert run == 0
            images.append([])
        elif token in (marks.row, marks.end):
            assert run % number == 0
            images[-1].append(run // number)
        else:
            assert run == 0
        run = 0
    for rows in images:  # the whole view stands before the first tile without a mark of its own
        if len(rows) == 1:
            assert rows == [1]
        else:
            assert rows.pop() == 0
            rows[0] -= 1
    return [Grid(len(rows), rows[0]) if rows != [1] else WHOLE for rows in images if len(set(rows)) == 1]


def test_image_tokens_are_features_for_10_000_sizes_and_settings(tokenizer):
    """Tokens are views times what the projector gives of one, and pixels are as many views."""
    rng = np.random.default_rng(3)
    settings, seen, limited = CASES // 50, set(), 0
    text = 3 + len(tokenizer.encode("丸"))  # <s>, <|user|>, <|end|>
    for setting in range(settings):
        config, tokens = KINDS[setting % len(KINDS)]
        patch, blocks = int(rng.choice([4, 7, 8])), int(rng.integers(1, 3))
        vision = VisionConfig(image_size=2 * patch * blocks, patch_size=patch, width=16)
        tiles = TilesConfig(
            per_image=int(rng.integers(0, 10)), per_sample=[None, int(rng.integers(0, 20))][int(rng.integers(2))]
        )
        processor = Processor(tokenizer, vision, config, tiles)
        assert processor.num_image_tokens == tokens(vision.grid)
        with torch.no_grad():
            features = build_projector(config, vision, 8)(torch.zeros(1, vision.grid**2, vision.feature_width))
        assert features.shape == (1, processor.num_image_tokens, 8)
        for case in range(50):
            number = int(rng.integers(1, 4))
            sizes = [random_size(rng, 120) for _ in range(number)]
            messages = [Message("user", [*range(number), "丸"])]
            sample = Sample("x", messages, [ImageRef(size=size) for size in sizes])
            free = processor.encode_sample(sample)
            room = int(rng.integers(len(free.ids) // 2, len(free.ids) + 2)) if rng.random() < 0.3 else None
            encoded = processor.encode_sample(sample, room)
            assert encoded.ids.count(processor.image_token) == encoded.views * features.shape[1]
            assert encoded.ids.count(processor.image_ids.row) == sum(grid.rows for grid in encoded.grids)
            assert encoded.grids == parsed(encoded.ids, processor)
            assert len(encoded.ids) == text + sum(image_tokens(features.shape[1], g) for g in encoded.grids)
            assert not any(encoded.trained)
            if room is not None and len(free.ids) > room:
                assert len(encoded.ids) <= room or set(encoded.grids) == {WHOLE}
                limited += encoded.grids != free.grids
            if case < 2:
                shown = [processor.pixels(Image.new("RGB", s), g) for s, g in zip(sizes, encoded.grids, strict=True)]
                assert sum(map(len, shown)) == encoded.views
                assert {views.shape[1:] for views in shown} == {(3, vision.image_size, vision.image_size)}
            seen.update(encoded.grids)
    assert len(seen) == 23  # every grid of two to nine tiles, and none
    assert limited > 100


def test_without_tiles_sizes_change_nothing(processor, tiled):
    """The default is what it was: no size is asked for, and no picture is read to encode a sample."""
    messages = [Message("user", [0, "何ですか。"])]
    plain = processor.encode(messages)
    assert processor.encode_sample(Sample("x", messages, [ImageRef()])).ids == plain.ids
    assert processor.encode(messages, sizes=[(9999, 99)]) == plain
    assert tiled.encode(messages) == plain  # of unknown size: whole
    assert tiled.encode(messages, sizes=[(9999, 99)]).ids != plain.ids
    special = processor.tokenizer.special
    view = [special["<|image|>"]] * 4
    assert plain.ids[2:8] == [special["<|image_start|>"], *view, special["<|image_end|>"]]


@pytest.mark.parametrize("known", [True, False])
def test_a_size_that_nobody_noted_is_read_from_the_file(tiled, known):
    sizes = [(3 * SIDE, 2 * SIDE), (SIDE, SIDE)]
    images = [ImageRef(encoded_image(n, size), size=size if known else None) for n, size in enumerate(sizes)]
    encoded = tiled.encode_sample(Sample("x", [Message("user", [1, 0, 1])], images))
    assert encoded.images == [1, 0, 1]
    assert encoded.grids == [WHOLE, Grid(2, 3), WHOLE]
    assert tiled.num_image_tokens == (VISION.grid // 2) ** 2
