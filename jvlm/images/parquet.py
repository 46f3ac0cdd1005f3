"""Rows of Parquet files, read forward in batches: a row group of images may be larger than the memory.

A row group is the least that one can jump to in a file: on the way to a row those before it in the group are read too.
So rows are asked for nearly in order, and what was just read is kept for those who come a little late. Held are some
batches and a page of each column, which is as large as its writer made it: pyarrow by itself makes pages of 1,024 rows.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any, BinaryIO

from jvlm.errors import DataError, UsageError

BATCH_BYTES = 32 * 2**20
"""Of the rows of a batch, by the average of their row group."""
FEWEST, MOST = 16, 512
"""Rows of a batch, whatever their size: the average may tell little of them."""
HELD = 3
"""Batches kept: who asks in order, several rows at a time, may come 32 rows late."""
GROUPS = 2
"""Row groups kept open: neighbouring rows may lie in two."""
READ_BYTES = 2**20
"""Read at a time of each column; by itself Arrow would read a row group's whole column first."""


class ParquetRows:
    """Rows by file, row group and number, for any number of threads."""

    def __init__(self, opened: Callable[[str], BinaryIO], columns: tuple[str, ...] | None = None) -> None:
        """`opened` gives a file that can be read from any place in it; `columns`: those wanted, all by default."""
        self._opened, self._columns = opened, columns
        self._lock = Lock()
        self._groups: dict[tuple[str, int, tuple[int, int]], _Group] = {}

    def row(self, address: str, group: int, number: int, *, may_pass: bool = False) -> dict[str, Any]:
        """The fields of a row.

        Raises DataError when it is not there or cannot be read, and what `opened` raises. With `may_pass` an OSError is
        raised as it is and the file opened anew for who asks next: a network may come back. Without, the rest of the
        row group counts as damaged.
        """
        with self._lock:
            key = (address, group, _stamp(address))
            found = self._groups.pop(key, None) or _Group(lambda: self._opened(address), address, group, self._columns)
            self._groups[key] = found
            while len(self._groups) > GROUPS:
                self._groups.pop(next(iter(self._groups))).close()
            batch, place = found.find(number, may_pass)
        try:
            (fields,) = batch.slice(place, 1).to_pylist()
        except ValueError as error:  # text that is no UTF-8
            raise DataError(f"the row cannot be read: {error}") from None
        return dict(fields)


def _stamp(address: str) -> tuple[int, int]:
    """What tells a file of this machine from another one of that name, which it may have become since."""
    try:
        found = os.stat(address)
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


class _Group:
    """A row group on the way from its first row to its last."""

    def __init__(
        self, opened: Callable[[], BinaryIO], address: str, group: int, columns: tuple[str, ...] | None
    ) -> None:
        self._opened, self._address, self._group, self._columns = opened, address, group, columns
        self._file: BinaryIO | None = None
        self._begin()

    def _begin(self) -> None:
        self.close()
        self._held: deque[tuple[int, Any]] = deque(maxlen=HELD)  # number of the first row, batch
        self._next = 0
        self._fault: str | None = None  # why there is nothing from the next row on

    def close(self) -> None:
        self._batches: Iterator[Any] | None = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def find(self, number: int, may_pass: bool) -> tuple[Any, int]:
        """The batch that holds a row, and its place in it. Raises as `ParquetRows.row`."""
        if number < self._next and (not self._held or number < self._held[0][0]):
            self._begin()
        while number >= self._next:
            if self._fault is None:
                self._advance(may_pass)
            if self._fault is not None:
                raise DataError(self._fault, where=self._address)
        return next((batch, number - first) for first, batch in reversed(self._held) if first <= number)

    def _advance(self, may_pass: bool) -> None:
        arrow = pyarrow(self._address)
        try:
            self._batches = self._batches or self._open(arrow)
            batch = next(self._batches, None)
        except (arrow.ArrowException, OSError, IndexError) as error:
            if may_pass and isinstance(error, OSError):
                self._begin()
                raise
            self._end(f"the row group cannot be read: {error}")
        except BaseException:  # a network fails in the ways of every library below fsspec
            self._begin()
            raise
        else:
            if batch is None:
                self._end("the file is shorter than when it was listed")
            else:
                self._held.append((self._next, batch))
                self._next += batch.num_rows

    def _end(self, fault: str) -> None:
        self._fault = fault
        self.close()

    def _open(self, arrow: Any) -> Iterator[Any]:
        self._file = self._opened()
        file = arrow.parquet.ParquetFile(self._file, buffer_size=READ_BYTES, pre_buffer=False)
        about = file.metadata.row_group(self._group)
        average = about.total_byte_size / max(about.num_rows, 1)
        rows = min(max(int(BATCH_BYTES / max(average, 1)), FEWEST), MOST)
        columns = self._columns and [name for name in file.schema_arrow.names if name in self._columns]
        batches: Iterator[Any] = file.iter_batches(rows, row_groups=[self._group], columns=columns)
        return batches


def pyarrow(where: object) -> Any:
    """The package, with what reads Parquet and Arrow files. Raises UsageError when it is not installed."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise UsageError("these files need pyarrow", where=where, fix="pip install 'jvlm[parquet]'") from None
    return pyarrow
