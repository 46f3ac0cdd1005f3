"""The benchmark of a mixture: a miniature runs; the real one keeps its experts even."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard

from jvlm.bench import moe

WORDS = ["血液", "検査", "東京", "山", "です", "を", "した", "患者", "の", "は", "見た", "大きい", "川", "に", "行く"]


def write_root(root: Path) -> None:
    rng = np.random.default_rng(1)
    texts = ["".join(rng.choice(WORDS, int(rng.integers(4, 120)))) for _ in range(160)]
    rows = "\n".join(json.dumps({"text": text}) for text in texts)
    (root / "text").mkdir(parents=True)
    (root / "text" / "made.jsonl.zst").write_bytes(zstandard.compress(rows.encode()))


def test_a_miniature(tmp_path):
    write_root(tmp_path)
    small = {"hidden_size": 32, "num_layers": 2, "intermediate_size": 48, "num_experts": 4, "vocab_size": 420}
    plan = replace(moe.FULL, **small, row_length=64, rows=2, steps=3, measured_rows=4, repeats=1, stride=2)
    found = moe.run(tmp_path, 1, lambda _: None, plan)
    json.dumps(found)
    assert found["figures"].keys() == {"dense_ms", "grouped_mm_ms", "eager_ms", "mixture_over_dense"}
    assert found["ratios"]["eager_over_grouped"] > 0
    assert len(found["load"]["shares"]) == 2
    for layer, deviation in zip(found["load"]["shares"], found["load"]["deviation"], strict=True):
        assert sum(layer) == pytest.approx(4, abs=1e-3)
        assert deviation == pytest.approx(max(abs(share - 1) for share in layer), abs=1e-3)
    assert found["worst_deviation"] == max(found["load"]["deviation"])


@pytest.mark.long
@pytest.mark.shared
def test_experts_are_even_within_a_tenth_after_200_steps_on_real_text(data_root):
    torch.set_num_threads(2)
    found = moe.run(data_root, 2, print, replace(moe.FULL, repeats=1))
    print(json.dumps(found))
    assert found["worst_deviation"] < 0.1
