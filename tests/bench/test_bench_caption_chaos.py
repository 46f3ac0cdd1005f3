"""The chaos bench tells a job that lost something from one that did not."""

import json
import random

from jvlm.bench.caption_chaos import _Chaos, _make_images
from jvlm.files import sha256_bytes


def job(folder, rows, torn=b""):
    (folder / "units").mkdir(parents=True)
    lines = b"".join(json.dumps({"id": name, "error_code": None}).encode() + b"\n" for name in rows)
    (folder / "captions.jsonl").write_bytes(lines + torn)
    (folder / "units" / "000000.jsonl").write_bytes(lines)
    (folder / "units" / "000000.json").write_text(json.dumps({"sha256": sha256_bytes(lines), "seconds": 1}))


def test_what_is_lost_double_or_torn_is_counted(tmp_path):
    assert _make_images(tmp_path / "images", 3) == []
    names = [f"000/{number:06d}.jpg" for number in range(3)]
    job(tmp_path / "undisturbed", names)
    job(tmp_path / "good", names)
    job(tmp_path / "bad", [names[0], names[0]], torn=b'{"id": "000/0000')
    (tmp_path / "bad" / "units" / "000000.jsonl").write_bytes(b"{}")
    chaos = _Chaos(tmp_path, tmp_path, 1, random.Random(1), print)
    chaos._spent = {"good": (2, 1.0), "bad": (3, 1.0)}
    found = chaos.compared()
    assert found["good"] == {
        "rows": 3, "kills": 2, "missing": 0, "duplicate": 0, "torn": 0, "same_bytes": True, "seconds": 1.0,
    }  # fmt: skip
    bad = {"rows": 2, "kills": 3, "missing": 2, "duplicate": 1, "torn": 2, "same_bytes": False, "seconds": 1.0}
    assert found["bad"] == bad


def test_one_in_a_hundred_pictures_is_cut_short(tmp_path):
    assert _make_images(tmp_path, 160) == ["000/000050.jpg", "000/000150.jpg"]
    assert len(list(tmp_path.rglob("*.jpg"))) == 160
