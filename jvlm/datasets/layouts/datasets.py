"""A folder that Hugging Face `datasets` wrote with `save_to_disk`: Arrow streams, read without that package.

Columns are those of the layout parquet.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from jvlm.datasets.layouts.record import Item, read_document
from jvlm.datasets.layouts.table import COLUMNS, check_columns, row_sample
from jvlm.errors import DataError, UsageError
from jvlm.images.parquet import pyarrow
from jvlm.sample import Sample

MARKS = ("dataset_dict.json", "state.json")


def items(source: Path, images: Path) -> Iterator[Item]:
    if (source / MARKS[0]).is_file():
        splits = read_document(source / MARKS[0], dict, "what save_to_disk wrote").get("splits")
        raise UsageError(
            "the folder holds several splits", where=source, fix=f"build one at a time: {source}/{{{_listed(splits)}}}"
        )
    state = read_document(source / MARKS[1], dict, "what save_to_disk wrote")
    for file in state.get("_data_files") or []:
        path = source / Path(str(file.get("filename"))).name
        try:
            table = _table(str(path))
        except DataError as error:
            yield Item(str(path), error=error.what)
            continue
        check_columns(table.schema.names, path)
        for row in range(table.num_rows):
            yield Item(f"{path}:{row + 1}", (str(path), row))


def sample(item: Item, source: Path, images: Path) -> Sample:
    path, row = item.content
    table = _table(path)
    wanted = [name for name in table.schema.names if name in COLUMNS]
    fields = table.select(wanted).slice(row, 1).to_pylist()[0]
    return row_sample(fields, f"{Path(path).stem}-{row + 1:08d}", images)


def _listed(splits: object) -> str:
    return ",".join(map(str, splits)) if isinstance(splits, list) else "SPLIT"


@lru_cache(maxsize=1)
def _table(path: str) -> Any:
    """The table of a file, mapped into memory. Raises DataError when it is no Arrow stream."""
    arrow = pyarrow(Path(path))
    try:
        return arrow.ipc.open_stream(arrow.memory_map(path)).read_all()
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"not an Arrow stream: {error}") from None
