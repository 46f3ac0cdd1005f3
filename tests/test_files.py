import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jvlm import files
from jvlm.errors import DataError, JvlmError


def test_write_is_whole_and_leaves_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.bin"
    digest = files.write_bytes(path, b"abc")
    assert path.read_bytes() == b"abc"
    assert digest == files.sha256_file(path) == files.sha256_bytes(b"abc")
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(JvlmError, match="No space left on device"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_round_trip_and_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"語": [1, None]})
    assert files.read_json(path) == {"語": [1, None]}
    assert "語" in path.read_text()
    path.write_text("{")
    with pytest.raises(DataError, match=r"a\.json: not readable as JSON"):
        files.read_json(path)
    with pytest.raises(DataError, match="file not found"):
        files.read_json(tmp_path / "b.json")


def test_new_folder_commits_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with files.new_folder(folder) as aside:
        (aside / "a").write_text("one")
        assert not folder.exists()
    files.verify_folder(folder)
    interrupted = files.new_folder(folder)
    aside = interrupted.__enter__()
    (aside / "a").write_text("two")
    assert not interrupted.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert (folder / "a").read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def fill(folder: Path, text: str) -> None:
    with files.new_folder(folder) as aside:
        (aside / "a").write_text(text)


def test_a_kill_between_the_two_renames_of_a_replacement_loses_nothing(tmp_path: Path) -> None:
    folder, old = tmp_path / "out", tmp_path / ".out.old"
    fill(folder, "one")
    folder.rename(old)  # as far as the killed one came
    (tmp_path / ".out.tmp").mkdir()
    with pytest.raises(RuntimeError), files.new_folder(folder):
        raise RuntimeError
    files.verify_folder(folder)
    assert (folder / "a").read_text() == "one"
    folder.rename(old)
    fill(folder, "two")
    assert (folder / "a").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_rename_that_fails_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rename = tmp_path / "out", os.rename
    fill(folder, "one")

    def refuse(source: Path, target: Path) -> None:
        if str(source).endswith(".tmp"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(JvlmError, match="No space left"):
        fill(folder, "two")
    assert (folder / "a").read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("manifest", ["[]", "null", '{"a": 1}', '{"a": {"sha256": "0"}}', '{"\\u0000": {}}', '{"'])
def test_a_broken_manifest_is_bad_data(tmp_path: Path, manifest: str) -> None:
    fill(tmp_path / "out", "one")
    (tmp_path / "out" / files.MANIFEST).write_text(manifest)
    with pytest.raises(DataError, match=r"hashes\.json"):
        files.verify_folder(tmp_path / "out")


def test_a_removed_folder_is_gone_with_all_it_held(tmp_path: Path) -> None:
    fill(tmp_path / "out", "one")
    files.remove_folder(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(JvlmError, match="cannot write"):
        files.remove_folder(tmp_path / "out")


def test_verify_names_the_changed_file(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "out") as aside:
        (aside / "a").write_text("one")
        (aside / "b").write_text("two")
    (tmp_path / "out" / "b").write_text("twi")
    with pytest.raises(DataError, match=r"out/b: content differs"):
        files.verify_folder(tmp_path / "out")
    (tmp_path / "out" / "b").unlink()
    with pytest.raises(DataError, match=r"out/b: file is missing"):
        files.verify_folder(tmp_path / "out")


def test_ledger_survives_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    files.append_json_line(path, {"n": 1})
    with open(path, "a") as file:
        file.write('{"n": 2, "te')
    assert files.read_json_lines(path) == [{"n": 1}]
    files.append_json_line(path, {"n": 3})
    assert files.read_json_lines(path) == [{"n": 1}, {"n": 3}]


def test_ledger_refuses_a_broken_line_inside(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"n": 1}\nbroken\n{"n": 3}\n')
    with pytest.raises(DataError, match=r"log\.jsonl:2: not a JSON line"):
        files.read_json_lines(path)
    assert files.read_json_lines(tmp_path / "absent") == []


def test_lock_excludes_another_process_and_dies_with_it(tmp_path: Path) -> None:
    script = (
        "import sys, time; from jvlm.files import lock\n"
        "with lock(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(JvlmError, match="in use by another process"), files.lock(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with files.lock(tmp_path):
        pass


def test_manifest_lists_every_file(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "out") as aside:
        (aside / "deep").mkdir()
        (aside / "deep" / "a").write_text("x")
    manifest = json.loads((tmp_path / "out" / files.MANIFEST).read_text())
    assert manifest == {"deep/a": {"sha256": files.sha256_bytes(b"x"), "bytes": 1}}
