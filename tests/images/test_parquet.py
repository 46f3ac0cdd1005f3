"""Rows of Parquet files in batches: the right ones, in bounded memory, once each, and what is damaged named."""

import io
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from jvlm.errors import DataError
from jvlm.images import parquet
from jvlm.images.parquet import HELD, READ_BYTES, ParquetRows

REASON = "the parquet extra is not installed: pip install 'jvlm[parquet]'"
pyarrow, tables = (pytest.importorskip(name, reason=REASON) for name in ("pyarrow", "pyarrow.parquet"))

ROWS, ROW_BYTES = 400, 2**16
BATCH_BYTES = 2**20


class Counted(io.FileIO):
    """Counts how often files are opened, how much of them is read, and how much at a time."""

    opened = read_bytes = largest = 0

    def __init__(self, address):
        super().__init__(address)
        Counted.opened += 1

    def read(self, *size):
        data = super().read(*size)
        Counted.read_bytes, Counted.largest = Counted.read_bytes + len(data), max(Counted.largest, len(data))
        return data


@pytest.fixture
def counted():
    Counted.opened = Counted.read_bytes = Counted.largest = 0
    return Counted


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """One row group of 25 MiB, in which each image is another."""
    path = tmp_path_factory.mktemp("parquet") / "t.parquet"
    draw = random.Random(1)
    columns = {"id": [*range(ROWS)], "image": [draw.randbytes(ROW_BYTES) for _ in range(ROWS)], "more": ["x"] * ROWS}
    pages = {"data_page_size": ROW_BYTES, "write_batch_size": 1}  # of a row each
    tables.write_table(pyarrow.table(columns), path, row_group_size=ROWS, use_dictionary=False, **pages)
    assert tables.ParquetFile(path).num_row_groups == 1
    return path


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(parquet, "BATCH_BYTES", BATCH_BYTES)


POOL = pyarrow.proxy_memory_pool(pyarrow.default_memory_pool())  # as long as what was allocated from it


@pytest.fixture
def peak():
    """Tells the bytes that Arrow has held at most in the one test that asks."""
    before = pyarrow.default_memory_pool()
    pyarrow.set_memory_pool(POOL)
    yield POOL.max_memory
    pyarrow.set_memory_pool(before)


def test_each_byte_is_read_once_by_threads_that_ask_nearly_in_order(path, small_batches, counted):
    rows, whole = ParquetRows(counted), tables.read_table(path).to_pylist()
    with ThreadPoolExecutor(8) as pool:
        for begin in range(0, ROWS, 32):
            numbers = range(begin, min(begin + 32, ROWS))
            found = list(pool.map(lambda number: rows.row(str(path), 0, number), numbers))
            assert found == whole[begin : begin + 32]
    assert counted.opened == 1
    assert counted.read_bytes < 1.2 * path.stat().st_size


def test_a_row_group_is_never_held_whole(path, small_batches, counted, peak):
    rows = ParquetRows(counted, ("id", "image"))
    assert [rows.row(str(path), 0, number)["id"] for number in range(ROWS)] == [*range(ROWS)]
    assert peak() < (HELD + 4) * BATCH_BYTES < ROWS * ROW_BYTES / 3
    assert counted.largest < 2 * READ_BYTES  # what Python reads is not Arrow's memory


def test_rows_come_in_any_order(path, small_batches, counted):
    rows, numbers = ParquetRows(counted), [0, 399, 398, 17, 16, 300, 0]
    assert [rows.row(str(path), 0, number)["id"] for number in numbers] == numbers
    assert set(ParquetRows(counted, ("id",)).row(str(path), 0, 3)) == {"id"}


def test_what_lies_before_damage_is_read_and_the_rest_is_refused_at_once(path, small_batches, counted, tmp_path):
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3 * ROW_BYTES] = b"\xff" * 3 * ROW_BYTES  # a page's header is among these
    (tmp_path / "t.parquet").write_bytes(data)
    rows, good, told = ParquetRows(counted), [], set()
    for number in range(ROWS):
        try:
            good.append(rows.row(str(tmp_path / "t.parquet"), 0, number)["id"])
        except DataError as error:
            told.add(error.what.partition(":")[0])
    assert good == [*range(len(good))]
    assert 150 < len(good) < 210
    assert told == {"the row group cannot be read"}
    assert counted.opened == 1
    (tmp_path / "t.parquet").write_bytes(path.read_bytes())
    assert rows.row(str(tmp_path / "t.parquet"), 0, 399)["id"] == 399


def test_what_is_not_there_is_told(path, counted):
    rows = ParquetRows(counted)
    for group, number in ((0, ROWS), (1, 0)):
        with pytest.raises(DataError, match=r"shorter than when it was listed|row group cannot be read"):
            rows.row(str(path), group, number)
    assert rows.row(str(path), 0, 1)["id"] == 1


def test_a_fault_that_may_pass_is_raised_and_asked_again(path):
    failing = [OSError("connection reset"), TimeoutError("slow")]

    def opened(address):
        if failing:
            raise failing.pop()
        return open(address, "rb")

    rows = ParquetRows(opened)
    for fault in (TimeoutError, OSError):
        with pytest.raises(fault):
            rows.row(str(path), 0, 0, may_pass=True)
    assert rows.row(str(path), 0, 0, may_pass=True)["id"] == 0
