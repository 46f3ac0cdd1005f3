"""The ablation on a small made folder: who saw what, and that an arm is trained once."""

import json
from pathlib import Path

import numpy as np
import pytest
import zstandard
from typer.testing import CliRunner

from jvlm.bench import ablation
from jvlm.bench.ablation import Arm
from jvlm.cli import app
from jvlm.files import read_json_lines

WORDS = ["血液", "検査", "東京", "山", "です", "を", "した", "患者", "の", "は", "見た", "大きい", "川", "に", "行く"]
JUNK = "���� ���� ����"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    for folder, name in (("text", "news"), ("text", "quiz"), ("medical_text", "ward")):
        made = ["".join(rng.choice(WORDS, 40)) + f"。\n{JUNK}\n{n}番でした。" for n in range(60)]
        made.append(made[0] + "追記です。")  # a near copy of the first, wherever that one falls
        rows = "\n".join(json.dumps({"text": text}) for text in made)
        (tmp_path / "root" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / folder / f"{name}.jsonl.zst").write_bytes(zstandard.compress(rows.encode()))
    return tmp_path / "root"


def test_arms_are_trained_once_and_compared(root: Path, tmp_path: Path, monkeypatch) -> None:
    small = {"vocab_size": 430, "hidden_size": 32, "layers": 1, "steps": 4}
    arms = {"clean": Arm("clean", **small), "raw": Arm("raw", **small), "last": Arm("clean", last=("quiz",), **small)}
    monkeypatch.setattr(ablation, "ARMS", arms)
    monkeypatch.setattr(ablation, "PAIRS", (("clean", "raw"), ("last", "clean")))
    monkeypatch.setattr(ablation, "SEEDS", (1, 2))
    monkeypatch.setattr(ablation, "TOKENIZER_STRIDE", 1)
    out = tmp_path / "out"
    command = ["bench", "ablation", "--json", "--threads", "1", "--data-root", str(root), "--out", str(out)]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert {name: len(values) for name, values in result["bpc"].items()} == dict.fromkeys(arms, 2)
    assert all(1 < value < 15 for values in result["bpc"].values() for value in values)
    assert result["bpc"]["clean"] != result["bpc"]["raw"]
    assert result["bpc"]["clean"] != result["bpc"]["last"]
    difference = result["differences"]["clean_minus_raw"]
    means = [sum(result["bpc"][name]) / 2 for name in ("clean", "raw")]
    assert difference["value"] == pytest.approx(means[0] - means[1])
    assert "<circle" in (out / "ablation.svg").read_text()
    before = (out / "raw-2" / "done.json").stat().st_mtime_ns
    assert json.loads(CliRunner().invoke(app, command).stdout)["bpc"] == result["bpc"]
    assert (out / "raw-2" / "done.json").stat().st_mtime_ns == before


def test_raw_text_is_as_it_came_without_what_is_held_out(root: Path, tmp_path: Path) -> None:
    texts = ablation._texts(ablation.shared_inputs(root), tmp_path, 1)
    raw, held_out = read_json_lines(texts["raw"]), read_json_lines(texts["held_out"])
    assert held_out
    assert any(JUNK in row["text"] for row in raw)
    assert not any(JUNK in row["text"] for row in read_json_lines(texts["clean"]) + held_out)
    first_lines = {row["text"].split("\n")[0] for row in held_out}
    assert not any(row["text"].split("\n")[0] in first_lines for row in raw)  # nor a copy of it
    assert len(raw) < 3 * 61
