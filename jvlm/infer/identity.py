"""Which model an answer is from, by what its directory holds and not by where it is."""

import json
from pathlib import Path

from jvlm.errors import DataError
from jvlm.files import MANIFEST, read_json, sha256_bytes


def model_hash(folder: Path) -> str:
    """What tells a model directory from all others, 16 digits: of the hashes that were written with it.

    Captions, conversations and reviews name their model by it. Raises DataError when there is none.
    """
    if not (folder / "config.json").is_file():
        raise DataError("not a model directory: config.json is missing", where=folder)
    return sha256_bytes(json.dumps(read_json(folder / MANIFEST), sort_keys=True).encode())[:16]
