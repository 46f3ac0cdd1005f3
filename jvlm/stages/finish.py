"""What comes after training: scores, captions, the report."""

from pathlib import Path
from typing import Any

from jvlm.errors import Stopped
from jvlm.stages.context import StageContext

HELD_OUT = ("_test", "_val", "_compositional")
"""How the names of sample sets end that no stage trains on."""


def evaluate(context: StageContext) -> dict[str, Any]:
    """General scores of the instructed, the preferred and the medical model; the exam before and after medicine."""
    if context.recipe.stages.data is not None and context.recipe.stages.data.set == "real":
        return _evaluate_real(context)
    from jvlm.assets import asset
    from jvlm.eval.toy import evaluate_exam, evaluate_general, load_toy_config
    from jvlm.infer.generate import load_model

    config = load_toy_config(asset("evals", "toy.yaml")).model_copy(update={"cutoff": context.config.exam_cutoff})
    models = {
        name: load_model(context.run / name / "model", context.config.batch_size)
        for name in ("instruct", "prefer", "medical")
    }
    general, exam = {}, {}
    for name, model in models.items():
        general[name] = evaluate_general(model, context.shards, config, context.folder, name=name)
        context.say(f"{name}: general scores done")
    for when, name in (("before", "prefer"), ("after", "medical")):
        exam[when] = evaluate_exam(models[name], context.data / "exam", config, context.folder, name=name)
        context.say(f"{name}: exam done")
    return {"models": general, "exam": exam}


def _evaluate_real(context: StageContext) -> dict[str, Any]:
    """Pictures, text and exams, before and after medicine."""
    from jvlm.eval.contamination import leaks, question_text, training_documents
    from jvlm.eval.exams import evaluate_exam_set, load_exam
    from jvlm.eval.paired import Said, compare_exams
    from jvlm.eval.real import evaluate_picture_sets, texts_never_seen
    from jvlm.eval.statistics import ratio_bootstrap
    from jvlm.infer.generate import load_model
    from jvlm.infer.likelihood import bits, outcomes

    texts = texts_never_seen(context.data, context.run / "corpus" / "text" / "held_out.jsonl")
    characters = {kind: outcomes(found) for kind, found in texts.items()}
    papers = [path.parent for path in sorted((context.data / "exam").glob("*/items.jsonl"))]
    questions = [(item.id, question_text(item)) for paper in papers for item in load_exam(paper)]
    leaked = leaks(questions, training_documents(_trained_on(context)))
    spent: dict[str, dict[str, list[float]]] = {}
    models: dict[str, Any] = {}
    exams: dict[str, Any] = {}
    for name in ("instruct", "medical"):
        model = load_model(context.run / name / "model", context.config.batch_size)
        spent[name] = {kind: bits(model.model.language, model.processor, found) for kind, found in texts.items()}
        models[name] = {
            "bpc": {kind: sum(found) / sum(characters[kind]) for kind, found in spent[name].items()},
            "pictures": evaluate_picture_sets(model, context.data, context.folder, name=name),
        }
        context.say(f"{name}: pictures and text done")
        exams[name] = {}
        for paper in papers:
            exams[name] |= evaluate_exam_set(
                model, paper, context.folder, name=name, seed=context.recipe.seed, leaked=leaked
            )
            context.say(f"{name}: {paper.name} done")
    change = {
        kind: ratio_bootstrap(
            [after - before for before, after in zip(spent["instruct"][kind], spent["medical"][kind], strict=True)],
            characters[kind],
            context.recipe.seed,
        )
        for kind in texts
    }
    exam_change: dict[str, Any] = {}
    medical, instruct = Said(context.folder, "medical"), Said(context.folder, "instruct")
    for paper in papers:
        exam_change |= compare_exams(paper, medical, instruct, context.recipe.seed)
    return {"models": models, "exams": exams, "bpc_change": change, "exam_change": exam_change}


def _trained_on(context: StageContext) -> list[Path]:
    """The run's training text, and its shards of samples but for those that are held out."""
    text = context.run / "corpus" / "text" / "train.jsonl"
    shards = [path for path in sorted(context.shards.glob("*")) if not path.name.endswith(HELD_OUT)]
    return [path for path in (text, *shards) if path.exists()]


def caption(context: StageContext) -> dict[str, Any]:
    """The captioning job on a folder of loose files."""
    from functools import partial

    from jvlm.infer.caption import job
    from jvlm.infer.caption.plan import Settings
    from jvlm.infer.caption.worker import load_tools
    from jvlm.infer.identity import model_hash

    model = context.run / "medical" / "model"
    settings = Settings(
        source=str(context.data / "folder"),
        model_hash=model_hash(model),
        max_new_tokens=context.config.max_new_tokens,
        threads=context.recipe.threads,
    )
    report = job.caption(
        context.folder, settings, partial(load_tools, model), on_progress=lambda progress: context.say(str(progress))
    )
    if not report.complete:
        raise Stopped("captioning was stopped", where=context.folder, fix="the same command goes on from there")
    return {"rows": report.rows, "errors": report.errors, "written": report.written}


def report(context: StageContext) -> dict[str, Any]:
    """report.json and report.html of the run."""
    from jvlm.eval.report import write_report

    return {"headline": write_report(context.run)["headline"]}
