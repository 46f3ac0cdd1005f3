"""What the converters of image sets share: published records about one image each → one folder of shards per split."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jvlm_data.rows import Fault, nothing_usable
from jvlm_data.splits import SPLITS, HeldOut, split_of, text_hash

from jvlm.assets import asset
from jvlm.errors import DataError
from jvlm.files import append_json_line, new_folder, sha256_file, write_json
from jvlm.images.load import load_image
from jvlm.images.shards import image_extension, write_shards
from jvlm.sample import CAPTION_PROMPT, ImageRef, Message, Sample

DISJOINT = "disjoint_"
"""Before the names of a second division, by images alone."""


@dataclass(frozen=True)
class Entry:
    """A published record. `image` is number 0 in `messages`; `split` is the official one, None where there is none."""

    id: str
    where: str
    image: Path
    messages: list[Message]
    split: str | None = None
    text: str | None = None
    """What must not stand in two splits beside the image, such as a caption; None for answers like «yes»."""
    meta: dict[str, Any] = field(default_factory=dict)


def caption_messages(caption: str) -> list[Message]:
    return [Message("user", [0, CAPTION_PROMPT]), Message("assistant", [caption])]


def write_image_set(
    entries: Iterable[Entry],
    faults: list[Fault],
    out: Path,
    source: Path,
    layout: str,
    name: str,
    resplit: Mapping[str, float] | None = None,
) -> dict[str, int]:
    """`out/train`, `out/val`, `out/test` (shards, those that are not empty), `errors.jsonl`, `removed.jsonl`; counts.

    A record without a readable image and a repeated id are faults. A record whose image or text also stands in a more
    protected split is left out and listed in `removed.jsonl`. All or nothing: `out` is committed as a whole.

    Args:
        layout: what the folder should hold. name: of the set, whose card says licence and source.
        resplit: shares of a second division of all records, by the hash of their image alone, into
            ``out/disjoint_SPLIT``; ``out/splits.json`` tells what train and test share in each.

    Raises DataError when nothing is usable.
    """
    hashes: dict[Path, str] = {}
    placed: dict[str, tuple[Entry, str, list[str]]] = {}
    held_out = HeldOut()
    for entry in entries:
        try:
            if entry.id in placed:
                raise DataError(f"the id {entry.id!r} stands twice; the first one was kept")
            if entry.image not in hashes:
                hashes[entry.image] = _image_hash(entry.image)
        except DataError as error:
            faults.append({"where": entry.where, "error": error.what})
            continue
        keys = [hashes[entry.image]] + ([text_hash(entry.text)] if entry.text is not None else [])
        split = entry.split or split_of(keys[0])
        held_out.add(split, keys)
        placed[entry.id] = (entry, split, keys)
    kept: dict[str, list[Entry]] = {split: [] for split in SPLITS}
    removed = []
    for entry, split, keys in placed.values():
        if clash := held_out.clash(split, keys):
            removed.append({"where": entry.where, "split": split, "reason": f"its image or text stands in {clash}"})
        else:
            kept[split].append(entry)
    if not any(kept.values()):
        raise nothing_usable(source, faults, layout)
    again = _by_split((entry, split_of(keys[0], resplit)) for entry, _, keys in placed.values()) if resplit else {}
    divided = {DISJOINT + split: chosen for split, chosen in again.items()}
    card = yaml.safe_load(asset("data", name, "card.yaml").read_text(encoding="utf-8"))
    about = {key: card[key] for key in ("licence", "source")}
    with new_folder(out) as folder:
        for split, chosen in {**kept, **divided}.items():
            if chosen:
                write_shards(_samples(chosen, split), folder / split, about=about)
        if resplit:
            published = _by_split((entry, split) for entry, split, _ in placed.values())
            divisions = {"published": published, "official": kept, "disjoint": again}
            write_json(folder / "splits.json", {name: _shared(part, hashes) for name, part in divisions.items()})
        for name, rows in (("errors.jsonl", faults), ("removed.jsonl", removed)):
            for row in rows:
                append_json_line(folder / name, row)
    counts = {split: len(chosen) for split, chosen in {**kept, **divided}.items()}
    return counts | {"removed": len(removed), "errors": len(faults)}


def _by_split(entries: Iterable[tuple[Entry, str]]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry, split in entries:
        found.setdefault(split, []).append(entry)
    return found


def _shared(splits: Mapping[str, list[Entry]], hashes: Mapping[Path, str]) -> dict[str, int]:
    """Records of train and test, their images, and how many of the test's images have records in train too."""
    train, test = ({hashes[entry.image] for entry in splits.get(split, [])} for split in ("train", "test"))
    records = {split: len(splits.get(split, [])) for split in ("train", "test")}
    return {**records, "train_images": len(train), "test_images": len(test), "test_images_in_train": len(train & test)}


def _image_hash(path: Path) -> str:
    """SHA-256 of an image's file. Raises DataError when it is no image that a shard can hold."""
    try:
        load_image(path)
    except DataError as error:
        raise DataError(f"{path.name}: {error.what}") from None
    with open(path, "rb") as file:
        if image_extension(file.read(16)) is None:
            raise DataError(f"{path.name}: not a PNG, JPEG, WebP, BMP, GIF or TIFF image")
    return sha256_file(path)


def _samples(entries: list[Entry], split: str) -> Iterator[Sample]:
    for entry in entries:
        meta = entry.meta | {"split": split, "image": entry.image.name}
        yield Sample(entry.id, entry.messages, [ImageRef(path=str(entry.image))], meta=meta)
