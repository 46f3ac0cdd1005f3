"""The report's section on a combination of checkpoints."""

from typing import Any

from jvlm.eval.markup import at, both, esc, section, show, table


def combine_section(metrics: Any) -> str:
    """Each model and what came of them: bits per character by kind of text, and the result's difference from each."""
    weights = {model["path"]: model["weight"] for model in at(metrics, "models") or []}
    rows = []
    for name, found in (at(metrics, "scores") or {}).items():
        for kind, bpc in found["bpc"].items():
            change = at(metrics, "bpc_change", name, kind)
            told = ""
            if change:
                low, high = change["interval"]
                told = f"{change['value']:+.3f} [{low:+.3f}, {high:+.3f}]"
            rows.append([esc(name), esc(kind), show(bpc, "bits"), told])
    parts = ", ".join(f"{weight:g} × {esc(path)}" for path, weight in weights.items())
    note = f"{esc(at(metrics, 'method'))}: {parts}"
    head = [both("モデル", "model"), both("文章", "text"), both("ビット／文字", "bits per character"),
            both("結合後 − これ", "combined − this")]  # fmt: skip
    return section("モデルの結合", "Combination", table(head, rows, "wide figures"), note)
