"""Data sets by name, and data of one's own in any public layout, as image shards and text: `jvlm data …`."""

from jvlm.datasets.build import build_rows, build_set
from jvlm.datasets.named import build_named, cards, convert_named, fetch_named

__all__ = ["build_named", "build_rows", "build_set", "cards", "convert_named", "fetch_named"]
