"""Shards that are elsewhere: fetched whole, checked, kept within bounds; the same samples as in the folder."""

import multiprocessing
import pickle
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zstandard
from tiny import encoded_image

from jvlm.errors import DataError, UsageError
from jvlm.files import read_json, sha256_bytes, write_json
from jvlm.images.shards import ShardReader, check_shards, open_shards, remote, write_shards
from jvlm.images.shards import download as transport
from jvlm.sample import ImageRef, Message, Sample

SHARDS, PER_SHARD = 6, 4
URL = "memory://bucket/set"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remote") / "set"
    write_shards(
        (
            Sample(f"s{n}", [Message("user", [0, f"何番{n}"])], [ImageRef(data=encoded_image(n, (8 + n % 5, 8)))])
            for n in range(SHARDS * PER_SHARD)
        ),
        folder,
        samples_per_shard=PER_SHARD,
    )
    return folder


@pytest.fixture
def bucket(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """The folder in fsspec's memory."""
    monkeypatch.setattr(transport, "FIRST_PAUSE_SECONDS", 0.001)
    files = fsspec.filesystem("memory")
    files.put(str(folder), "/bucket/set", recursive=True)
    yield files
    files.rm("/bucket", recursive=True)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are brought, as they are."""
    names: list[str] = []
    real = transport._attempt

    def attempt(url: str, *arguments: object) -> str | None:
        names.append(url.rpartition("/")[2])
        return real(url, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(transport, "_attempt", attempt)
    return names


def tar(number: int) -> str:
    return f"SHARD-{number:06d}.tar"


def same(reader: ShardReader, local: ShardReader) -> bool:
    return all(reader.read(i) == local.read(i) for i in range(len(local)))


def test_the_same_samples_as_in_the_folder(folder: Path, bucket: object, fetched: list[str], tmp_path: Path) -> None:
    local, reader = ShardReader(folder), open_shards(URL, cache=tmp_path)
    assert fetched == ["dataset.json", "index.npz", "records.jsonl.zst"]
    for i in range(len(local)):  # what plans need costs no shard
        assert reader.record(i) == local.record(i)
        assert reader.sizes(i) == local.sizes(i) == [(8 + i % 5, 8)]
    assert len(fetched) == 3
    assert reader.read(5) == local.read(5)
    assert fetched[3:] == [tar(1)]
    assert same(reader, local)
    assert sorted(fetched[3:]) == [tar(n) for n in range(SHARDS)]
    fetched.clear()
    assert same(open_shards(URL, cache=tmp_path), local)
    assert fetched == ["dataset.json"]  # the rest is in the cache
    for i in (len(local), -1):
        with pytest.raises(IndexError):
            reader.read(i)


def test_every_kind_of_address(folder: Path, tmp_path: Path) -> None:
    assert type(open_shards(folder)) is type(open_shards(str(folder))) is ShardReader
    assert open_shards(folder).buffer is None
    reader = open_shards(f"file://{folder}/", buffer=5, cache=tmp_path)
    assert same(reader, ShardReader(folder))
    assert reader.buffer == 5
    assert reader.fingerprint != open_shards(f"file://{folder}", buffer=6, cache=tmp_path).fingerprint
    assert reader.where(4, 0) == f"file://{folder}/{tar(1)}:s4:0"
    for refused in ("pipe:cat /etc/passwd", "ftp://host/set", "zip://x::https://host/y", "gopher://x/y"):
        with pytest.raises(UsageError, match="a folder"):
            open_shards(refused, cache=tmp_path)


def test_over_http(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    monkeypatch.setattr(transport, "FIRST_PAUSE_SECONDS", 0.001)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/set"
    try:
        assert same(open_shards(url, cache=tmp_path), ShardReader(folder))
        with pytest.raises(DataError, match=r"/nowhere/dataset\.json: no such file"):
            open_shards(url.replace("set", "nowhere"), cache=tmp_path)
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(DataError, match=r"dataset\.json: cannot be fetched.*5 attempts.*again later"):
        open_shards(url, cache=tmp_path)


# --- faults -----------------------------------------------------------------------------------------------------


def test_what_passes_is_tried_again(
    folder: Path, bucket: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = type(bucket).get_file, iter([True, True, False] * 20)

    def flaky(self: object, *arguments: object, **options: object) -> None:
        if next(failures):
            raise ConnectionResetError("reset by peer")
        real(self, *arguments, **options)

    monkeypatch.setattr(type(bucket), "get_file", flaky)
    assert same(open_shards(URL, cache=tmp_path), ShardReader(folder))
    monkeypatch.setattr(transport, "ATTEMPTS", 2)
    with pytest.raises(DataError, match=rf"{URL}/dataset\.json: cannot be fetched: reset by peer \(2 attempts\)"):
        open_shards(URL, cache=tmp_path / "other")
    assert not list((tmp_path / "other").rglob("*.tmp"))


def test_a_changed_shard_is_refused(bucket: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    data = bytearray(bucket.cat(f"/bucket/set/{tar(2)}"))
    data[600] ^= 1
    bucket.pipe(f"/bucket/set/{tar(2)}", bytes(data))
    reader = open_shards(URL, cache=tmp_path)
    with pytest.raises(DataError, match=rf"{URL}/{tar(2)}: content differs from its hash"):
        reader.read(2 * PER_SHARD)
    bucket.rm(f"/bucket/set/{tar(3)}")
    with pytest.raises(DataError, match=rf"{URL}/{tar(3)}: no such file"):
        reader.read(3 * PER_SHARD)
    assert reader.read(0).id == "s0"
    assert not list(tmp_path.rglob("*.tmp"))
    bucket.pipe("/bucket/set/index.npz", b"PK")
    with pytest.raises(DataError, match=r"index\.npz: content differs"):
        open_shards(URL, cache=tmp_path / "other")


def test_a_new_version_of_a_set_does_not_meet_the_old_ones_files(
    folder: Path, bucket: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    assert same(open_shards(URL, cache=tmp_path / "cache"), ShardReader(folder))
    write_shards([Sample("other", [Message("user", ["何"])])], tmp_path / "set")
    bucket.put(str(tmp_path / "set" / "*"), "/bucket/set/")
    assert open_shards(URL, cache=tmp_path / "cache").ids == ["other"]


def test_a_set_without_records_has_to_be_built_again(folder: Path, tmp_path: Path) -> None:
    card = read_json(folder / "dataset.json")
    del card["records_sha256"]
    write_json(tmp_path / "set" / "dataset.json", card)
    (tmp_path / "set" / "index.npz").write_bytes((folder / "index.npz").read_bytes())
    with pytest.raises(DataError, match=r"lacks its shards or a hash.*build it again"):
        open_shards(f"file://{tmp_path}/set", cache=tmp_path / "cache")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UsageError, match=r"s3://bucket/set/dataset\.json: .*jvlm\[remote\]"):
        open_shards("s3://bucket/set", cache=tmp_path)


# --- the cache --------------------------------------------------------------------------------------------------


def taken(cache: Path) -> int:
    return sum(path.stat().st_size for path in cache.rglob("*.tar"))


def test_the_cache_keeps_to_its_size_and_what_was_used_last(
    folder: Path, bucket: object, fetched: list[str], tmp_path: Path
) -> None:
    size = max(path.stat().st_size for path in folder.glob("*.tar"))
    local, reader = ShardReader(folder), open_shards(URL, cache=tmp_path, cache_bytes=3 * size + 100)
    for shard in (0, 1, 2, 0, 3):  # the last one drives out shard 1: 0 was used after it
        assert reader.read(shard * PER_SHARD) == local.read(shard * PER_SHARD)
        assert taken(tmp_path) <= 3 * size + 100
    assert sorted(path.name for path in tmp_path.rglob("*.tar")) == [tar(0), tar(2), tar(3)]
    for i in np.random.default_rng(0).permutation(len(local)).tolist():
        assert reader.read(i) == local.read(i)
        assert taken(tmp_path) <= 3 * size + 100
    assert len(fetched) > 3 + SHARDS, "shards were driven out and came again"
    assert same(open_shards(URL, cache=tmp_path, cache_bytes=1), local), "one shard is always there"


def test_threads_share_a_small_cache(folder: Path, bucket: object, tmp_path: Path) -> None:
    size = max(path.stat().st_size for path in folder.glob("*.tar"))
    local, reader = ShardReader(folder), open_shards(URL, cache=tmp_path, cache_bytes=2 * size)

    def read(seed: int) -> bool:
        order = np.random.default_rng(seed).permutation(len(local)).tolist()
        return all(reader.read(i) == local.read(i) for i in order)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(read, range(6)))


def test_two_readers_bring_a_shard_once(bucket: object, fetched: list[str], tmp_path: Path) -> None:
    readers = [open_shards(URL, cache=tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda reader: reader.read(0), readers))
    assert fetched.count(tar(0)) == 1


def comes(cache: Path, name: str) -> bool:
    """Whether a file is in the cache within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if list(cache.rglob(name)):
            return True
        time.sleep(0.01)
    return False


def test_a_reader_can_be_pickled_and_forked(folder: Path, bucket: object, tmp_path: Path) -> None:
    local, reader = ShardReader(folder), open_shards(URL, cache=tmp_path, buffer=PER_SHARD)
    reader.will_read(np.arange(len(reader)))
    assert reader.read(0) == local.read(0)  # its thread is there
    assert same(pickle.loads(pickle.dumps(reader)), local)
    for path in tmp_path.rglob("*.tar"):
        path.unlink()
    fork = multiprocessing.get_context("fork")
    queue = fork.SimpleQueue()

    def read_in_child() -> None:
        reader.read(3 * PER_SHARD)
        beforehand = comes(tmp_path, tar(4))  # by a thread of its own
        queue.put(beforehand and same(reader, local))

    child = fork.Process(target=read_in_child)
    child.start()
    assert queue.get()
    child.join()


def test_records_that_do_not_fit_the_index_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "set")
    for content, fault in ((zstandard.compress(b"{}\n"), "does not fit"), (b"zstd", "cannot be unpacked")):
        (tmp_path / "set" / "records.jsonl.zst").write_bytes(content)
        card = read_json(folder / "dataset.json") | {"records_sha256": sha256_bytes(content)}
        write_json(tmp_path / "set" / "dataset.json", card)
        with pytest.raises(DataError, match=fault):
            open_shards(f"file://{tmp_path}/set", cache=tmp_path / "cache")
        assert any("records.jsonl.zst: " in line for line in check_shards(tmp_path / "set"))


def test_the_next_shards_come_beforehand(folder: Path, bucket: object, fetched: list[str], tmp_path: Path) -> None:
    reader = open_shards(URL, cache=tmp_path, buffer=PER_SHARD)
    order = np.concatenate([np.arange(PER_SHARD) + PER_SHARD * shard for shard in (4, 1, 5, 0, 2, 3)])
    reader.will_read(np.concatenate([order, order[::-1]]))  # two passes
    reader.read(4 * PER_SHARD)
    assert comes(tmp_path, tar(5))
    assert fetched[3:] == [tar(4), tar(1), tar(5)]
    for i in [*order[PER_SHARD:], *order[::-1]]:
        reader.read(int(i))
    assert sorted(fetched[3:]) == [tar(n) for n in range(SHARDS)]
    assert reader._cache._at == 2 * SHARDS - 1  # type: ignore[attr-defined]


def test_a_failed_fetch_beforehand_harms_nobody(bucket: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    bucket.rm(f"/bucket/set/{tar(1)}")
    reader = open_shards(URL, cache=tmp_path)
    reader.will_read(np.arange(len(reader)))
    for i in range(PER_SHARD):
        assert reader.read(i).id == f"s{i}"
    with pytest.raises(DataError, match="no such file"):
        reader.read(PER_SHARD)
    assert reader.read(2 * PER_SHARD).id == f"s{2 * PER_SHARD}"


def test_cache_and_its_size_may_come_from_the_environment(
    bucket: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JVLM_SHARD_CACHE", str(tmp_path / "here"))
    monkeypatch.setenv("JVLM_SHARD_CACHE_GIB", "0.5")
    reader = open_shards(URL)
    reader.read(0)
    assert taken(tmp_path / "here") > 0
    assert reader._cache.cache_bytes == 2**29  # type: ignore[attr-defined]
    assert remote.CACHE_GIB == 64
