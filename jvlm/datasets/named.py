"""Data sets that are known by name: generated, downloaded, or converted from their published files."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from jvlm.assets import asset
from jvlm.errors import UsageError
from jvlm.fetch import fetch


def cards() -> dict[str, dict[str, Any]]:
    """The card of every data set this installation knows, by name."""
    found = {}
    for path in sorted(asset("data").glob("*/card.yaml")):
        found[path.parent.name] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def fetch_named(name: str, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Download the published files of a known set to `out`, see `jvlm.fetch`. Raises UsageError for an unknown name."""
    return fetch(_card(name), out, say)


def build_named(
    name: str, out: Path, seed: int, settings: dict[str, Any], say: Callable[[str], None]
) -> dict[str, Any]:
    """Build a generated data set in `out`. Raises UsageError for an unknown name, or one that is converted."""
    card = _card(name)
    if name != "toyworld":
        raise UsageError(f"'{name}' is converted from published files", fix=f"give --source FOLDER: {card['layout']}")
    from jvlm_data.toyworld.build import ToyworldConfig, build

    return build(ToyworldConfig(seed=seed, **settings), out, say)


def convert_named(name: str, source: Path, out: Path) -> dict[str, int]:
    """Convert the published files of a known set in `source` to shards, text or exam records in `out`; counts, among
    them `errors`.

    What could not be used is recorded in ``out/errors.jsonl``. Raises UsageError for an unknown name, or one that is
    generated; DataError when `source` does not hold the published layout.
    """
    _card(name)
    if name == "toyworld":
        raise UsageError("'toyworld' is generated, it has no source", fix="leave --source out")
    convert: Callable[[Path, Path], dict[str, int]] = import_module(f"jvlm_data.{name}.convert").convert
    return convert(source, out)


def _card(name: str) -> dict[str, Any]:
    known = cards()
    if name not in known:
        raise UsageError(f"no data set '{name}'", fix=f"known: {', '.join(known)}; or give a file or a folder")
    return known[name]
