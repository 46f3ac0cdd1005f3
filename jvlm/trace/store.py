"""Records on disk: texts one after the other, what is said of them, small pictures; read where they stand.

`texts.bin` and `thumbnails.bin` are plain bytes, `records.jsonl` holds a line for each record, and three tables of
int64 say where things stand: `records.bin` (begin and end of the text, of the line, of the numbers of its pictures),
`passages.bin` (`Place`, begin and end in bytes) and `pictures.bin` (record, begin and end of the thumbnail).
"""

import json
import os
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from jvlm.trace.types import Origin, Place, Record, Seen

THUMBNAIL_SIDE = 128  # pixels
_COLUMNS = {"records": 6, "passages": 5, "pictures": 3}


class StoreWriter:
    """Appends records to a folder that is being made."""

    def __init__(self, folder: Path) -> None:
        self._files = ExitStack()

        def open_new(name: str) -> BinaryIO:
            return self._files.enter_context(open(folder / name, "wb"))

        self._texts, self._thumbnails = open_new("texts.bin"), open_new("thumbnails.bin")
        self._lines = open_new("records.jsonl")
        self._tables = {name: open_new(f"{name}.bin") for name in _COLUMNS}
        self.counts = dict.fromkeys(_COLUMNS, 0)
        self._text, self._at, self._byte = "", 0, 0  # of the last record, up to where it is cut

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    @property
    def text_bytes(self) -> int:
        return self._texts.tell()

    def record(self, record: Record, text: str, images: Sequence[Image.Image]) -> int:
        """Append a record with its normalised text and those of its pictures that are to be had; returns its number."""
        number, first = self.counts["records"], self.counts["pictures"]
        about = {"id": record.id, "source": record.source, "licence": record.licence}
        line = json.dumps(about | {"seen": [asdict(seen) for seen in record.seen]}, ensure_ascii=False).encode() + b"\n"
        for image in images:
            self._row("pictures", (number, *_append(self._thumbnails, thumbnail(image))))
        self._text, self._at, self._byte = text, 0, self._texts.tell()
        spots = (*_append(self._texts, text.encode()), *_append(self._lines, line))
        self._row("records", (*spots, first, self.counts["pictures"]))
        return number

    def passage(self, place: Place) -> None:
        """Append a passage of the last record, behind those it has."""
        begin = self._byte + len(self._text[self._at : place.start].encode())
        self._at, self._byte = place.stop, begin + len(self._text[place.start : place.stop].encode())
        self._row("passages", (*place, begin, self._byte))

    def _row(self, table: str, row: Sequence[int]) -> None:
        self._tables[table].write(struct.pack(f"<{len(row)}q", *row))
        self.counts[table] += 1


class Store:
    """Reads what `StoreWriter` wrote."""

    def __init__(self, folder: Path) -> None:
        self._texts, self._lines, self._thumbnails = (
            _Bytes(folder / name) for name in ("texts.bin", "records.jsonl", "thumbnails.bin")
        )
        self._records, self._passages, self._pictures = (
            _Table(folder / f"{name}.bin", columns) for name, columns in _COLUMNS.items()
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of records, passages and pictures."""
        return dict(zip(_COLUMNS, map(len, (self._records, self._passages, self._pictures)), strict=True))

    def text(self, record: int) -> str:
        start, stop = self._records[record][:2]
        return self._texts.read(start, stop).decode()

    def place(self, passage: int) -> Place:
        return Place(*self._passages[passage][:3])

    def passage(self, number: int) -> str:
        start, stop = self._passages[number][3:]
        return self._texts.read(start, stop).decode()

    def origin(self, record: int) -> Origin:
        start, stop, first, behind = self._records[record][2:]
        about: dict[str, Any] = json.loads(self._lines.read(start, stop))
        seen = tuple(Seen(**stage) for stage in about.pop("seen"))
        return Origin(**about, seen=seen, thumbnail=self.picture(first)[1] if first < behind else None)

    def picture(self, number: int) -> tuple[int, bytes]:
        record, start, stop = self._pictures[number]
        return record, self._thumbnails.read(start, stop)


def thumbnail(image: Image.Image) -> bytes:
    """A small JPEG."""
    small, file = image.copy(), BytesIO()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    small.save(file, "JPEG", quality=80)
    return file.getvalue()


def _append(file: BinaryIO, data: bytes) -> tuple[int, int]:
    start = file.tell()
    file.write(data)
    return start, start + len(data)


class _Bytes:
    """Parts of a file, by place; threads may share it. A map would keep all that was ever read in memory."""

    def __init__(self, file: Path) -> None:
        self._file = open(file, "rb")  # noqa: SIM115
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, start: int, stop: int) -> bytes:
        return os.pread(self._file.fileno(), stop - start, start)


class _Table:
    """Rows of so many int64, by number, each read when it is asked for."""

    def __init__(self, file: Path, columns: int) -> None:
        self._bytes, self._row = _Bytes(file), struct.Struct(f"<{columns}q")

    def __len__(self) -> int:
        return self._bytes.size // self._row.size

    def __getitem__(self, number: int) -> tuple[int, ...]:
        start = int(number) * self._row.size
        return self._row.unpack(self._bytes.read(start, start + self._row.size))
