"""Parquet files, one or a folder of them, as the Hugging Face hub holds image-text data.

Columns: ``image`` (bytes, or a struct of bytes and path) or ``images``, a list of those; and ``text``, ``caption`` or
LLaVA's ``conversations``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from jvlm.datasets.layouts.record import Item
from jvlm.datasets.layouts.table import COLUMNS, check_columns, row_sample
from jvlm.errors import DataError
from jvlm.files import names_below
from jvlm.images.parquet import ParquetRows, pyarrow
from jvlm.sample import Sample


def items(source: Path, images: Path) -> Iterator[Item]:
    files = [source]
    if source.is_dir():
        files = sorted(source / name for name in names_below(source) if name.endswith(".parquet"))
    if not files:
        raise DataError("no .parquet file", where=source, fix="name another --layout")
    for path in files:
        try:
            file = _open(path)
        except DataError as error:
            yield Item(str(path), error=error.what)
            continue
        check_columns(file.schema_arrow.names, path)
        number = 0
        for group in range(file.num_row_groups):
            for row in range(file.metadata.row_group(group).num_rows):
                number += 1
                yield Item(f"{path}:{number}", (str(path), group, row, number))


def sample(item: Item, source: Path, images: Path) -> Sample:
    path, group, row, number = item.content
    return row_sample(_ROWS.row(path, group, row), _identity(Path(path), source, number), images)


def _identity(path: Path, source: Path, number: int) -> str:
    name = path.relative_to(source).with_suffix("").as_posix() if source.is_dir() else path.stem
    return f"{name}-{number:08d}"


def _open(path: Path) -> Any:
    arrow = pyarrow(path)
    try:
        return arrow.parquet.ParquetFile(path)
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"not a Parquet file: {error}") from None


def _opened(address: str) -> BinaryIO:
    try:
        return open(address, "rb")
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=address) from None


_ROWS = ParquetRows(_opened, COLUMNS)
