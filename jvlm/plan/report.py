"""The long plan, for GPUs that are named: what each stage takes in memory, time, energy and money."""

from pathlib import Path
from typing import Any

from jvlm.plan.advice import advice, uneven
from jvlm.plan.gpus import Gpu
from jvlm.plan.loss import ladder_loss, published_loss
from jvlm.plan.memory import Memory, memory, micro_rows, pieces
from jvlm.plan.operations import operations, recomputed
from jvlm.plan.parameters import active_parameters
from jvlm.plan.time import DEFAULT_MFU, cost
from jvlm.plan.work import Like, Work, works
from jvlm.recipe import Recipe

GIB = 2**30
ZERO_STAGES = (0, 1, 2, 3)


def report(
    recipe: Recipe,
    gpu: Gpu,
    gpus: int,
    *,
    zero: int | None = None,
    mfu: float = DEFAULT_MFU,
    yen_per_gpu_hour: float | None = None,
    ladder: Path | None = None,
    like: Like | None = None,
) -> dict[str, Any]:
    """Plain figures of every stage and of all together. `zero` overrides the stages' own."""
    like = like or Like()
    stages = [_stage(work, gpu, gpus, zero, mfu, yen_per_gpu_hour, ladder) for work in works(recipe, like)]
    keys = ("days", "gpu_hours", "kwh", *(("yen",) if yen_per_gpu_hour is not None else ()))
    return {
        "gpu": gpu.name,
        "gpus": gpus,
        "memory_of_a_gpu_gib": gpu.memory_gib,
        "source": gpu.source,
        "mfu": mfu,
        "text_tokens_per_view": like.text_per_view,
        "stages": stages,
        "together": {key: sum(stage[key] for stage in stages) for key in keys},
    }


def _stage(
    work: Work, gpu: Gpu, gpus: int, zero: int | None, mfu: float, price: float | None, ladder: Path | None
) -> dict[str, Any]:
    zero = work.engine.zero if zero is None else zero
    found, spent = memory(work, gpus, zero), cost(work, gpu, gpus, mfu, price)
    more = advice(work, gpu, gpus, zero)
    out: dict[str, Any] = {
        "stage": work.stage,
        "parameters": work.parameters,
        "active_parameters": work.parameters - _idle(work),
        "trained_parameters": round(work.trained),
        "tokens": work.tokens,
        "views_of_images": round(work.all_views),
        "operations": operations(work),
        "recomputed": recomputed(work),
        "precision": work.engine.precision,
        "zero": zero,
        "micro_batches": pieces(work, gpus),
        "rows_of_a_micro_batch": micro_rows(work, gpus),
        "memory": {"as planned": _gib(found)} | {f"zero {s}": _gib(memory(work, gpus, s)) for s in ZERO_STAGES},
        "fits": more is None,
        "tokens_per_s": spent.tokens_per_second,
        "days": spent.days,
        "gpu_hours": spent.gpu_hours,
        "kwh": spent.kwh,
    }
    if spent.yen is not None:
        out["yen"] = spent.yen
    if more is not None:
        out["to_fit"] = {"changes": more.changes, "fits": more.fits, "total_gib": more.then.total / GIB}
    if (note := uneven(work, gpus)) is not None:
        out["uneven"] = note
    if work.from_scratch:
        active, tokens = work.parameters - _idle(work), work.tokens
        loss = ladder_loss(ladder, active, tokens) if ladder else published_loss(active, tokens)
        out["forecast_loss"] = {"loss": loss.loss, "unit": loss.unit, "source": loss.source}
    return out


def _idle(work: Work) -> int:
    """Parameters of experts that a token does not go to."""
    if work.language is None:
        return 0
    whole = active_parameters(work.language.model_copy(update={"experts_per_token": work.language.num_experts}), 0)
    return whole - active_parameters(work.language, 0)


def _gib(found: Memory) -> dict[str, float]:
    parts = {name.replace(" ", "_"): value / GIB for name, value in found.parts.items()}
    return parts | {"peak": found.peak / GIB, "total": found.total / GIB, "main_memory": found.main / GIB}


def lines(found: dict[str, Any]) -> list[str]:
    """The report as text, stage by stage: what a page or a terminal shows."""
    out: list[str] = []
    for stage in found["stages"]:
        out += [*_lines(stage, found["memory_of_a_gpu_gib"]), ""]
    total = found["together"]
    text = f"together: {_time(total['days'])}, {total['gpu_hours']:,.0f} GPU hours, {total['kwh']:,.0f} kWh"
    out.append(text + (f", {total['yen']:,.0f} yen" if "yen" in total else ""))
    speed = f"{found['gpus']} × {found['gpu']} at {found['mfu']:.0%} of the data sheet's speed ({found['source']})"
    beside = f"; {found['text_tokens_per_view']} tokens of text beside each view of an image"
    return [*out, f"assumed: {speed}" + (beside if any(s["views_of_images"] for s in found["stages"]) else "")]


def _lines(stage: dict[str, Any], room: float) -> list[str]:
    active = stage["active_parameters"]
    counts = f"{stage['parameters']:,} parameters"
    if active != stage["parameters"]:
        counts += f", {active:,} of them active"
    counts += f", {stage['trained_parameters']:,} learn"
    images = f", {stage['views_of_images']:,} views of images" if stage["views_of_images"] else ""
    spent = f"{stage['tokens_per_s']:,.0f} tokens/s, {_time(stage['days'])}, {stage['kwh']:,.1f} kWh"
    out = [
        f"{stage['stage']}: {counts}",
        f"  {stage['tokens']:,} tokens{images}",
        f"  {spent}" + (f", {stage['yen']:,.0f} yen" if "yen" in stage else ""),
    ]
    names = ("as planned", *(f"zero {s}" for s in ZERO_STAGES))
    width = 12
    out.append("  GiB a GPU".ljust(24) + "".join(name.rjust(width) for name in names))
    for part in next(iter(stage["memory"].values())):
        row = [stage["memory"][name][part] for name in names]
        if any(value >= 0.005 for value in row):
            out.append(f"  {part.replace('_', ' ')}".ljust(24) + "".join(f"{value:,.2f}".rjust(width) for value in row))
    if stage["fits"]:
        out.append(f"  fits into {room:g} GiB")
    else:
        more = stage["to_fit"]
        verdict = "fits then, in" if more["fits"] else "still does not fit: more GPUs, or larger ones; it takes"
        out.append(f"  DOES NOT FIT into {room:g} GiB. Change {'; '.join(more['changes'])}")
        out.append(f"  {verdict} {more['total_gib']:.1f} GiB")
    if "uneven" in stage:
        out.append(f"  {stage['uneven']}")
    if stage["precision"] == "float32":
        out.append("  computed in float32: loop.engine.precision: bfloat16 is many times faster on these GPUs")
    if "forecast_loss" in stage:
        loss = stage["forecast_loss"]
        out.append(f"  forecast loss {loss['loss']:.3f} {loss['unit']} ({loss['source']})")
    return out


def _time(days: float) -> str:
    if days >= 2:
        return f"{days:,.1f} days"
    return f"{24 * days:,.1f} hours" if days >= 1 / 24 else f"{1440 * days:,.1f} minutes"
