"""`jvlm eval`: models on the toy world, text benchmarks and exams."""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from jvlm.commands.eval_report import TOYWORLD, named, pairs_of, task_of, wrong_answers
from jvlm.commands.output import Json, print_record, table
from jvlm.errors import EXIT_ITEM_ERRORS, UsageError

JudgeOption = Annotated[
    str | None,
    typer.Option(
        "--judge",
        help="Who rates open answers: a model directory, or the address of an OpenAI-compatible server "
        "(https://HOST/v1; its key in $JVLM_JUDGE_KEY). Without it they are kept, not judged.",
    ),
]
JudgeModel = Annotated[str | None, typer.Option("--judge-model", help="The judge's name at that address.")]


def evaluate(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL...", help="Model directories, ours or Hugging Face's.")
    ],
    tasks: Annotated[
        str | None,
        typer.Option(help="toyworld; text benchmarks: jcommonsenseqa,jnli@sh-0.2; exams: igakuqa119 (toyworld)"),
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="A list of tasks by its name: toy, jglue, japanese, medical …")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder; by default the one beside the model.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the results, continued; MODEL-eval. Of several models, one folder each."),
    ] = None,
    template: Annotated[
        str, typer.Option(help="How a language model alone is asked: plain text, or its chat template (plain, chat).")
    ] = "plain",
    split: Annotated[str | None, typer.Option(help="Ask another split of the text benchmarks, such as valid.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first questions of each text benchmark.")] = None,
    arms: Annotated[
        str, typer.Option(help="Of exams: removed,blank,other_image,written,order,prompts; more take their time.")
    ] = "removed",
    training: Annotated[
        list[Path] | None, typer.Option(help="Training text or shards in which the questions are looked for.")
    ] = None,
    judge: JudgeOption = None,
    judge_model: JudgeModel = None,
    as_json: Json = False,
) -> None:
    """Score models on the toy world, text benchmarks or published exams, with and without image.

    What they say is kept: an evaluation that was interrupted goes on, and figures are computed anew from what was said.
    `jvlm eval judge-check` tells how far a judge agrees with published judgments.
    """
    names = _task_names(tasks, suite)
    if template not in ("plain", "chat"):
        raise UsageError(f"template '{template}' is neither plain nor chat")
    judging = open_judge(judge, judge_model)
    results: dict[str, dict[str, Any]] = {}
    said: dict[str, Any] = {}
    for number, model in enumerate(models):
        folder = out or model.with_name(model.name + "-eval")
        label = _label(model, models)
        if out is not None and len(models) > 1:
            folder = out / f"{number + 1}-{model.name}"
        exams = _Exams([part.strip() for part in arms.split(",")], training or [])
        results[label], said[label] = _evaluate(
            model, names, data or model.parent / "data", folder, template, split, limit, exams, judging
        )
    alike = data or (models[0].parent / "data" if len({model.parent for model in models}) == 1 else None)
    paired = pairs_of(results, said, names, alike, split, limit) if alike is not None else {}
    _show(results, paired, as_json)
    if any(result.get("not_asked") for found in results.values() for result in found.values()):
        raise typer.Exit(EXIT_ITEM_ERRORS)


class _Exams(NamedTuple):
    """How exams are asked."""

    arms: list[str]
    training: list[Path]
    """Where their questions are looked for."""


def _leaks(items: list[Any], training: list[Path], model: Path) -> dict[str, Any] | None:
    """What of each question stands in the training text, by id; None where none is named."""
    from jvlm.errors import DataError
    from jvlm.eval.contamination import leaks, question_text, training_documents
    from jvlm.text.tokenizer import Tokenizer

    if not training:
        return None
    try:
        tokenizer = Tokenizer.load(model)  # its token shards are read with it
    except DataError:
        tokenizer = None
    return leaks([(item.id, question_text(item)) for item in items], training_documents(training, tokenizer))


def _task_names(tasks: str | None, suite: str | None) -> list[str]:
    from jvlm.eval.task import load_suite

    if tasks is not None and suite is not None:
        raise UsageError("tasks and a suite are named", fix="give --tasks or --suite")
    if suite is not None:
        return load_suite(suite)
    return list(dict.fromkeys(part.strip() for part in (tasks or TOYWORLD).split(",")))


def _evaluate(
    model: Path,
    names: list[str],
    data: Path,
    out: Path,
    template: str,
    split: str | None,
    limit: int | None,
    exams: _Exams,
    judge: Any = None,
) -> tuple[dict[str, Any], Any]:
    """{TASK or EXAM: result} of one model, and where its records lie (`Said`).

    ``out/results.json`` and ``out/report.html`` hold them, and what was found of the same model before.
    """
    from jvlm.eval.lm_eval_layout import write_layout
    from jvlm.eval.page_results import render_results
    from jvlm.eval.paired import Said
    from jvlm.eval.task import task_names
    from jvlm.files import lock, read_json, write_json, write_text

    loaded, fingerprint = load_to_ask(model, template)
    known = task_names()
    results: dict[str, Any] = {}
    with lock(out):
        for name in names:
            if name == TOYWORLD:
                from jvlm.assets import asset
                from jvlm.eval.toy import evaluate_exam, evaluate_general, load_toy_config

                config = load_toy_config(asset("evals", "toy.yaml"))
                results["general"] = evaluate_general(loaded, data / "shards", config, out, name=fingerprint)
                results["exam"] = evaluate_exam(loaded, data / "exam", config, out, name=fingerprint)
            elif name.partition("@")[0] in known:
                from jvlm.eval.task import prepare
                from jvlm.eval.text_tasks import evaluate_task

                task = task_of(name, split)
                leaked = _leaks(prepare(task, data, limit)[0], exams.training, model) if task.metrics else None
                results[name] = evaluate_task(
                    loaded, task, data, out / "tasks", name=fingerprint, limit=limit, judge=judge, leaked=leaked
                )
            elif name == "jmmmu":
                from jvlm.eval.jmmmu import evaluate_jmmmu

                results[name] = evaluate_jmmmu(loaded, data / "exam" / name, out, name=fingerprint)
            else:
                from jvlm.eval.exams import evaluate_exam_set, load_exam

                folder = data / "exam" / name
                leaked = _leaks(load_exam(folder), exams.training, model)
                # an answer must not stand right behind the last option where no turn ends
                prompt = "ask-v1" if loaded.settings["template"] == "plain" else None
                papers = evaluate_exam_set(
                    loaded, folder, out, name=fingerprint, arms=exams.arms, leaked=leaked, prompt=prompt
                )
                results |= named(papers, name, results)
        written = read_json(out / "results.json") if (out / "results.json").is_file() else {}
        whole = {key: found for key, found in written.items() if found.get("model") == fingerprint} | results
        write_json(out / "results.json", whole)
        if any("records" in result for result in whole.values()):
            write_layout(whole, out / "tasks", out / "lm_eval", str(model))
        said = Said(out, fingerprint)
        wrong = wrong_answers(results, said, names, data, split, limit)
        write_text(out / "report.html", render_results(model.name, whole, wrong))
    return results, said


def open_judge(where: str | None, model: str | None) -> Any:
    """The judge (`jvlm.eval.judges.Judge`) that --judge and --judge-model name; None where none is named."""
    if where is None:
        return None
    from jvlm.eval.judges import LocalJudge, UrlJudge

    if where.startswith(("http://", "https://")):
        return UrlJudge(where, model)
    folder = Path(where)
    if not folder.is_dir():
        raise UsageError(f"'{where}' is no model directory and no address", fix="give a folder or https://HOST/v1")
    loaded, fingerprint = load_to_ask(folder, "chat" if _has_chat_template(folder) else "plain")
    return LocalJudge(loaded, f"{folder.name} {fingerprint[:12]}")


def _has_chat_template(folder: Path) -> bool:
    from jvlm.files import read_json

    config = folder / "tokenizer_config.json"
    named = read_json(config) if config.is_file() else {}
    return (folder / "chat_template.jinja").is_file() or bool(named.get("chat_template"))


def load_to_ask(model: Path, template: str) -> tuple[Any, str]:
    """The model and what tells it from all others, weights and template: records of two models never mix.

    Raises UsageError for an adapter of a language model alone, which others' programs are to read as well.
    """
    from jvlm.files import sha256_bytes, sha256_file
    from jvlm.model.directory import ADAPTER, read_kind

    kind, config = read_kind(model)
    files = sorted(model.glob("*.safetensors"))
    if kind == ADAPTER:
        files.append(model / "config.json")  # which says what its weights stand beside
    hashes = "".join(sha256_file(path) for path in files)
    fingerprint = hashes[:16] if len(files) == 1 else sha256_bytes(hashes.encode())[:16]
    if kind == ADAPTER and config["base"]["kind"] != "jvlm":
        raise UsageError("an adapter of a language model alone", where=model, fix="make it whole with `jvlm merge`")
    if kind in ("jvlm", "jvlm_clip", ADAPTER):
        import jvlm

        return jvlm.load(model), fingerprint
    from jvlm.infer.image_text import is_image_text, load_image_text_model

    if is_image_text(model):
        return load_image_text_model(model), fingerprint
    from jvlm.infer.causal import load_causal_model

    asked = fingerprint if template == "plain" else f"{fingerprint}-{template}"
    return load_causal_model(model, template=template), asked  # type: ignore[arg-type]


def _label(model: Path, models: list[Path]) -> str:
    return model.name if sum(other.name == model.name for other in models) == 1 else str(model)


def _show(results: dict[str, dict[str, Any]], paired: dict[str, dict[str, Any]], as_json: bool) -> None:
    if as_json:
        several = {"models": results, "paired": paired}
        print_record(next(iter(results.values())) if len(results) == 1 else several, as_json)
        return
    from jvlm.eval.text_table import judged_table, text_table

    texts = {
        model: {name: result for name, result in found.items() if "records" in result}
        for model, found in results.items()
    }
    if any(texts.values()):
        head, *rows = text_table(texts)
        if rows:
            table(head, rows)
        judged = judged_table(texts)
        if len(judged) > 1:
            table(judged[0], judged[1:])
    for model, found in results.items():
        exams = {name: r for name, r in found.items() if "not_asked" in r and "records" not in r}
        toys = {name: r for name, r in found.items() if "not_asked" not in r and "records" not in r}
        if len(results) > 1 and (exams or toys):
            print(model)
        if toys:
            print_record(toys, as_json)
        if exams:
            from jvlm.eval.exams import summary

            head, *rows = summary(exams)
            table(head, rows)
    if paired:
        from jvlm.eval.paired import paired_table

        head, *rows = paired_table(paired)
        table(head, rows)
