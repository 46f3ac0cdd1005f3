"""Rows of one's own in a `.jsonl`: captions, conversations, preference pairs.

``{"image": path, "text": caption}``, ``{"messages": [{"role", "content"}, …]}``, or
``{"prompt", "chosen", "rejected"}``, each a text or messages. The last two may have ``"images": [path, …]``, which
numbers in a message's content stand for: ``{"role": "user", "content": [0, "何ですか。"]}``. Paths are relative to the
file.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jvlm.datasets.layouts.record import Item
from jvlm.errors import DataError
from jvlm.sample import CAPTION_PROMPT, ImageRef, Sample

_FORMS = '{"image", "text"}, {"messages"} or {"prompt", "chosen", "rejected"}'


def items(source: Path, images: Path) -> Iterator[Item]:
    if not source.is_file():
        raise DataError("not a file", where=source, fix=f"give a JSONL of {_FORMS} rows")
    # bytes, cut at newlines alone: str.splitlines would cut JSON rows at U+2028 and U+0085 too
    with open(source, "rb") as lines:
        for number, line in enumerate(lines, 1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if line.strip():
                yield Item(f"{source}:{number}", (number, line))


def sample(item: Item, source: Path, images: Path) -> Sample:
    number, line = item.content
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
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"not a row of {_FORMS}") from None
    references = [ImageRef(path=str(images / path)) for path in paths]
    identity = {"id": f"{source.stem}-{number:08d}", "messages": messages, "rejected": rejected, "meta": meta}
    return Sample.from_record(identity, references)


def _turns(value: str | list[Any], role: str) -> list[Any]:
    return [{"role": role, "content": value}] if isinstance(value, str) else list(value)
