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
from jvlm.sample import CAPTION_PROMPT, ImageRef, Sample


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
        raise UsageError(f"no data set '{name}'", fix=f"known: {', '.join(known)}; or give a .jsonl of rows")
    return known[name]


def build_rows(rows: Path, out: Path) -> dict[str, int]:
    """A JSONL of your own → shards in `out`. A row is a caption, a conversation, or a preference pair:

    ``{"image": path, "text": caption}``, ``{"messages": [{"role", "content"}, …]}``, or
    ``{"prompt", "chosen", "rejected"}``, each a text or messages. The last two may have ``"images": [path, …]``, which
    numbers in a message's content stand for: ``{"role": "user", "content": [0, "何ですか。"]}``. Paths are relative to
    the file. Rows that are none of these, or have an unreadable image, are recorded with file and line in
    ``OUT.errors.jsonl`` and left out. Raises DataError when the file is missing or no row is usable.
    """
    if not rows.is_file():
        fix = 'give a JSONL of {"image", "text"}, {"messages"} or {"prompt", "chosen", "rejected"} rows'
        raise DataError("file not found", where=rows, fix=fix)
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
                sample = _sample(line, rows, number)
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


def _sample(line: bytes, rows: Path, number: int) -> Sample:
    """Raises DataError for a row that is none, that has no text to learn, or an image that cannot be read."""
    try:
        record = json.loads(line)
        if not isinstance(record, dict):
            raise TypeError
        if "image" in record:
            caption = [{"role": "assistant", "content": record["text"]}]
            paths, meta = [str(record["image"])], {"source": str(record["image"])}
            messages, rejected = [{"role": "user", "content": [0, CAPTION_PROMPT]}, *caption], None
        else:
            paths, meta = [str(path) for path in record.get("images", [])], {}
            messages = record["messages"] if "messages" in record else _turns(record["prompt"], "user")
            rejected = None
            if "messages" not in record:
                messages = [*messages, *_turns(record["chosen"], "assistant")]
                rejected = _turns(record["rejected"], "assistant")
    except (ValueError, KeyError, TypeError):
        raise DataError('not a row of {"image", "text"}, {"messages"} or {"prompt", "chosen", "rejected"}') from None
    references = [ImageRef(path=str(rows.parent / path)) for path in paths]
    identity = {"id": f"{rows.stem}-{number:08d}", "messages": messages, "rejected": rejected, "meta": meta}
    sample = Sample.from_record(identity, references)
    _check_text(sample)
    for reference in references:
        load_image(reference)  # a picture that cannot be read must not reach a shard
    sample.images = [ImageRef(data=reference.read()) for reference in references]
    return sample


def _turns(value: str | list[Any], role: str) -> list[Any]:
    return [{"role": role, "content": value}] if isinstance(value, str) else list(value)


def _check_text(sample: Sample) -> None:
    learned = [message for message in sample.messages if message.role in ("assistant", "document")]
    if not learned or any(not message.text.strip() for message in learned):
        raise DataError("an answer, caption or document has no text, or there is none")
    ends = [sample.messages[-1], *(sample.rejected or [])]
    if sample.rejected is not None and [message.role for message in ends] != ["assistant", "assistant"]:
        raise DataError("chosen ends with, and rejected is, one assistant turn")
    text = "".join(message.text for message in sample.messages + (sample.rejected or []))
    if not text.isprintable() and any(0xD800 <= ord(character) < 0xE000 for character in text):
        raise DataError("the text is not valid Unicode: it holds half a surrogate pair")
