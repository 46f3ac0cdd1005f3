import json
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jvlm import audit
from jvlm.cli import app
from jvlm.errors import DataError
from jvlm.files import new_folder, write_json


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with two stages and a published model."""
    folder = tmp_path / "run"
    folder.mkdir()
    audit.started(folder, "name: made\n", 7)
    for stage in ("data", "pretrain"):
        with new_folder(folder / stage / "model") as new:
            (new / "weights").write_bytes(stage.encode())
        write_json(folder / stage / "done.json", {"stage": stage})
        audit.stage_done(folder, stage, {"loss": 0.5})
    with new_folder(folder / "model") as new:
        (new / "weights").write_bytes(b"pretrain")
    audit.published(folder)
    return folder


def _lines(run: Path) -> list[bytes]:
    return (run / audit.FILE).read_bytes().splitlines(keepends=True)


def test_an_untouched_run_has_no_fault(run: Path) -> None:
    rows = [json.loads(line) for line in _lines(run)]
    assert [row["event"] for row in rows] == ["run started", "stage done", "stage done", "model published"]
    assert rows[0]["code"]["version"]
    assert rows[0]["packages"]["torch"]
    assert rows[0]["by"]
    assert audit.verify(run) == []
    assert audit.verify(run, rows[-1]["hash"]) == []


def test_every_changed_character_of_the_trail_is_found(run: Path) -> None:
    whole = (run / audit.FILE).read_bytes()
    for place in range(0, len(whole) - 1, max(1, len(whole) // 150)):
        if whole[place : place + 1] in b"\n ":
            continue
        changed = bytearray(whole)
        changed[place] = ord("7") if changed[place] != ord("7") else ord("8")
        (run / audit.FILE).write_bytes(bytes(changed))
        with suppress(DataError):  # it is no JSON any more
            assert audit.verify(run), f"byte {place} changed unseen"


def test_lines_removed_moved_or_forged_are_found(run: Path) -> None:
    lines = _lines(run)
    for told in (lines[:1] + lines[2:], lines[1:], [lines[0], lines[2], lines[1], lines[3]], lines[:-1], lines[:2]):
        (run / audit.FILE).write_bytes(b"".join(told))
        assert audit.verify(run)
    row = json.loads(lines[1])
    row["metrics"] = {"loss": 0.1}
    row["hash"] = audit._hash({key: value for key, value in row.items() if key != "hash"})
    (run / audit.FILE).write_bytes(b"".join([lines[0], json.dumps(row).encode() + b"\n", *lines[2:]]))
    assert "follow" in audit.verify(run)[0]  # its hash fits itself, but not the next line


def test_a_trail_forged_as_a_whole_is_found_by_the_head_that_was_kept(run: Path) -> None:
    head = json.loads(_lines(run)[-1])["hash"]
    (run / audit.FILE).unlink()
    audit.started(run, "name: other\n", 8)
    for stage in ("data", "pretrain"):
        audit.stage_done(run, stage, {"loss": 0.1})
    audit.published(run)
    assert audit.verify(run) == []
    assert audit.verify(run, head)


@pytest.mark.parametrize(
    "name", ["data/done.json", "data/model/weights", "pretrain/model/hashes.json", "model/weights"]
)
def test_changed_and_missing_files_are_found(run: Path, name: str) -> None:
    (run / name).write_text("other")
    assert any(Path(name).parent.name in fault for fault in audit.verify(run))
    (run / name).unlink()
    assert audit.verify(run)


def test_a_stage_run_again_counts_as_it_was_last(run: Path) -> None:
    write_json(run / "data" / "done.json", {"stage": "data", "again": True})
    assert audit.verify(run)
    audit.stage_done(run, "data", {})
    assert audit.verify(run) == []


def test_what_is_recorded_is_not_recorded_twice(run: Path) -> None:
    before = _lines(run)
    audit.stage_done(run, "data", {"loss": 0.5})
    audit.published(run)
    assert _lines(run) == before
    assert audit.head(run) == json.loads(before[-1])["hash"]


def test_the_command_lists_faults_and_says_so_by_its_code(run: Path) -> None:
    asked = CliRunner().invoke(app, ["audit", "verify", str(run)])
    assert (asked.exit_code, asked.output.strip()) == (0, "no fault found")
    (run / "model" / "weights").write_text("other")
    told = CliRunner().invoke(app, ["audit", "verify", str(run), "--json"])
    assert told.exit_code == 3
    assert len(json.loads(told.output)["faults"]) == 1


def test_without_a_trail_there_is_nothing_to_verify(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no audit trail"):
        audit.verify(tmp_path)
