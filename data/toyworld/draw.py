"""Pixels of a scene: flat figures with a thin outline on a light greyish background, jittered and noisy.

Lengths are given for a 64-pixel image and scale with its side. Figures are cut once per (shape, diameter) with
supersampling and cached; drawing then only blends small windows.
"""

import io
from functools import lru_cache
from typing import cast

import numpy as np
from jvlm_data.toyworld.glyphs import text_bitmap
from jvlm_data.toyworld.scene import Scene, Thing
from jvlm_data.toyworld.world import BACKGROUNDS
from PIL import Image

REFERENCE_SIDE = 64
DIAMETERS = {"大": (18, 19, 20), "小": (13, 14)}  # at 64 px; neighbouring cells are 21.3 px apart
OUTLINE = 0.7
SUPERSAMPLING = 6
NOISE = 4  # grey levels, uniform, either side

RGB = {
    "赤": (218, 36, 40), "青": (36, 80, 222), "緑": (28, 148, 58), "黄": (246, 226, 40),
    "紫": (142, 48, 178), "橙": (248, 136, 20), "白": (252, 252, 252), "黒": (22, 22, 26),
}  # fmt: skip
TINTS = (
    (182, 182, 182), (196, 188, 180), (176, 188, 200), (180, 196, 182),
    (198, 180, 186), (186, 180, 200), (196, 194, 172), (172, 194, 194),
)  # fmt: skip
PATTERNS = ("flat", "down", "across", "diagonal", "glow", "checks", "lines")
assert len(TINTS) * len(PATTERNS) == BACKGROUNDS


def draw(scene: Scene, size: int, rng: np.random.Generator) -> np.ndarray:
    """The scene as uint8 RGB `[size, size, 3]`; a pure function of scene, size and the generator's state."""
    tint, pattern = divmod(scene.background, len(PATTERNS))
    base = np.array(TINTS[tint], np.float32) + rng.integers(-8, 9, size=3)
    strength = np.float32(rng.uniform(6, 14))
    canvas = base.astype(np.float32) + (strength * _pattern(PATTERNS[pattern], size))[:, :, None]
    for thing in scene.things:
        _blend_thing(canvas, thing, rng)
    if scene.sign is not None and scene.sign_row is not None:
        _blend_sign(canvas, scene.sign, scene.sign_row, rng)
    canvas += rng.integers(-NOISE, NOISE + 1, size=canvas.shape, dtype=np.int8)
    return np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)


def encode(pixels: np.ndarray) -> bytes:
    """JPEG bytes (quality 95, full chroma) of uint8 `[H, W, 3]`."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _blend_thing(canvas: np.ndarray, thing: Thing, rng: np.random.Generator) -> None:
    size = canvas.shape[0]
    scale = size / REFERENCE_SIDE
    choices = DIAMETERS[thing.size]
    diameter = max(4, round(choices[int(rng.integers(len(choices)))] * scale))
    whole, inner, shading = figure(thing.shape, diameter, thing.texture, scale)
    free = max(0, int(min((size / 3 - diameter) / 2, 3 * scale)))  # keeps the figure inside its cell
    top, left = (
        min(max(round((cell + 0.5) * size / 3 - diameter / 2) + int(shift), 0), size - diameter)
        for cell, shift in zip((thing.row, thing.column), rng.integers(-free, free + 1, size=2), strict=True)
    )
    fill = np.array(RGB[thing.colour], np.float32) + rng.integers(-10, 11, size=3)
    # Texture and outline are darker shades of the fill; black has none, so it gets lighter ones.
    shade = fill + 70 if thing.colour == "黒" else fill * np.float32(0.68)
    outline = fill * 0.4
    inside = fill + shading[:, :, None] * (shade - fill)
    colour = outline + inner[:, :, None] * (inside - outline)
    window = canvas[top : top + diameter, left : left + diameter]
    window += whole[:, :, None] * (colour - window)


def _blend_sign(canvas: np.ndarray, text: str, row: int, rng: np.random.Generator) -> None:
    """Dark characters on light paper, from the left edge on, so that the n-th character stands in the n-th place."""
    size = canvas.shape[0]
    scale = size / REFERENCE_SIDE
    dots = text_bitmap(text)
    field = round(16 * scale)  # one character with its margin
    height, width = round(18 * scale), min(field * len(text), size)
    shift = rng.integers(0, 2, size=2) * scale
    top = min(max(round((row + 0.5) * size / 3 - height / 2 + shift[0]), 0), size - height)
    left = min(round(shift[1]), size - width)
    canvas[top : top + height, left : left + width] = 240 + rng.integers(-10, 11)
    margin = round(2 * scale)
    rows = (np.arange(field) * dots.shape[0] // field)[: height - margin]
    columns = np.arange(width) * dots.shape[1] // width
    enlarged = dots[rows[:, None], columns[None, :]]
    # The blank last column of a field stands half before and half behind its glyph.
    enlarged = np.roll(enlarged, round(scale), axis=1)
    canvas[top + margin : top + margin + len(rows), left : left + width][enlarged] = 40 + rng.integers(-10, 11)


@lru_cache(maxsize=512)
def figure(shape: str, diameter: int, texture: str, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coverage in [0, 1], float32 `[diameter, diameter]`: the whole figure, its inside, and the texture's shading.

    Args:
        scale: the image's side over 64; the outline, which the inside lacks, is OUTLINE × scale pixels wide.
    """
    fine = diameter * SUPERSAMPLING
    solid = _solid(shape, fine)
    core = _eroded(solid, max(1, round(OUTLINE * scale * SUPERSAMPLING)))
    return _reduced(solid), _reduced(core), _texture(texture, diameter, max(1, round(scale)))


def _solid(shape: str, side: int) -> np.ndarray:
    """Boolean `[side, side]`: the figure, filling its square."""
    axis = (np.arange(side, dtype=np.float32) + 0.5) * 2 / side - 1
    x, y = axis[None, :], axis[:, None]
    radius = np.hypot(x, y)
    if shape == "丸":
        return radius <= 0.96
    if shape == "輪":
        return (radius <= 1) & (radius >= 0.5)
    if shape == "四角":
        return np.maximum(abs(x), abs(y)) <= 0.84
    if shape == "ひし形":
        return abs(x) * 1.12 + abs(y) <= 1
    if shape == "三角":
        return (y <= 0.86) & (abs(x) <= (y + 0.95) * 0.56)
    if shape == "十字":
        return (np.minimum(abs(x), abs(y)) <= 0.32) & (np.maximum(abs(x), abs(y)) <= 0.98)
    if shape == "ハート":
        height = 0.215 - 1.215 * y  # fits the heart x² + (height - 0.8 √|x|)² = 1 into the square
        return x**2 + (height - 0.8 * np.sqrt(abs(x))) ** 2 <= 1
    assert shape == "星", shape
    # A five-pointed star: the radius of its edge falls linearly (in the polar line equation) between tip and notch.
    angle = np.abs((np.arctan2(x, -(y - 0.06)) / (2 * np.pi) * 5 + 0.5) % 1 - 0.5) * 2 * np.pi / 5
    radius = np.hypot(x, y - 0.06)
    tip, notch, half = 1.04, 0.47, np.pi / 5
    edge_x, edge_y = tip - notch * np.cos(half), notch * np.sin(half)
    return radius * (edge_y * np.cos(angle) + edge_x * np.sin(angle)) <= tip * edge_y


def _eroded(mask: np.ndarray, steps: int) -> np.ndarray:
    """`mask` without what lies within about `steps` cells of its edge (alternating square and diamond steps)."""
    result = np.pad(mask, 1)
    for step in range(steps):
        shrunk = result.copy()
        shrunk[1:] &= result[:-1]
        shrunk[:-1] &= result[1:]
        shrunk[:, 1:] &= (shrunk if step % 2 else result)[:, :-1]
        shrunk[:, :-1] &= (shrunk if step % 2 else result)[:, 1:]
        result = shrunk
    return result[1:-1, 1:-1]


def _reduced(fine: np.ndarray) -> np.ndarray:
    side = len(fine) // SUPERSAMPLING
    blocks = fine.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING)
    return cast(np.ndarray, blocks.mean(axis=(1, 3), dtype=np.float32))


def _texture(texture: str, diameter: int, unit: int) -> np.ndarray:
    """Float32 `[diameter, diameter]` of 0 and 1: where the darker shade goes; `unit` is one pixel at 64."""
    index = np.arange(diameter) // unit
    if texture == "縞":
        return np.broadcast_to((index[:, None] % 4 < 2), (diameter, diameter)).astype(np.float32)
    if texture == "水玉":
        row, column = index[:, None], index[None, :]
        return ((row % 4 < 2) & ((column + row // 4 % 2 * 2) % 4 < 2)).astype(np.float32)
    return np.zeros((diameter, diameter), np.float32)


@lru_cache(maxsize=64)
def _pattern(name: str, size: int) -> np.ndarray:
    """Float32 `[size, size]` in [-1, 1]: the light over the background."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    unit = np.arange(size) * REFERENCE_SIDE // size
    fields: dict[str, np.ndarray] = {
        "flat": np.zeros_like(x),
        "down": y,
        "across": x,
        "diagonal": (x + y) / 2,
        "glow": 1 - np.hypot(x, y) * np.float32(1.4),
        "checks": np.where((unit[:, None] // 8 + unit[None, :] // 8) % 2, 0.4, -0.4),
        "lines": np.where(np.broadcast_to(unit[:, None] // 3 % 2, x.shape), 0.35, -0.35),
    }
    return fields[name].astype(np.float32)
