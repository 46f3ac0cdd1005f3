"""Draws the fictional medical images: a thorax-like film, a blood-smear-like field, an ECG-like trace.

Each of the six patterns of a modality fills a large part of the image, so that a small encoder can learn it at
64 pixels; place, size, contrast and noise vary. Coordinates run from 0 to 1, x to the right and y down.
"""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image

MODALITIES = ("film", "smear", "trace")
CELL_COUNTS = (3, 8)  # least and most cells in a smear
FILM_RANGE = (200, 3900)  # of 12 bits: nothing is clipped, a window between percentiles keeps every pattern

Array = np.ndarray


def draw(rng: np.random.Generator, modality: str, pattern: int, size: int, cells: int = 0) -> bytes:
    """PNG bytes of one image, [size, size]: 16-bit greyscale for a film, RGB for a smear or a trace.

    Args:
        pattern: which of the six patterns of the modality.
        cells: how many cells a smear shows (3 to 8); 0 for the other modalities.
    """
    assert 0 <= pattern < 6
    assert (modality == "smear") == (cells > 0)
    if modality == "film":
        image = Image.fromarray(film(rng, pattern, size))
    else:
        image = Image.fromarray(smear(rng, pattern, size, cells) if modality == "smear" else trace(rng, pattern, size))
    buffer = BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _axes(size: int) -> tuple[Array, Array]:
    """Pixel centres as x [1, size] and y [size, 1], 0 to 1."""
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size
    return centres[None, :], centres[:, None]


def _inside(distance: Array, size: int, softness: float = 1.0) -> Array:
    """1 where `distance` (in image widths) is negative, 0 where positive, a ramp of `softness` pixels between."""
    return np.clip(0.5 - distance * size / softness, 0.0, 1.0)


def _ellipse(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float) -> Array:
    """Signed distance, near enough, to an ellipse with its axes along the image's."""
    return (np.hypot((x - cx) / rx, (y - cy) / ry) - 1.0) * min(rx, ry)


# film: values 0 (air) to 1 (dense), turned into 12-bit numbers at the end


def film(rng: np.random.Generator, pattern: int, size: int) -> Array:
    """[size, size] uint16 of a thorax-like film."""
    x, y = _axes(size)
    shift, wide = float(rng.uniform(-0.02, 0.02)), float(rng.uniform(0.95, 1.05))
    body = _inside(_ellipse(x, y, 0.5 + shift, 0.55, 0.47 * wide, 0.62), size, 2)
    lungs = np.zeros((size, size), np.float32)
    for side in (-1, 1):
        lung = _ellipse(x, y, 0.5 + shift + side * 0.22 * wide, 0.5, 0.165 * wide, 0.38)
        lungs = np.maximum(lungs, _inside(lung, size, 2))
    heart = 0.26 if pattern == 5 else 0.11
    heart *= float(rng.uniform(0.95, 1.05))
    heart_mask = _inside(_ellipse(x, y, 0.54 + shift, 0.66, heart, heart * 0.8 + 0.03), size, 2)
    value = 0.08 + 0.5 * body - 0.38 * lungs
    value += 0.05 * lungs * (np.sin((y * 9 + 2.0 * np.abs(x - 0.5)) * 2 * np.pi) > 0.75)  # ribs
    value += (0.62 - value) * heart_mask
    shade = _FILM_PATTERNS[pattern](rng, x, y, shift, size)
    value += (0.92 - value) * shade * (np.maximum(lungs, 0.25) if pattern in (1, 2, 4) else 1.0)
    value = value * float(rng.uniform(0.9, 1.05)) + float(rng.uniform(-0.02, 0.02))
    value += rng.normal(0.0, 0.012, value.shape)
    low, high = FILM_RANGE
    return np.clip(low + value * (high - low), low, high).astype(np.uint16)


def _side(rng: np.random.Generator) -> int:
    return 1 if rng.integers(2) else -1


def _nodule(rng: np.random.Generator, x: Array, y: Array, shift: float, size: int) -> Array:
    cx, cy = 0.5 + shift + _side(rng) * float(rng.uniform(0.2, 0.24)), float(rng.uniform(0.28, 0.42))
    radius = float(rng.uniform(0.13, 0.16))
    return _inside(_ellipse(x, y, cx, cy, radius, radius), size, 2)


def _stripes(rng: np.random.Generator, x: Array, y: Array, shift: float, size: int) -> Array:
    phase, bands = float(rng.uniform(0, 0.3)), float(rng.uniform(4.8, 5.2))
    return 0.9 * ((bands * y + phase) % 1.0 < 0.5) * np.ones_like(x)


def _lower_white(rng: np.random.Generator, x: Array, y: Array, shift: float, size: int) -> Array:
    level = float(rng.uniform(0.5, 0.56))
    edge = level - 0.5 * np.abs(x - 0.5 - shift) ** 1.5
    return _inside(edge - y, size, 2)


def _ring(rng: np.random.Generator, x: Array, y: Array, shift: float, size: int) -> Array:
    cx, cy = 0.5 + shift + _side(rng) * float(rng.uniform(0.19, 0.22)), float(rng.uniform(0.34, 0.48))
    radius, width = float(rng.uniform(0.16, 0.19)), float(rng.uniform(0.03, 0.04))
    return _inside(np.abs(_ellipse(x, y, cx, cy, radius, radius)) - width, size, 2)


def _dots(rng: np.random.Generator, x: Array, y: Array, shift: float, size: int) -> Array:
    step = 0.09
    jitter = rng.uniform(-0.022, 0.022, size=(12, 12, 2)).astype(np.float32)
    column, row = np.floor(x / step).astype(int), np.floor(y / step).astype(int)  # each pixel belongs to one dot
    cx = (column + 0.5) * step + jitter[row, column, 0]
    cy = (row + 0.5) * step + jitter[row, column, 1]
    return _inside(np.hypot(x - cx, y - cy) - 0.023, size)


def _nothing(rng: np.random.Generator, x: Array, y: Array, shift: float, size: int) -> Array:
    return np.zeros((size, size), np.float32)  # the enlarged heart is drawn with the body


_FILM_PATTERNS: tuple[Callable[[np.random.Generator, Array, Array, float, int], Array], ...] = (
    _nodule,
    _stripes,
    _lower_white,
    _ring,
    _dots,
    _nothing,
)


# smear: every cell of the field shows the pattern

_CELL_COLOURS = ((236, 160, 190), (214, 70, 70), (190, 190, 240), (150, 40, 60), (150, 205, 150), (235, 165, 70))
_NUCLEUS_COLOURS = ((95, 40, 140), (246, 222, 214), (30, 40, 120), (150, 40, 60), (20, 90, 50), (235, 165, 70))


def smear(rng: np.random.Generator, pattern: int, size: int, cells: int) -> Array:
    """[size, size, 3] uint8 of a field with `cells` cells that never touch."""
    x, y = _axes(size)
    image = np.empty((size, size, 3), np.float32)
    image[:] = np.array((248, 232, 226), np.float32) + rng.uniform(-6, 6, size=3)
    for cx, cy in _cell_centres(rng, cells):
        radius, angle = float(rng.uniform(0.105, 0.12)), float(rng.uniform(0, np.pi))
        columns, rows = _window(cx, size), _window(cy, size)  # only the pixels near the cell
        body, inner = _cell(pattern, x[:, columns] - cx, y[rows] - cy, radius, angle, size)
        near = image[rows, columns]
        for mask, colour in ((body, _CELL_COLOURS[pattern]), (inner, _NUCLEUS_COLOURS[pattern])):
            tint = np.array(colour, np.float32) + rng.uniform(-10, 10, size=3)
            near += mask[..., None] * (tint - near)
    image += rng.normal(0.0, 4.0, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def _window(centre: float, size: int, reach: float = 0.16) -> slice:
    return slice(max(0, int((centre - reach) * size)), min(size, int((centre + reach) * size) + 1))


def _cell_centres(rng: np.random.Generator, cells: int) -> list[tuple[float, float]]:
    """Different places of a jittered 3 × 3 grid: cells can be told apart and counted."""
    places = [divmod(int(i), 3) for i in rng.permutation(9)[:cells]]
    jitter = rng.uniform(-0.03, 0.03, size=(cells, 2))
    return [
        (0.18 + 0.32 * column + float(dx), 0.18 + 0.32 * row + float(dy))
        for (row, column), (dx, dy) in zip(places, jitter, strict=True)
    ]


def _cell(pattern: int, x: Array, y: Array, radius: float, angle: float, size: int) -> tuple[Array, Array]:
    """Masks of the body and of what is inside it, around the origin."""
    across, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    disc = _inside(_ellipse(x, y, 0, 0, radius, radius), size)
    if pattern == 0:  # one large round nucleus
        return disc, _inside(_ellipse(x, y, 0, 0, radius * 0.65, radius * 0.65), size)
    if pattern == 1:  # pale centre
        return disc, _inside(_ellipse(x, y, 0, 0, radius * 0.5, radius * 0.5), size)
    if pattern == 2:  # dark grains
        grains = np.zeros_like(disc)
        for k in range(6):
            gx, gy = 0.6 * radius * np.cos(angle + k * np.pi / 3), 0.6 * radius * np.sin(angle + k * np.pi / 3)
            grains = np.maximum(grains, _inside(_ellipse(x, y, gx, gy, radius * 0.2, radius * 0.2), size))
        return disc, grains
    if pattern == 3:  # sickle
        bite = _inside(_ellipse(across, along, radius * 0.55, 0, radius * 0.75, radius * 0.9), size)
        return disc * (1 - bite), np.zeros_like(disc)
    if pattern == 4:  # two lobes
        lobes = [_ellipse(across, along, 0, side * radius * 0.42, radius * 0.34, radius * 0.34) for side in (-1, 1)]
        return disc, _inside(np.minimum(*lobes), size)
    spikes = radius * (0.78 + 0.3 * np.cos(7 * (np.arctan2(y, x) + angle)))
    return _inside(np.hypot(x, y) - spikes, size), np.zeros_like(disc)


# trace: one thick line over graph paper; `_WAVES[pattern](t, phase)` is its height, -1 to 1


def trace(rng: np.random.Generator, pattern: int, size: int) -> Array:
    """[size, size, 3] uint8 of a trace on graph paper."""
    x, y = _axes(size)
    fine = np.linspace(0.0, 1.0, size * 8, dtype=np.float32)
    phase, gain = float(rng.uniform(-0.06, 0.06)), float(rng.uniform(0.85, 1.05))
    height = _WAVES[pattern](fine + phase) * gain + rng.normal(0.0, 0.01, fine.shape)
    line = 0.5 + float(rng.uniform(-0.02, 0.02)) - 0.4 * height
    # each column takes in the first value of the next: a step between two columns leaves no gap
    columns = np.concatenate([line.reshape(size, 8), np.append(line[8::8], line[-1])[:, None]], axis=1)
    top, bottom = columns.min(axis=1)[None, :], columns.max(axis=1)[None, :]
    distance = np.maximum(top - y, y - bottom)
    ink = _inside(distance - 0.018, size, 1.5)
    image = np.empty((size, size, 3), np.float32)
    image[:] = np.array((253, 240, 236), np.float32) + rng.uniform(-4, 4, size=3)
    grid = ((x * 8) % 1.0 < 8 / size) | ((y * 8) % 1.0 < 8 / size)
    image -= grid[..., None] * np.array((8, 45, 45), np.float32)
    image += ink[..., None] * (np.array((25, 25, 40), np.float32) + rng.uniform(-15, 15, size=3) - image)
    image += rng.normal(0.0, 4.0, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def _bump(t: Array, centre: float, width: float) -> Array:
    return np.exp(-(((t - centre) / width) ** 2))


_WAVES: tuple[Callable[[Array], Array], ...] = (
    lambda t: -0.8 + 1.8 * _bump((t * 4) % 1.0, 0.5, 0.09),  # narrow spikes from a low line
    lambda t: 2 * ((t * 2.5 + 0.1) % 1.0) - 1,  # saw teeth
    lambda t: np.sin(2 * np.pi * t),  # one slow swell
    lambda t: np.where((t * 2 + 0.25) % 1.0 < 0.5, 0.75, -0.75),  # plateaus
    lambda t: 0.35 * np.sin(2 * np.pi * 11 * t),  # fast ripples around the middle
    lambda t: 0.8 - 1.8 * _bump(t, 0.5, 0.08),  # one deep dip from a high line
)
