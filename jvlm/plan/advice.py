"""What to change in a stage that does not fit: settings one after the other, cheapest first, until it does."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from jvlm.plan.gpus import Gpu
from jvlm.plan.memory import Memory, memory, micro_rows, pieces
from jvlm.plan.work import Work

ADAPTERS = 0.01  # share of the language model's parameters that LoRA trains, about


@dataclass(frozen=True)
class Advice:
    """Settings to change, in the words of a recipe; whether the stage fits then, and with what peak."""

    changes: list[str]
    fits: bool
    then: Memory


def advice(work: Work, gpu: Gpu, gpus: int, zero: int | None) -> Advice | None:
    """None where the stage fits as it is."""
    now = memory(work, gpus, zero)
    if _fits(now, gpu):
        return None
    changes: list[str] = []
    for text, changed, stage in _steps(work, gpus, zero):
        then = memory(changed, gpus, stage)
        if then.total > 0.99 * now.total:
            continue
        changes, now = [*changes, text], then
        if _fits(now, gpu):
            break
    return Advice(changes, _fits(now, gpu), now)


def uneven(work: Work, gpus: int) -> str | None:
    """What to set where the rows of a step cannot be dealt out to the processes, which a training refuses."""
    cut = gpus * pieces(work, gpus)
    if work.language is None or work.rows % cut == 0:
        return None
    near = sorted({max(1, work.rows // cut) * cut, -(-work.rows // cut) * cut})
    return f"{work.rows} rows cannot be dealt out to {gpus} GPUs: packing.rows: {' or '.join(map(str, near))}"


def _fits(found: Memory, gpu: Gpu) -> bool:
    return found.total <= gpu.memory_gib * 2**30


def _steps(work: Work, gpus: int, zero: int | None) -> Iterator[tuple[str, Work, int | None]]:
    """Changes on top of one another; one that does not help is passed over by the caller, and harms nothing."""
    if work.engine.precision == "float32":
        work = replace(work, engine=work.engine.model_copy(update={"precision": "bfloat16"}))
        yield "loop.engine.precision: bfloat16", work, zero
    if micro_rows(work, gpus) > 1:
        finest = max(work.accumulation, work.rows)
        work = replace(work, accumulation=finest)
        where = "packing.accumulation" if work.language else "clip.accumulation"
        yield f"{where}: {finest} (one row at a time)", work, zero
    if not work.engine.recompute and work.language is not None:
        work = replace(work, engine=work.engine.model_copy(update={"recompute": True}))
        yield "loop.engine.recompute: true (a third more operations)", work, zero
    for stage in range((zero or 0) + 1, 4) if gpus > 1 else ():
        also = ", loop.optimizer.muon: false" if work.muon else ""
        work, zero = replace(work, muon=False), stage
        yield f"loop.engine.zero: {stage}{also}", work, stage
    if not work.engine.offload:
        stage = zero if zero else 2
        also = "" if zero else f", loop.engine.zero: {stage}" + (", loop.optimizer.muon: false" if work.muon else "")
        work = replace(work, muon=False, engine=work.engine.model_copy(update={"offload": True}))
        zero = stage
        yield f"loop.engine.offload: true{also} (slower)", work, stage
    while work.language is not None and work.row_length > 1024:
        work = replace(work, row_length=work.row_length // 2, rows=work.rows * 2, views=work.views / 2)
        yield f"packing.row_length: {work.row_length}, twice the rows", work, zero
    if work.learns.get("language") == 1.0:
        work = replace(work, learns={**work.learns, "language": ADAPTERS})
        yield "train adapters (LoRA) in place of all weights", work, zero
