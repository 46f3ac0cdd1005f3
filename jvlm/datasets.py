"""Data sets by name, and private folders, as image shards and text: `jvlm data list | fetch | build | check`."""

import json
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from jvlm.assets import asset
from jvlm.errors import DataError, UsageError
from jvlm.fetch import fetch
from jvlm.files import append_json_line
from jvlm.images.load import load_image
from jvlm.images.shards import write_shards
from jvlm.sample import CAPTION_PROMPT, ImageRef, Message, Sample


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
        raise UsageError(f"no data set '{name}'", fix=f"known: {', '.join(known)}; or give a .jsonl of captions")
    return known[name]


def build_captions(rows: Path, out: Path) -> dict[str, int]:
    """Captioned images of your own: a JSONL of ``{"image": relative path, "text": caption}`` → shards in `out`.

    Rows without text, with an unreadable image or not JSON are recorded with file and line in ``OUT.errors.jsonl``
    and left out. Raises DataError when the file is missing or no row is usable.
    """
    if not rows.is_file():
        raise DataError("file not found", where=rows, fix='give a JSONL of {"image": path, "text": caption}')
    out = out.resolve()
    ledger = out.with_name(out.name + ".errors.jsonl")
    ledger.unlink(missing_ok=True)
    counts = {"samples": 0, "errors": 0}

    def samples() -> Iterator[Sample]:
        # bytes, cut at newlines alone: str.splitlines would cut JSON rows at U+2028 and U+0085 too
        for number, line in enumerate(rows.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                sample = _captioned(line, rows, number)
            except DataError as error:
                append_json_line(ledger, {"where": f"{rows}:{number}", "error": error.what})
                counts["errors"] += 1
                continue
            counts["samples"] += 1
            yield sample
        if not counts["samples"]:
            raise DataError("no usable row", where=rows, fix=f"see {ledger}")

    write_shards(samples(), out)
    return counts


def _captioned(line: bytes, rows: Path, number: int) -> Sample:
    try:
        record = json.loads(line)
        image, text = record["image"], record["text"]
    except (ValueError, KeyError, TypeError):
        raise DataError('not a row of {"image", "text"}') from None
    if not isinstance(text, str) or not text.strip():
        raise DataError("the caption has no text")
    if not text.isprintable() and any(0xD800 <= ord(character) < 0xE000 for character in text):
        raise DataError("the caption is not valid Unicode: it holds half a surrogate pair")
    reference = ImageRef(path=str(rows.parent / str(image)))
    load_image(reference)  # a picture that cannot be read must not reach a shard
    messages = [Message("user", [0, CAPTION_PROMPT]), Message("assistant", [text])]
    return Sample(f"{rows.stem}-{number:08d}", messages, [ImageRef(data=reference.read())], meta={"source": str(image)})
