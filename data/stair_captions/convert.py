"""STAIR Captions as published (github.com/STAIR-Lab-CIT/STAIR-captions) and COCO's images → image shards.

Layout: ``stair_captions_v1.2_train.json`` and ``…_val.json`` in COCO's format (images: id, file_name; annotations: id,
image_id, caption), and beside them COCO's folders ``train2014/`` and ``val2014/``.
"""

from collections.abc import Iterator
from pathlib import Path

from jvlm_data.image_sets import Entry, caption_messages, write_image_set
from jvlm_data.rows import Fault, below, read_document, records, text, value

from jvlm.errors import DataError

LAYOUT = "stair_captions_v1.2_train.json, stair_captions_v1.2_val.json and COCO's train2014/ and val2014/"


def convert(source: Path, out: Path) -> dict[str, int]:
    """One sample per caption; the publisher's splits. Counts of each, of `removed` and `errors`.

    Raises DataError when nothing in `source` is usable.
    """
    faults: list[Fault] = []
    return write_image_set(_entries(source, faults), faults, out, source, LAYOUT, "stair_captions")


def _entries(source: Path, faults: list[Fault]) -> Iterator[Entry]:
    for split in ("train", "val"):
        name = f"stair_captions_v1.2_{split}.json"
        document = read_document(source / name, source, faults)
        if document is None:
            continue
        if not isinstance(document, dict):
            faults.append({"where": name, "error": "not in COCO's format"})
            continue
        files = {row.get("id"): row.get("file_name") for _, row in records(document.get("images", []), name, faults)}
        for where, row in records(document.get("annotations"), f"{name}:annotations", faults):
            try:
                number, caption = value(row, "image_id", int), text(row, "caption")
                file = files.get(number) or f"COCO_{split}2014_{number:012}.jpg"  # as COCO names them
                image = below(source / f"{split}2014", text({"file_name": file}, "file_name"))
                meta = {"source": "stair_captions", "image_id": number}
                entry_id = f"stair-{split}-{value(row, 'id', int)}"
            except DataError as error:
                faults.append({"where": where, "error": error.what})
                continue
            yield Entry(entry_id, where, image, caption_messages(caption), split, caption, meta)
