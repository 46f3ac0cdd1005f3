"""A dry run: some items of the input captioned, nothing kept, and what the whole would take."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from jvlm.infer.caption.ledger import encoded
from jvlm.infer.caption.plan import Plan, Settings, load_plan, make_plan
from jvlm.infer.caption.unit import caption_items
from jvlm.infer.caption.worker import Load, threads


@dataclass(frozen=True)
class Forecast:
    """What was seen of `tried` items, and what follows for all of them in one process like this."""

    items: int
    rows: int
    units: int
    tried: int
    failed: int
    error_codes: dict[str, int]
    images_per_s: float
    tokens_per_s: float
    hours: float
    output_gib: float
    samples: list[dict[str, str | None]]
    """id, text and error of the first rows."""


def forecast(settings: Settings, load: Load, count: int) -> Forecast:
    """Caption `count` items spread evenly over the input. Raises as planning does."""
    with tempfile.TemporaryDirectory() as folder:
        make_plan(Path(folder) / "plan", settings)
        plan: Plan = load_plan(Path(folder) / "plan")
        count = min(count, plan.num_items)
        chosen = [plan.item(number * plan.num_items // count) for number in range(count)]
        tools = load()
        with threads(plan.settings.threads):
            caption_items(chosen[:1], tools, plan.settings)  # what is done once is not the job's speed
            began = time.perf_counter()
            rows = caption_items(chosen, tools, plan.settings)
            seconds = time.perf_counter() - began
    codes: dict[str, int] = {}
    for row in rows:
        if row["error_code"] is not None:
            codes[row["error_code"]] = codes.get(row["error_code"], 0) + 1
    return Forecast(
        items=plan.num_items,
        rows=plan.num_rows,
        units=plan.units,
        tried=count,
        failed=sum(codes.values()),
        error_codes=codes,
        images_per_s=round(count / seconds, 3),
        tokens_per_s=round(sum(row["n_tokens"] or 0 for row in rows) / seconds, 1),
        hours=round(plan.num_items * seconds / count / 3600, 4),
        output_gib=round(sum(len(encoded(row)) for row in rows) / count * plan.num_items * 2 / 2**30, 4),
        samples=[{key: row[key] for key in ("id", "text", "error")} for row in rows[:5]],
    )
