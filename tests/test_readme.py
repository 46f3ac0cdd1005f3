"""Figures of the README are those of the committed results."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ATTACKS = [  # in the table's order: what was tried, and what came through
    ("train_kills", "train_not_identical"),
    ("save_steps_killed", None),
    ("save_steps_without_space", None),
    ("bits_flipped", None),
    ("steps_not_finite", None),
    ("continued_by_another_engine", None),
    ("images_mutated", "image_crashes"),
    ("image_hostile_files", None),
    ("shards_mutated", "shard_crashes"),
    ("shard_sets_mutated", "shard_set_crashes"),
    ("model_files_mutated", "model_file_crashes"),
    ("model_settings_attacked", "model_settings_crashes"),
    ("injection_cases", "injected_control_tokens"),
    ("files_scanned", "dangerous_calls"),
]


def test_the_table_of_attacks_holds_what_was_counted() -> None:
    """Where nothing counts what came through, the test itself ends with the first."""
    counts = json.loads((ROOT / "evals" / "results" / "reliability.json").read_text())
    wanted = [(counts[tried], counts[through] if through else 0) for tried, through in ATTACKS]
    text = (ROOT / "README.md").read_text("utf-8").partition("\n## Attacked\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| [^|]+ \| ([\d,]+) \| (\d+) \|$", text, re.MULTILINE)
    assert [(int(tried.replace(",", "")), int(through)) for tried, through in rows] == wanted
    zeros = ("image_hangs", "image_untyped_errors", "model_file_untyped_errors", "foreign_connections")
    assert [counts[name] for name in zeros] == [0, 0, 0, 0]
