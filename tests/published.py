"""What the tests of converters look at in a converted set."""

import json
from pathlib import Path

from jvlm.files import read_json_lines, verify_folder
from jvlm.images.shards import ShardReader, check_shards
from jvlm.sample import Sample
from jvlm.text.raw import Document, InputError, read_documents


def samples(out: Path, split: str) -> dict[str, Sample]:
    """The samples of one split by id, from shards that are sound."""
    assert check_shards(out / split) == []
    reader = ShardReader(out / split)
    return {name: reader.read(number) for number, name in enumerate(reader.ids)}


def documents(out: Path, split: str) -> list[Document]:
    """The documents of one split, as `jvlm text build` reads them."""
    errors: list[InputError] = []
    found = list(read_documents(out / f"{split}.jsonl.zst", "other", errors))
    assert errors == []
    return found


def faults(out: Path, name: str = "errors.jsonl") -> dict[str, str]:
    """What was recorded, by place."""
    verify_folder(out)
    return {row["where"]: row.get("error", row.get("reason")) for row in read_json_lines(out / name)}


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))  # escaped, so that half a surrogate pair can be written
