"""Pictures and what is said of them: the manifests `FOLDER/NAME.jsonl` beside the folders `FOLDER/NAME/` they name.

Splits follow the rule of `jvlm_data.splits`, for groups: pictures of the same bytes, and those that share a caption
somebody wrote, stand in one group and go one way. Captions made from a label by a template repeat by their nature and
bind nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jvlm_data.rows import Fault, below, read_rows, text
from jvlm_data.splits import split_of, text_hash

from jvlm.errors import DataError
from jvlm.files import sha256_bytes, sha256_file
from jvlm.images.load import load_image

TEMPLATES = frozenset({"grocery_store", "bccd", "isic2017", "pneumoniamnist", "idrid_fundus", "vqa_rad"})
"""Sources whose captions, if any, are made from labels."""
HELD_OUT = {"test": 0.10, "val": 0.02}


@dataclass(frozen=True)
class Picture:
    """One row of a manifest, at `where` (file and line). `sha256` is that of the picture's bytes."""

    id: str
    where: str
    source: str
    path: Path
    sha256: str
    row: dict[str, Any]

    @property
    def caption(self) -> str:
        """What is said of the picture, Japanese before English; empty when nothing is."""
        found = (self.row.get(name) for name in ("text", "caption_ja", "caption"))
        return next((said.strip() for said in found if isinstance(said, str) and said.strip()), "")


def read_pictures(folder: Path, faults: list[Fault], captioned: bool) -> list[Picture]:
    """The rows of every manifest below `folder` whose picture can be read; the others go to `faults`.

    Args:
        captioned: rows without a caption are faults.
    """
    pictures: list[Picture] = []
    hashes: dict[Path, str] = {}
    for manifest in sorted(folder.glob("*.jsonl")):
        for where, row in read_rows(manifest, folder.parent, faults):
            try:
                path = below(folder, text(row, "image"))
                if path not in hashes:
                    load_image(path)
                    hashes[path] = sha256_file(path)
                identity = f"{manifest.stem}-{where.rpartition(':')[2].zfill(6)}"
                picture = Picture(identity, where, manifest.stem, path, hashes[path], row)
                if captioned and not picture.caption:
                    raise DataError("the row has no caption")
            except DataError as error:
                faults.append({"where": where, "error": error.what})
                continue
            pictures.append(picture)
    return pictures


def splits(pictures: Iterable[Picture]) -> dict[str, str]:
    """The split of each picture's bytes, by sha256.

    A group goes by the hash of its smallest hash: the smallest itself would send large groups to the test. VQA-RAD's
    pictures keep the publisher's split: one with a test question is test, whatever else is asked about it.
    """
    group = _Groups()
    official: dict[str, str] = {}
    for picture in pictures:
        group.join(picture.sha256, picture.sha256)
        if picture.caption and picture.source not in TEMPLATES:
            group.join(picture.sha256, text_hash(picture.caption))
        if picture.source == "vqa_rad":
            published = "test" if picture.row.get("split") == "test" else "train"
            official[picture.sha256] = max(
                published, official.get(picture.sha256, "train"), key=("train", "test").index
            )
    found = {key: split_of(sha256_bytes(group.smallest(key).encode()), HELD_OUT) for key in group.pictures}
    return found | official


class _Groups:
    """Union-find over hashes; `smallest` names a group by the smallest hash of a picture in it."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}
        self.pictures: dict[str, None] = {}
        self._smallest: dict[str, str] = {}

    def join(self, picture: str, other: str) -> None:
        self.pictures[picture] = None
        first, second = self._root(picture), self._root(other)
        low = min(picture, self._smallest.get(first, picture), self._smallest.get(second, picture))
        self._parent[second] = first
        self._smallest[first] = low

    def smallest(self, key: str) -> str:
        return self._smallest[self._root(key)]

    def _root(self, key: str) -> str:
        self._parent.setdefault(key, key)
        while self._parent[key] != key:
            self._parent[key] = self._parent[self._parent[key]]  # halve the path
            key = self._parent[key]
        return key
