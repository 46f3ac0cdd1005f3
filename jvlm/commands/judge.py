"""`jvlm eval judge-check`, and `jvlm eval` with that verb below it."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from jvlm.commands.eval import JudgeModel, JudgeOption, evaluate, open_judge
from jvlm.commands.output import Json, print_record, table
from jvlm.errors import UsageError

CHECK, MODELS = "judge-check", "models"


class _ModelsOrVerb(TyperGroup):
    """`jvlm eval MODEL...` scores models; the name of a verb in the first place is that verb."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if args[:1] in ([CHECK], [MODELS]) else [MODELS, *args])


app = typer.Typer(cls=_ModelsOrVerb, help="Score models; judge-check: how far a judge can be trusted.")
app.command(name=MODELS)(evaluate)


@app.command(name=CHECK)
def judge_check(
    data: Annotated[Path, typer.Option(help="Data folder with ja_mt_bench or ja_vicuna_qa, built with judgments.")],
    out: Annotated[Path, typer.Option(help="Folder of the records and of judge-check.json, continued.")],
    judge: JudgeOption = None,
    judge_model: JudgeModel = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first judgments of each set.")] = None,
    as_json: Json = False,
) -> None:
    """Let a judge rate what GPT-4 has rated, and tell how far they agree: correlations, equal verdicts, kappa."""
    from jvlm.eval.judge_check import check_judge, rows
    from jvlm.files import lock, write_json

    judging = open_judge(judge, judge_model)
    if judging is None:
        raise UsageError("no judge is named", fix="give --judge a model directory or https://HOST/v1")
    with lock(out):
        results: dict[str, Any] = check_judge(judging, data, out, limit=limit)
        write_json(out / "judge-check.json", results)
    if as_json:
        print_record(results, as_json)
        return
    head, *lines = rows(results)
    table(head, lines)
    for name, result in results.items():
        print(f"{name}: {result['failures']} of {result['asked']} verdicts could not be read")
