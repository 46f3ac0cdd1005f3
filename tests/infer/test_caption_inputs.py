"""What can be captioned: folders, globs, lists, shards, Parquet, JSONL, here and elsewhere; prompts with fields."""

import json
import os
import tarfile
from io import BytesIO
from pathlib import Path

import fsspec
import pytest
from caption_process import Hashing, run
from fsspec.implementations.memory import MemoryFile
from tiny import encoded_image, samples

from jvlm.errors import DataError, UsageError
from jvlm.files import read_json_lines, sha256_bytes
from jvlm.images.shards import download as transport
from jvlm.images.shards import write_shards
from jvlm.infer.caption.content import content
from jvlm.infer.caption.inputs import list_items
from jvlm.infer.caption.prompts import fill
from jvlm.sample import CAPTION_PROMPT

MEMORY = "memory://bucket"


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "in"
    for number, name in enumerate(("a.png", "deep/b.png", "deep/er/c.jpg")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded_image(number))
    return root


@pytest.fixture
def bucket(folder, monkeypatch):
    """The folder in fsspec's memory."""
    monkeypatch.setattr(transport, "FIRST_PAUSE_SECONDS", 0.001)
    files = fsspec.filesystem("memory")
    files.put(str(folder), "/bucket/in", recursive=True)
    yield files
    files.rm("/bucket", recursive=True)


def rows(source, tmp_path, name="out", **options):
    run(source, tmp_path / name, max_failures=1, **options)
    return read_json_lines(tmp_path / name / "captions.jsonl")


def ids(source):
    return [item.id for item in list_items(str(source))]


def mark(number):
    """What the model of these tests says of an image."""
    return sha256_bytes(encoded_image(number))[:8]


def test_folders_globs_and_lists(folder, tmp_path):
    assert ids(folder) == ["a.png", "deep/b.png", "deep/er/c.jpg"]
    assert ids(folder / "a.png") == ["a.png"]
    assert ids(folder / "deep" / "**" / "*.jpg") == ["er/c.jpg"]
    assert ids(f"{folder}/*/b.*") == ["deep/b.png"]
    listed = folder / "list.txt"
    listed.write_text(f"a.png\n\n{folder}/deep/b.png\nnone.png\n")
    assert ids(listed) == ["a.png", f"{folder}/deep/b.png", "none.png"]
    found = rows(listed, tmp_path)
    assert [row["error_code"] for row in found] == [None, None, "unreadable"]
    assert found[1]["text"] == f"{mark(1)} {CAPTION_PROMPT}"
    with pytest.raises(DataError, match="file or folder not found"):
        ids(folder / "none")
    for address in ("pipe:cat a.png", "gopher://a/b"):
        with pytest.raises(UsageError):
            ids(address)


def test_links_to_folders_are_followed_once(folder):
    """Under the real name where there is one here, however many links there are, and never in a circle."""
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "far.png").write_bytes(encoded_image(7))
    for link, target in (("a-link", "deep"), ("deep/up", ".."), ("set", elsewhere), ("set-2", elsewhere)):
        (folder / link).symlink_to(target)
    (elsewhere / "back").symlink_to(folder)
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    assert ids(folder) == ["a.png", "deep/b.png", "deep/er/c.jpg", "gone.png", "set/far.png"]
    assert ids(folder / "**" / "*.png") == ["a.png", "deep/b.png", "gone.png", "set/far.png"]
    assert ids(folder / "*" / "*.png") == ["a-link/b.png", "deep/b.png", "set-2/far.png", "set/far.png"]
    assert ids(folder / "**") == ids(folder)
    assert ids(folder / "deep" / "**" / "er" / "**" / "?.jpg") == ["er/c.jpg"]
    back = ["back/a.png", "back/deep/b.png", "back/deep/er/c.jpg", "back/gone.png"]
    assert ids(folder / "set") == [*back, "far.png"]


def test_a_job_goes_on_from_another_working_folder(folder, tmp_path, monkeypatch):
    (folder / "rows").mkdir()
    lines = [json.dumps({"id": name, "image": name}) for name in ("a.png", "deep/b.png")]
    (folder / "rows" / "t.jsonl").write_text("\n".join(lines) + "\n")
    for source, options in ((folder, {}), (folder / "rows", {"images": str(folder)})):
        whole = rows(source, tmp_path, f"whole-{source.name}", **options)
        monkeypatch.chdir(folder.parent)
        options = {name: os.path.relpath(value) for name, value in options.items()}
        model, out = Hashing(), tmp_path / f"out-{source.name}"
        model.dies_at = 1
        with pytest.raises(KeyboardInterrupt):
            run(os.path.relpath(source), out, model, unit=1, **options)
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / "elsewhere")
        options = {name: os.path.relpath(folder) for name in options}
        assert rows(os.path.relpath(source), tmp_path, out.name, unit=1, **options) == whole


def test_a_file_may_have_colons_in_its_name(folder, tmp_path):
    (folder / "a::b.png").write_bytes(encoded_image(5))
    assert [row["status"] for row in rows(folder, tmp_path)] == ["ok"] * 4


def test_a_bucket_is_read_like_a_folder(bucket, folder, tmp_path):
    assert ids(f"{MEMORY}/in") == ids(folder)
    assert ids(f"{MEMORY}/in/deep/*.png") == ["b.png"]
    assert ids(f"{MEMORY}/in/a.png") == ["a.png"]
    here, there = rows(folder, tmp_path, "here"), rows(f"{MEMORY}/in", tmp_path, "there", formats=("jsonl", "shards"))
    assert here == there
    (tmp_path / "far.txt").write_text(f"{MEMORY}/in/a.png\n{MEMORY}/in/none.png\n")
    assert [row["error_code"] for row in rows(tmp_path / "far.txt", tmp_path, "far")] == [None, "unreadable"]


def test_a_network_that_fails_is_asked_again(bucket, tmp_path, monkeypatch):
    real, tries = transport.file_system, []

    def flaky(url):
        tries.append(url)
        if url.endswith("a.png") and tries.count(url) < 4:
            raise OSError("connection reset")
        if url.endswith("b.png"):
            raise OSError("connection reset")
        return real(url)

    monkeypatch.setattr(transport, "file_system", flaky)
    found = {row["id"]: row for row in rows(f"{MEMORY}/in", tmp_path)}
    assert found["a.png"]["status"] == found["deep/er/c.jpg"]["status"] == "ok"
    assert found["deep/b.png"]["error_code"] == "unreadable"
    assert "connection reset (5 attempts)" in found["deep/b.png"]["error"]


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_rows_of_jsonl_with_fields_questions_and_several_images(where, bucket, folder, tmp_path):
    table = [
        {"id": "q1", "image": "a.png", "question": "何色ですか。"},
        {"id": 7, "images": ["a.png", "deep/b.png"], "question": "違いは？", "tags": ["赤", "青"]},
        {"image": "deep/er/c.jpg"},
        {"image": "../../etc/passwd"},
        {"question": "画像は？"},
        {"image": "https://example.org/a.png"},
    ]
    lines = [json.dumps(row, ensure_ascii=False) for row in table]
    data = ("\n".join([*lines[:3], "{broken", "", *lines[3:]]) + "\n").encode()
    (folder / "deep").joinpath("x.md").write_text("")
    (folder / "rows.jsonl").write_bytes(data)
    bucket.pipe("/bucket/in/rows.jsonl", data)
    source = folder / "rows.jsonl" if where == "here" else f"{MEMORY}/in/rows.jsonl"
    found = rows(source, tmp_path, unit=2)
    names = ["q1", "7", "rows-00000003", "rows-00000004", "rows-00000006", "rows-00000007", "rows-00000008"]
    assert [row["id"] for row in found] == names
    asked = [f"{mark(0)} 何色ですか。", f"{mark(0)} 違いは？", f"{mark(2)} {CAPTION_PROMPT}"]
    assert [row["text"] for row in found] == [*asked, None, None, None, None]
    assert [row["error_code"] for row in found[3:]] == ["bad_row"] * 4
    assert found[1]["image_sha256"] == f"{sha256_bytes(encoded_image(0))} {sha256_bytes(encoded_image(1))}"
    assert len(found[1]["phash"].split()) == 2
    if where == "here":
        assert found == rows(f"{MEMORY}/in/rows.jsonl", tmp_path, "there", unit=2)


def test_prompts_with_fields(folder, tmp_path):
    (folder / "rows.jsonl").write_text(
        json.dumps({"id": "x", "image": "deep/b.png", "artist": "北斎", "year": 1831})
        + "\n"
        + json.dumps({"id": "y", "image": "a.png", "artist": None, "year": 0})
    )
    prompts = ("{artist}の{name}（{directory}）", "{{{year}}}年")
    found = rows(folder / "rows.jsonl", tmp_path, prompts=prompts)
    assert [row["id"] for row in found] == ["x#1", "x#2", "y#1", "y#2"]
    texts = [f"{mark(1)} 北斎のb（deep）", f"{mark(1)} {{1831}}年", None, f"{mark(0)} {{0}}年"]
    assert [row["text"] for row in found] == texts
    assert (found[2]["error_code"], found[2]["error"]) == ("bad_row", "the row has no 'artist', which the prompt names")
    assert found[0]["prompt_hash"] != found[1]["prompt_hash"] == found[3]["prompt_hash"]
    assert [row["text"] for row in rows(folder, tmp_path, "names", prompts=("{directory}/{name}",))] == [
        f"{mark(0)} /a",
        f"{mark(1)} deep/b",
        f"{mark(2)} deep/er/c",
    ]
    assert fill("{a}", {"a": "{b}", "b": "x"}) == "{b}"  # what a row says is no template


def test_an_id_that_stands_twice_is_refused(folder, tmp_path):
    (folder / "rows.jsonl").write_text('{"id": "x", "image": "a.png"}\n' * 2)
    with pytest.raises(DataError, match="x: two items have this id"):
        rows(folder / "rows.jsonl", tmp_path)


def test_parquet_with_bytes_and_with_names(folder, tmp_path, bucket):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table = {
        "id": [f"r{n}" for n in range(5)],
        "image": [{"bytes": encoded_image(n), "path": f"{n}.png"} for n in range(4)] + [None],
        "question": ["何？", None, "どこ？", "誰？", "無い？"],
    }
    pyarrow.parquet.write_table(arrow.table(table), tmp_path / "t.parquet", row_group_size=2)
    found = rows(tmp_path / "t.parquet", tmp_path, unit=2)
    assert [row["id"] for row in found] == table["id"]
    asked = ["何？", CAPTION_PROMPT, "どこ？", "誰？"]
    assert [row["text"] for row in found] == [*(f"{mark(n)} {q}" for n, q in enumerate(asked)), None]
    bucket.pipe("/bucket/t.parquet", (tmp_path / "t.parquet").read_bytes())
    assert rows(f"{MEMORY}/t.parquet", tmp_path, "far", unit=2) == found
    (tmp_path / "tables").mkdir()
    pyarrow.parquet.write_table(arrow.table({"file_name": ["a.png", "deep/b.png"]}), tmp_path / "tables" / "n.parquet")
    named = rows(tmp_path / "tables", tmp_path, "named", images=str(folder))
    assert [row["id"] for row in named] == ["n-00000001", "n-00000002"]
    assert [row["status"] for row in named] == ["ok", "ok"]
    (tmp_path / "tables" / "n.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(DataError, match="not a Parquet file"):
        ids(tmp_path / "tables")


def test_a_network_that_fails_in_a_table_is_asked_again_and_does_not_end_the_job(bucket, tmp_path, monkeypatch):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    class NetworkGone(Exception):
        """As the libraries below fsspec raise: no OSError."""

    for name, number in (("a", 1), ("b", 2)):
        file = BytesIO()
        pyarrow.parquet.write_table(arrow.table({"id": [name], "image": [encoded_image(number)]}), file)
        bucket.pipe(f"/bucket/t/{name}.parquet", file.getvalue())
    items, failing = [*list_items(f"{MEMORY}/t")], {"a": 3, "b": 99}

    def flaky(file, *size):
        name = file.path.rpartition("/")[2][0]
        failing[name] -= 1
        if failing[name] >= 0:
            raise NetworkGone("connection reset")
        return BytesIO.read(file, *size)

    monkeypatch.setattr(MemoryFile, "read", flaky)
    assert content(items[0]).images == [encoded_image(1)]
    with pytest.raises(DataError, match=r"connection reset \(5 attempts\)"):
        content(items[1])


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, BytesIO(data))


def test_shards_of_others_and_of_ours(tmp_path, bucket):
    (tmp_path / "wds").mkdir()
    with tarfile.open(tmp_path / "wds" / "0.tar", "w") as tar:
        for number in range(3):
            add(tar, f"k{number}.jpg", encoded_image(number))
            add(tar, f"k{number}.json", json.dumps({"title": f"題{number}"}).encode())
            add(tar, f"k{number}.txt", f"文{number}".encode())
        add(tar, "two.10.png", encoded_image(11))
        add(tar, "two.2.png", encoded_image(10))
        add(tar, "bad.pkl", b"x")
        add(tar, "none.txt", b"x")
    found = rows(tmp_path / "wds", tmp_path, prompts=("{title}：{txt}",), unit=2)
    assert [row["id"] for row in found] == ["0:k0", "0:k1", "0:k2", "0:two", "0:bad", "0:none"]
    assert [row["text"] for row in found][:3] == [f"{mark(n)} 題{n}：文{n}" for n in range(3)]
    assert [row["error_code"] for row in found][3:] == ["bad_row"] * 3
    plain = {row["id"]: row for row in rows(tmp_path / "wds", tmp_path, "plain")}
    assert plain["0:two"]["text"] == f"{mark(10)} {CAPTION_PROMPT}"
    assert "pickle" in plain["0:bad"]["error"]
    bucket.put(str(tmp_path / "wds"), "/bucket/wds", recursive=True)
    assert rows(f"{MEMORY}/wds/0.tar", tmp_path, "far") == list(plain.values())

    whole = (tmp_path / "wds" / "0.tar").read_bytes()
    (tmp_path / "wds" / "0.tar").write_bytes(whole[:8000])  # torn in the second sample
    torn = rows(tmp_path / "wds", tmp_path, "torn")
    assert torn[0]["status"] == "ok"
    assert {row["status"] for row in torn[1:]} == {"error"}

    given = samples("captions_train", 5)
    write_shards(given, tmp_path / "ours", samples_per_shard=3)
    ours = rows(tmp_path / "ours", tmp_path, "from-ours")
    assert [row["text"][:8] for row in ours] == [sha256_bytes(s.images[0].read())[:8] for s in given]


def test_a_table_never_leads_out_of_its_folder(folder):
    (folder / "rows.jsonl").write_text(json.dumps({"image": "x/../../secret.png"}) + "\n")
    (folder.parent / "secret.png").write_bytes(encoded_image(3))
    (item,) = list_items(str(folder / "rows.jsonl"))
    with pytest.raises(DataError, match="leads out of the folder"):
        content(item)
    assert Path(item.at[1]) == folder / "rows.jsonl"
