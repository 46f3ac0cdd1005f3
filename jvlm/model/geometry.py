"""How an image is shown: once whole and, if it is large, once more in a grid of tiles. Pure functions of sizes.

One view is a square of the tower's side. The whole view comes first, then the tiles in reading order; each takes the
same number of tokens, and each row of tiles ends with a mark. A grid is chosen as in LLaVA-NeXT's best resolution.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from jvlm.model.config import TilesConfig

Size = tuple[int, int]
"""Upright width and height, in pixels."""


class Grid(NamedTuple):
    """Rows and columns of tiles beside the whole view; (0, 0): the whole view alone."""

    rows: int
    columns: int

    @property
    def tiles(self) -> int:
        return self.rows * self.columns

    @property
    def views(self) -> int:
        """The whole view and the tiles."""
        return 1 + self.tiles


WHOLE = Grid(0, 0)


def image_tokens(tokens_per_view: int, grid: Grid) -> int:
    """Ids one image takes: its views, the mark behind each row of tiles, and the two marks around all."""
    return tokens_per_view * grid.views + grid.rows + 2


@lru_cache(maxsize=65_536)
def grid_for(size: Size, side: int, budget: int) -> Grid:
    """The grid of at most `budget` tiles of `side` pixels that shows a picture of `size` best.

    That is the one that keeps the most of the picture's own pixels, of equals the one of the fewest tiles, which leaves
    the fewest pixels of them unused, then the one of the fewest rows. A picture no larger than one view has none.
    """
    width, height = size
    if max(size) <= side:
        return WHOLE

    def key(rows: int, columns: int) -> tuple[int, int]:
        # the scale at which it is shown, at most 1, times width × height: whole numbers, so that equal is equal
        scale = min(columns * side * height, rows * side * width, width * height)
        return scale, -rows * columns

    best, best_key = WHOLE, key(1, 1)
    for rows in range(1, budget + 1):
        for columns in range(1, budget // rows + 1):
            if key(rows, columns) > best_key:
                best, best_key = Grid(rows, columns), key(rows, columns)
    return best


def grids_for(
    sizes: Sequence[Size | None], side: int, tiles: TilesConfig, fits: Callable[[list[Grid]], bool] = lambda _: True
) -> list[Grid]:
    """The grids of all images of one sample, in order.

    All get the same budget, the largest up to `per_image` with which together they keep to `per_sample` and `fits`
    holds: the frames of a film are all shown alike, and the order of images does not matter. An image of unknown size
    is shown whole, and where nothing fits all are.
    """
    for budget in range(tiles.per_image, 1, -1):
        grids = [WHOLE if size is None else grid_for(size, side, budget) for size in sizes]
        within = tiles.per_sample is None or sum(grid.tiles for grid in grids) <= tiles.per_sample
        if within and fits(grids):
            return grids
    return [WHOLE] * len(sizes)
