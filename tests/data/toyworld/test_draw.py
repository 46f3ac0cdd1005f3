import io
from itertools import combinations

import numpy as np
import pytest
from jvlm_data.toyworld.draw import DIAMETERS, RGB, TINTS, draw, encode, figure
from jvlm_data.toyworld.glyphs import GLYPHS
from jvlm_data.toyworld.scene import Scene, Thing, sample_scene
from jvlm_data.toyworld.world import BACKGROUNDS, COLOURS, POSITIONS, SHAPES, SIGN_CHARACTERS, TEXTURES
from PIL import Image


def lone(
    position: str = "中央", colour: str = "赤", shape: str = "四角", size: str = "大", texture: str = "無地"
) -> Scene:
    return Scene((Thing(position, colour, shape, size, texture),), background=0)


def test_glyphs_are_pairwise_distinct() -> None:
    assert len(GLYPHS) == len(set(SIGN_CHARACTERS)) == 20
    for a, b in combinations(SIGN_CHARACTERS, 2):
        assert (GLYPHS[a] ^ GLYPHS[b]).sum() >= 8, (a, b)


def test_figures_are_pairwise_distinct_at_every_size() -> None:
    for diameter in (d for choices in DIAMETERS.values() for d in choices):
        masks = {shape: figure(shape, diameter, "無地", 1.0)[0] for shape in SHAPES}
        for a, b in combinations(SHAPES, 2):
            assert np.abs(masks[a] - masks[b]).sum() > 0.06 * diameter**2, (a, b, diameter)


def test_figures_fill_their_square_and_keep_an_inside() -> None:
    for shape in SHAPES:
        for diameter, scale in ((10, 1.0), (17, 1.0), (60, 5.25)):
            whole, inner, _ = figure(shape, diameter, "無地", scale)
            rows, columns = np.nonzero(whole > 0.2)
            assert np.ptp(rows) + 1 >= 0.72 * diameter, shape
            assert np.ptp(columns) + 1 >= 0.72 * diameter, shape
            assert (inner <= whole).all()
            assert inner.sum() > 0.3 * whole.sum()


def test_colours_are_far_apart_and_off_the_backgrounds() -> None:
    values = [np.array(RGB[colour], float) for colour in COLOURS]
    for a, b in combinations(values, 2):
        assert np.linalg.norm(a - b) > 80
    for tint in TINTS:
        for value in values:
            assert np.linalg.norm(value - np.array(tint)) > 80


@pytest.mark.parametrize("size", [64, 100, 336])
def test_what_is_drawn_stands_in_its_cell(size: int) -> None:
    for cell, position in enumerate(POSITIONS):
        for colour in ("赤", "白", "黒"):
            pixels = draw(lone(position, colour), size, np.random.default_rng(cell)).astype(float)
            assert pixels.shape == (size, size, 3)
            near = np.linalg.norm(pixels - np.array(RGB[colour]), axis=2) < 45
            rows, columns = np.nonzero(near)
            assert len(rows) > 0.02 * size**2
            assert int(rows.mean() * 3 / size) == cell // 3
            assert int(columns.mean() * 3 / size) == cell % 3


def test_large_is_larger_and_textures_show() -> None:
    def area(**kwargs: str) -> int:
        pixels = draw(lone(**kwargs), 64, np.random.default_rng(0)).astype(float)
        return int((np.linalg.norm(pixels - np.array(RGB["赤"]), axis=2) < 45).sum())

    assert area(size="大") > 1.8 * area(size="小")
    for texture in TEXTURES[1:]:
        assert area(texture=texture) < 0.9 * area(texture="無地")


@pytest.mark.parametrize("text", ["0", "ア3", "4キ7", "8428"])
def test_a_sign_can_be_read_back_from_the_pixels(text: str) -> None:
    pixels = draw(Scene((), 0, text, 1), 64, np.random.default_rng(5)).astype(float).mean(axis=2)
    # Every glyph must correlate best with its own bitmap, at some shift of a few pixels.
    for number, character in enumerate(text):
        left = 16 * number

        def score(candidate: str, left: int = left) -> float:
            bitmap = np.kron(GLYPHS[candidate], np.ones((2, 2))) - GLYPHS[candidate].mean()
            windows = [
                pixels[top : top + 14, column : column + 14]
                for top in range(21, 28)
                for column in range(max(0, left - 1), min(left + 4, 51))
            ]
            return max(abs(float(np.corrcoef(w.ravel(), bitmap.ravel())[0, 1])) for w in windows)

        assert max(SIGN_CHARACTERS, key=score) == character


def test_every_background_keeps_clear_of_the_figures() -> None:
    for background in range(BACKGROUNDS):
        pixels = draw(Scene((), background), 64, np.random.default_rng(background))
        assert pixels.min() > 130
        assert pixels.max() < 236


def test_drawing_depends_on_scene_and_generator_alone() -> None:
    scene = sample_scene(np.random.default_rng(1), sign=True)
    first, again, other = (encode(draw(scene, 64, np.random.default_rng(seed))) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_encode_is_a_faithful_jpeg() -> None:
    pixels = draw(lone(), 64, np.random.default_rng(1))
    image = Image.open(io.BytesIO(encode(pixels)))
    assert (image.format, image.size, image.mode) == ("JPEG", (64, 64), "RGB")
    assert np.abs(np.asarray(image).astype(int) - pixels).mean() < 4
