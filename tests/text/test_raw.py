import gzip
import json
from pathlib import Path

import pytest
import zstandard

from jvlm.errors import DataError
from jvlm.text.raw import InputError, read_documents

ROWS = [{"text": "猫がいる。", "id": "a"}, {"text": "犬がいる。", "license": "CC0", "id": None}]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_every_container_gives_the_same_documents(tmp_path: Path, suffix: str) -> None:
    pack = {".jsonl": bytes, ".jsonl.gz": gzip.compress, ".jsonl.zst": zstandard.ZstdCompressor().compress}[suffix]
    (tmp_path / f"x{suffix}").write_bytes(pack(LINES))
    errors: list[InputError] = []
    documents = list(read_documents(tmp_path, "src", errors, licence="CC BY"))
    assert [d.text for d in documents] == ["猫がいる。", "犬がいる。"]
    assert [d.id for d in documents] == ["a", f"src/x{suffix}:2"]
    assert [(d.licence, d.line) for d in documents] == [("CC BY", 1), ("CC0", 2)]
    assert not errors


def test_parquet_rows_are_documents_like_json_rows(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    many = [{"text": f"{n}番。", "id": None, "license": None} for n in range(3000)] + [{"text": None, "id": "x"}]
    parquet.write_table(pyarrow.Table.from_pylist([*ROWS, *many]), tmp_path / "x.parquet")
    errors: list[InputError] = []
    documents = list(read_documents(tmp_path, "src", errors, licence="CC BY"))
    assert len(documents) == 3002
    assert [(d.id, d.text, d.line) for d in documents[:3]] == [
        ("a", "猫がいる。", 1), ("src/x.parquet:2", "犬がいる。", 2), ("src/x.parquet:3", "0番。", 3)
    ]  # fmt: skip
    assert [(e.where, e.what) for e in errors] == [(f"{tmp_path / 'x.parquet'}:3003", "no text in field 'text'")]
    (tmp_path / "x.parquet").write_bytes(b"PAR1 torn")
    errors.clear()
    assert list(read_documents(tmp_path, "src", errors)) == []
    assert errors[0].where == str(tmp_path / "x.parquet")


def test_a_text_file_is_one_document_and_files_come_sorted(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes("\ufeff二\n三".encode())
    (tmp_path / "a.txt").write_text("一")
    (tmp_path / "note.md").write_text("no")
    documents = list(read_documents(tmp_path, "s", []))
    assert [(d.id, d.text, d.line) for d in documents] == [("s/a.txt", "一", 0), ("s/b.txt", "二\n三", 0)]


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    for name in ("corpus/a", "elsewhere", "corpus/.cache"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x.txt").write_text(name)
    (tmp_path / "corpus" / "again").symlink_to("a")
    (tmp_path / "corpus" / "far").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "corpus")
    errors: list[InputError] = []
    assert [d.id for d in read_documents(tmp_path / "corpus", "src", errors)] == ["src/a/x.txt", "src/far/x.txt"]
    assert not errors


def test_bad_rows_are_recorded_with_their_line_and_reading_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_bytes(b'{"text": 1}\nnonsense\n[]\n\n{"text": "\\ud800"}\n\xff\xfe\n{"text": " "}\n' + LINES)
    (tmp_path / "bad.txt").write_bytes("日本".encode("cp932"))
    errors: list[InputError] = []
    assert len(list(read_documents(tmp_path, "s", errors))) == 2
    assert [e.where for e in errors] == [str(tmp_path / "bad.txt"), *(f"{file}:{n}" for n in (1, 2, 3, 5, 6, 7))]
    assert all(e.what for e in errors)


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_a_torn_stream_is_recorded(tmp_path: Path, suffix: str) -> None:
    rows = b"".join(json.dumps({"text": f"{n * 7919 % 104729}番の文。"}).encode() + b"\n" for n in range(30000))
    packed = gzip.compress(rows) if suffix == ".jsonl.gz" else zstandard.ZstdCompressor().compress(rows)
    (tmp_path / f"x{suffix}").write_bytes(packed[: len(packed) // 2])
    errors: list[InputError] = []
    assert 0 < len(list(read_documents(tmp_path, "s", errors))) < 30000
    assert errors


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(read_documents(tmp_path / "absent", "s", []))
    with pytest.raises(DataError, match="no text files"):
        list(read_documents(tmp_path, "s", []))
    (tmp_path / "x.pdf").write_text("x")
    with pytest.raises(DataError, match="known kind"):
        list(read_documents(tmp_path / "x.pdf", "s", []))
