"""Runs a ladder: corpus and tokenizer once, then each size as a run of its own that shares them.

A size is an ordinary run (`OUT/SIZE`): interrupted, it goes on from its last checkpoint; done, it is not run again; and
other settings in the same folder are refused. What is compared is the loss on the same held-out documents.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import log10
from pathlib import Path
from typing import Any

from jvlm.errors import UsageError
from jvlm.eval.charts import as_file, line_chart
from jvlm.files import lock, write_json, write_text
from jvlm.recipe import Recipe, run_recipe, stage_record
from jvlm.scale.law import Law, fit, leave_one_out, predict
from jvlm.scale.sizes import recipe_of

SHARED = ("data", "corpus", "tokenizer")
UNIT = "bits a character"


@dataclass(frozen=True)
class Rung:
    """A size that was trained. `loss`: bits per character of the held-out documents."""

    size: str
    parameters: int
    tokens: int
    loss: float
    seconds: float


def run_ladder(
    recipe: Recipe,
    sizes: dict[str, int],
    ahead: dict[str, int],
    budget: float,
    out: Path,
    say: Callable[[str], None],
    check: bool = False,
) -> dict[str, Any]:
    """Train `sizes`, fit the law and forecast `ahead`; with `check` train those too, and say how far off it was.

    `budget` is the number of tokens for each parameter. Writes ``ladder.json`` and ``ladder.svg`` in `out`, the former
    with what is there as soon as three sizes are. Raises UsageError for fewer than three sizes, and where all together
    have no law.
    """
    if len(sizes) < 3:
        raise UsageError(f"{len(sizes)} sizes", fix="a law of three numbers takes three at least: --sizes 1m,2m,4m")
    if both := sizes.keys() & ahead.keys():
        raise UsageError(f"{', '.join(sorted(both))} cannot be both fitted and forecast", fix="leave it out of one")
    plans = {name: recipe_of(recipe, count, budget) for name, count in (sizes | ahead).items()}
    with lock(out):
        shared = _shared(next(iter(plans.values())), out, say)
        rungs: list[Rung] = []
        for name in sizes:
            rungs.append(_rung(name, plans[name], shared, out, say))
            if 3 <= len(rungs) < len(sizes):
                with suppress(UsageError):  # the sizes to come may show a law where the first do not
                    write_json(out / "ladder.json", _record(rungs, ahead, plans, budget, []))
        trained = [_rung(name, plans[name], shared, out, say) for name in ahead] if check else []
        record = _record(rungs, ahead, plans, budget, trained)
        write_json(out / "ladder.json", record)
        if drawn := _drawn(record):
            write_text(out / "ladder.svg", as_file(drawn))
    return record


def _shared(recipe: Recipe, out: Path, say: Callable[[str], None]) -> Path:
    """The run that holds what all sizes read."""
    folder = out / "shared"
    # its recipe ends with the tokenizer: the settings of a size are no part of it
    stages = recipe.stages.model_copy(update={"pretrain": None})
    run_recipe(recipe.model_copy(update={"stages": stages}), folder, say, until="tokenizer")
    return folder


def _rung(name: str, recipe: Recipe, shared: Path, out: Path, say: Callable[[str], None]) -> Rung:
    folder = out / name
    folder.mkdir(exist_ok=True)
    for stage in SHARED:
        link = folder / stage
        if (shared / stage).is_dir() and not link.is_symlink():
            link.symlink_to(Path("..") / shared.name / stage, target_is_directory=True)
    run_recipe(recipe, folder, lambda text: say(f"{name}: {text}"), until="pretrain")
    done = stage_record(folder, "pretrain")
    assert done is not None
    figures = done["metrics"]
    rung = Rung(name, figures["parameters"], figures["tokens_seen"], figures["bpc_model"], done["seconds"])
    say(f"{name}: {rung.parameters:,} parameters, {rung.tokens:,} tokens, {rung.loss:.4f} {UNIT}")
    return rung


def _record(
    rungs: list[Rung], ahead: dict[str, int], plans: dict[str, Recipe], budget: float, trained: list[Rung]
) -> dict[str, Any]:
    from jvlm.plan.work import Like, works

    counts, losses = [float(rung.parameters) for rung in rungs], [rung.loss for rung in rungs]
    law = fit(counts, losses)
    errors = leave_one_out(counts, losses)
    found = {rung.size: rung.loss for rung in trained}
    forecasts = []
    for name in ahead:
        parameters = works(plans[name], Like())[0].parameters
        forecast: dict[str, Any] = {"size": name, "parameters": parameters}
        forecast |= asdict(predict(counts, losses, parameters))
        if name in found:
            forecast |= {"measured": found[name], "error": forecast["loss"] / found[name] - 1}
        forecasts.append(forecast)
    return {
        "unit": UNIT,
        "tokens_per_parameter": budget,
        "law": asdict(law),
        "rungs": [asdict(rung) for rung in rungs],
        "relative_errors": [law.loss(n) / loss - 1 for n, loss in zip(counts, losses, strict=True)],
        "leave_one_out_errors": errors,
        "forecasts": forecasts,
        "trained_forecasts": [asdict(rung) for rung in trained],
    }


def _drawn(record: dict[str, Any]) -> str:
    """The law's curve with the sizes on it, over the logarithm of their parameters."""
    law = Law(**record["law"])
    points = [(r["parameters"], r["loss"]) for r in record["rungs"]]
    points += [(f["parameters"], f["measured"]) for f in record["forecasts"] if "measured" in f]
    ends = [n for n, _ in points] + [f["parameters"] for f in record["forecasts"]]
    low, high = log10(min(ends)), log10(max(ends))
    curve = [(x, law.loss(10**x)) for x in (low + (high - low) * i / 39 for i in range(40))]
    return line_chart({"law": curve, "measured": [(log10(n), loss) for n, loss in points]}, "parameters, log 10", UNIT)
