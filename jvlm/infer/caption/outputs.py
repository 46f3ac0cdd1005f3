"""Units one behind the other, in the order of the plan, as JSONL, Parquet, shards or text files: the same bytes always.

Every output appears under its name whole, by rename. A unit is held at a time, of all others only ids.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import zstandard

from jvlm.errors import DataError, UsageError
from jvlm.files import new_file, new_folder, sha256_bytes
from jvlm.images.parquet import pyarrow
from jvlm.images.shards import image_extension, write_shards
from jvlm.infer.caption.content import content, image_bytes
from jvlm.infer.caption.duplicates import FirstSeen
from jvlm.infer.caption.ledger import Ledger, Row, encoded
from jvlm.infer.caption.plan import Plan
from jvlm.infer.caption.prompts import fill, templates
from jvlm.sample import ImageRef, Message, Sample

NAMES = {
    "jsonl": "captions.jsonl",
    "jsonl.zst": "captions.jsonl.zst",
    "parquet": "captions.parquet",
    "txt": "captions",
    "shards": "shards",
}
_ZSTD_LEVEL = 10
_ROW_GROUP = 20_000
_INTEGERS = ("n_tokens", "seed", "n_characters")
_SHARES = ("japanese", "simplified_chinese", "latin", "repetition", "clip_score")

Write = Callable[[list[Row]], object]


def check_formats(formats: tuple[str, ...]) -> None:
    """Raises UsageError for one that is not known, or whose package is missing."""
    for name in formats:
        if name not in NAMES:
            raise UsageError(f"no format '{name}'", fix=f"known: {', '.join(NAMES)}")
    if "parquet" in formats:
        pyarrow("--format parquet")


def merge(out: Path, plan: Plan, ledger: Ledger, formats: tuple[str, ...], look: Write) -> dict[str, Any]:
    """Write the outputs; returns, for shards, how many rows stand there and not. `look` is shown every row, in order.

    Without any caption there are no shards: there is nothing to train on.

    Raises Torn for a unit that is not whole.
    """
    written: dict[str, Any] = {}
    with ExitStack() as open_outputs:
        chosen = [_WRITERS[name](out / NAMES[name]) for name in formats if name in _WRITERS]
        writers = [open_outputs.enter_context(writer) for writer in chosen]
        for rows in _units(plan, ledger):
            for write in (*writers, look):
                write(rows)
    if "shards" in formats:
        left_out: list[str] = []
        samples = _samples(plan, ledger, left_out)
        first = next(samples, None)
        card = write_shards(chain([first], samples), out / NAMES["shards"]) if first else {"num_samples": 0}
        written = {"shards": {"samples": card["num_samples"], "left_out": len(left_out)}}
    return written


def _units(plan: Plan, ledger: Ledger) -> Iterator[list[Row]]:
    """The rows of every unit, with `duplicate_of`: the first row whose picture looks the same."""
    first, per_item = FirstSeen(), plan.settings.rows_per_item
    for unit in range(plan.units):
        rows = ledger.rows(unit)
        for begin in range(0, len(rows), per_item):
            of_item = rows[begin : begin + per_item]
            looks = of_item[0]["phash"]
            single = looks is not None and " " not in looks
            like = first.first_like(int(looks, 16), of_item[0]["id"]) if single else None
            for row in of_item:
                row["duplicate_of"] = like
        yield rows


@contextmanager
def _jsonl(path: Path) -> Iterator[Write]:
    with new_file(path) as file:
        yield lambda rows: file.write(b"".join(map(encoded, rows)))


@contextmanager
def _jsonl_zst(path: Path) -> Iterator[Write]:
    with new_file(path) as file, zstandard.ZstdCompressor(level=_ZSTD_LEVEL).stream_writer(file, closefd=False) as out:
        yield lambda rows: out.write(b"".join(map(encoded, rows)))


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    arrow = pyarrow(str(path))
    held: list[Row] = []
    writer: Any = None
    with new_file(path) as file:

        def write(rows: list[Row], last: bool = False) -> None:
            nonlocal writer
            held.extend(rows)
            if held and (last or len(held) >= _ROW_GROUP):
                schema = arrow.schema([(name, _arrow_type(arrow, name)) for name in held[0]])
                writer = writer or arrow.parquet.ParquetWriter(file, schema)
                writer.write_table(arrow.Table.from_pylist(held, schema))
                held.clear()

        yield write
        write([], last=True)
        writer.close()


def _arrow_type(arrow: Any, column: str) -> Any:
    if column in _INTEGERS:
        return arrow.int64()
    return arrow.float64() if column in _SHARES else arrow.string()


@contextmanager
def _text_files(path: Path) -> Iterator[Write]:
    """`a/b.txt` for `a/b.jpg`, as trainers look for them; `a/b.png.txt` for a second one of that name."""
    taken: set[str] = set()
    with new_folder(path) as new:

        def write(rows: list[Row]) -> None:
            for row in rows:
                if row["status"] != "ok":
                    continue
                whole = _safe_name(row["id"])
                short, other = str(PurePosixPath(whole).with_suffix("")), _hashed(row["id"])
                name = next(name for name in (short, whole, other) if name not in taken)
                taken.add(name)
                file = new / f"{name}.txt"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes((row["text"] + "\n").encode())

        yield write


def _safe_name(identity: str) -> str:
    """An id as a path below a folder; its hash where it is none."""
    parts = PurePosixPath(identity).parts
    plain = bool(parts) and not identity.startswith("/") and all(part not in ("..", ".") for part in parts)
    plain = plain and "\0" not in identity and "://" not in identity and max(len(p.encode()) for p in parts) <= 200
    return str(PurePosixPath(*parts)) if plain else _hashed(identity)


def _hashed(identity: str) -> str:
    return "id_" + sha256_bytes(identity.encode())[:32]


def _samples(plan: Plan, ledger: Ledger, left_out: list[str]) -> Iterator[Sample]:
    """What was captioned, with its pictures, as samples to train on. A picture that changed since, or of a kind that
    shards do not hold (DICOM), is left out.
    """
    settings = plan.settings
    for unit in range(plan.units):
        rows = iter(ledger.rows(unit))
        for item in plan.items(unit):
            answered = [next(rows) for _ in range(settings.rows_per_item)]
            if all(row["status"] != "ok" for row in answered):
                continue
            try:
                found = content(item, settings.images)
                images = [image_bytes(image) for image in found.images]
            except DataError:
                left_out.append(item.id)
                continue
            hashes = " ".join(map(sha256_bytes, images))
            if hashes != answered[0]["image_sha256"] or not all(map(image_extension, images)):
                left_out.append(item.id)
                continue
            for template, row in zip(templates(settings.prompts, found.fields), answered, strict=True):
                if row["status"] == "ok" and row["text"].strip():
                    asked = Message("user", [*range(len(images)), fill(template, found.fields)])
                    meta = {key: row[key] for key in ("image_sha256", "model_hash", "prompt_hash")}
                    said = Message("assistant", [row["text"]])
                    yield Sample(row["id"], [asked, said], [ImageRef(data=data) for data in images], meta=meta)


_WRITERS: dict[str, Callable[[Path], AbstractContextManager[Write]]] = {
    "jsonl": _jsonl,
    "jsonl.zst": _jsonl_zst,
    "parquet": _parquet,
    "txt": _text_files,
}
