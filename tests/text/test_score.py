"""The labelled lines and what the rules do on them."""

import json
from pathlib import Path

import pytest

from jvlm.assets import asset
from jvlm.errors import DataError
from jvlm.files import read_json_lines
from jvlm.text.score import score_lines

PROFILES = ("general", "medical", "code")
LINES = asset("evals", "lines.jsonl")


def write(folder: Path, *rows: dict) -> Path:
    (folder / "lines.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return folder / "lines.jsonl"


def line(name: str, text: str, keep: bool, kind: str = "clean", split: str = "test") -> dict:
    return {"id": name, "kind": kind, "text": text, "keep": dict.fromkeys(PROFILES, keep), "split": split}


def test_the_set_is_large_enough_and_sound() -> None:
    rows = read_json_lines(LINES)
    assert min(sum(row["split"] == split for row in rows) for split in ("dev", "test")) >= 500
    assert all(set(row["keep"]) == set(PROFILES) for row in rows)
    assert len({row["id"] for row in rows}) == len({row["text"] for row in rows}) == len(rows)
    assert {row["kind"] for row in rows} == {"clean", "dirty", "clinical", "code", "dialect", "kaomoji"}
    assert not any("\n" in row["text"] for row in rows)


def test_figures_by_hand(tmp_path: Path) -> None:
    rows = [
        line("a", "診断：急性虫垂炎", True, "clinical"),
        line("b", "ログイン | 会員登録", True),  # labelled against the rules, so that precision is not one
        line("c", "昨日は雨が降った。", True),
        line("d", "続きを読む", False, "dirty"),
        line("e", "昨日は雪が降った。", False, "dirty"),
        line("f", "続きを読む", False, "dirty", "dev"),
    ]
    scores = score_lines(write(tmp_path, *rows))
    assert scores["test"]["general"] == scores["test"]["medical"] == {
        "n": 5, "recall": 1 / 2, "precision": 1 / 2, "kept": {"clean": 1 / 2, "clinical": 1.0}, "wrong": ["b", "e"]
    }  # fmt: skip
    assert scores["dev"]["general"]["recall"] == 1.0
    assert scores["test"]["code"]["recall"] == 0.0  # a page's buttons may be strings of a program


def test_good_lines_stay_above_all_clinical_ones() -> None:
    for profiles in score_lines(LINES).values():
        assert all(scores["kept"]["clinical"] >= 0.98 for scores in profiles.values())
        assert min(share for scores in profiles.values() for share in scores["kept"].values()) >= 0.97
        assert profiles["general"]["precision"] >= 0.95
        assert profiles["general"]["recall"] >= 0.45


def test_a_row_without_a_label_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lines\.jsonl:1"):
        score_lines(write(tmp_path, {"id": "a", "text": "b"}))
    with pytest.raises(DataError, match="no labelled lines"):
        score_lines(write(tmp_path))
