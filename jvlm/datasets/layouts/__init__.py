"""Public layouts of image-text data, one file each, and which of them a source has.

A layout lists the records of a source cheaply (`items`) and makes a `Sample` of one (`sample`), in whatever process
that happens. What cannot be used is told by its place and left out.
"""

from pathlib import Path, PurePath

from jvlm.datasets.layouts import coco, datasets, folder, jsonl, llava, parquet, webdataset
from jvlm.datasets.layouts.record import Layout
from jvlm.datasets.layouts.reviews import Reviews
from jvlm.datasets.reviews import FILE as REVIEWS
from jvlm.errors import DataError, UsageError
from jvlm.files import names_below
from jvlm.images.load import SUFFIXES

LAYOUTS: dict[str, Layout] = {
    "folder": folder,
    "llava": llava,
    "coco": coco,
    "parquet": parquet,
    "datasets": datasets,
    "webdataset": webdataset,
    "jsonl": jsonl,
    "reviews": Reviews(pairs=False),
    "review-pairs": Reviews(pairs=True),
}
_BY_SUFFIX = {".jsonl": "jsonl", ".parquet": "parquet", ".tar": "webdataset"}


def layout_of(source: Path, named: str | None = None) -> str:
    """The name of the layout: the one that is named, else the only one that `source` can have.

    Raises:
        UsageError: no such layout; `source` could have several, or none; a `pipe:` address.
        DataError: `source` does not exist.
    """
    choices = f"give --layout, one of {', '.join(LAYOUTS)}"
    if str(source).startswith("pipe:"):
        raise UsageError("pipe: runs a shell command", where=source, fix="give a file or a folder")
    if named is not None and named not in LAYOUTS:
        raise UsageError(f"no layout '{named}'", fix=choices)
    if not source.exists():
        raise DataError("file not found", where=source, fix="give a file or a folder, see `jvlm data build --help`")
    if named is not None:
        return named
    found = _in_folder(source) if source.is_dir() else _of_file(source)
    if len(found) != 1:
        what = f"it could be {' or '.join(found)}" if found else "the layout is not recognised"
        raise UsageError(what, where=source, fix=choices)
    return found[0]


def _of_file(source: Path) -> list[str]:
    if source.suffix in _BY_SUFFIX:
        return [_BY_SUFFIX[source.suffix]]
    if source.suffix == ".json":
        with open(source, "rb") as file:
            start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
        return {b"[": ["llava"], b"{": ["coco"]}.get(start[:1], [])
    return []


def _in_folder(source: Path) -> list[str]:
    if any((source / name).is_file() for name in datasets.MARKS):
        return ["datasets"]
    if (source / REVIEWS).is_file():
        return ["reviews"]
    suffixes = {PurePath(name).suffix.lower() for name in names_below(source)}
    has_images = bool(suffixes & set(SUFFIXES))
    found = [name for suffix, name in ((".parquet", "parquet"), (".tar", "webdataset")) if suffix in suffixes]
    if has_images and (suffixes & {".txt"} or any((source / name).is_file() for name in folder.LISTINGS)):
        found.append("folder")
    return found
