"""ROCO (Radiology Objects in COntext, github.com/razorx89/roco-dataset) → image shards.

Layout: a clone in which the publisher's ``scripts/fetch.py`` has brought the figures from PubMed Central: below
``data/SPLIT/radiology/`` and ``data/SPLIT/non-radiology/`` (train, validation, test) ``captions.txt`` (id, tab,
caption), ``licences.txt`` (id, file name, licence) and ``images/``.
"""

from collections.abc import Iterator
from pathlib import Path

from jvlm_data.image_sets import Entry, caption_messages, write_image_set
from jvlm_data.rows import Fault, below, text

from jvlm.errors import DataError

LAYOUT = "a clone of github.com/razorx89/roco-dataset with its images: data/train/radiology/captions.txt …"
_SPLITS = {"train": "train", "validation": "val", "test": "test"}


def convert(source: Path, out: Path) -> dict[str, int]:
    """One sample per figure; the publisher's splits. Counts of each, of `removed` and `errors`.

    Raises DataError when nothing in `source` is usable.
    """
    faults: list[Fault] = []
    return write_image_set(_entries(source, faults), faults, out, source, LAYOUT, "roco")


def _entries(source: Path, faults: list[Fault]) -> Iterator[Entry]:
    for published, split in _SPLITS.items():
        for kind in ("radiology", "non-radiology"):
            folder = source / "data" / published / kind
            named = {}
            for where, line in _lines(folder / "licences.txt", source, faults):
                name, _, rest = line.partition(",")
                file, comma, licence = rest.rpartition(",")  # a file name may hold commas, a licence does not
                if comma and file:
                    named[name.strip()] = (file.strip(), licence.strip())
                else:
                    faults.append({"where": where, "error": "not id, file name, licence"})
            for where, line in _lines(folder / "captions.txt", source, faults):
                name, _, caption = line.partition("\t")
                try:
                    caption = text({"caption": caption}, "caption")
                    if name not in named:
                        raise DataError(f"licences.txt does not name the file of {name!r}")
                    image = below(folder / "images", named[name][0])
                except DataError as error:
                    faults.append({"where": where, "error": error.what})
                    continue
                meta = {"source": "roco", "kind": kind, "licence": named[name][1]}
                yield Entry(name, where, image, caption_messages(caption), split, caption, meta)


def _lines(path: Path, source: Path, faults: list[Fault]) -> Iterator[tuple[str, str]]:
    """(place, line) of a text file; a missing file and lines that are not UTF-8 are faults."""
    name = str(path.relative_to(source))
    if not path.is_file():
        faults.append({"where": name, "error": "file not found"})
        return
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            if line.strip():
                yield f"{name}:{number}", line.decode()
        except UnicodeDecodeError:
            faults.append({"where": f"{name}:{number}", "error": "not UTF-8"})
