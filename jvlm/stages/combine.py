"""Several checkpoints become one model, which is measured against each of them on the same text and exam."""

from pathlib import Path
from typing import Any

from jvlm.errors import DataError
from jvlm.eval.real import texts_never_seen
from jvlm.eval.statistics import ratio_bootstrap
from jvlm.infer.likelihood import bits, outcomes
from jvlm.model.combine import combine as write
from jvlm.settings import CombineStage
from jvlm.stages.context import StageContext
from jvlm.stages.pretrain import load_language

RESULT = "combined"


def combine(context: StageContext) -> dict[str, Any]:
    """models → model → bits per character of text never seen, and exam scores, of each of them and of the result.

    `bpc_change` is the result's bits per character less the model's, with its interval over documents.
    """
    config: CombineStage = context.config
    folders = {ingredient.model: _folder(context, ingredient.model) for ingredient in config.models}
    if config.base is not None:
        folders = {config.base: _folder(context, config.base)} | folders
    base = folders[config.base] if config.base is not None else None
    weighted = [(folders[ingredient.model], ingredient.weight) for ingredient in config.models]
    record = write(weighted, context.folder / "model", config.method, base)
    folders[RESULT] = context.folder / "model"
    texts = texts_never_seen(context.data, context.run / "corpus" / "text" / "held_out.jsonl")
    if not texts:
        raise DataError("no text is held out", where=context.run / "corpus", fix="raise held_out_share")
    spent: dict[str, dict[str, list[float]]] = {}
    models: dict[str, dict[str, Any]] = {}
    for name, folder in folders.items():
        language, processor = load_language(folder)
        spent[name] = {kind: bits(language, processor, found) for kind, found in texts.items()}
        models[name] = {"bpc": {kind: sum(spent[name][kind]) / sum(outcomes(texts[kind])) for kind in texts}}
        if config.exam:
            models[name]["exam"] = _exam(context, name, folder)
        context.say(f"{name}: " + ", ".join(f"{kind} {bpc:.3f}" for kind, bpc in models[name]["bpc"].items()))
    change = {
        name: {
            kind: ratio_bootstrap(
                [after - before for before, after in zip(spent[name][kind], spent[RESULT][kind], strict=True)],
                outcomes(texts[kind]),
                context.recipe.seed,
            )
            for kind in texts
        }
        for name in folders
        if name != RESULT
    }
    return record | {"scores": models, "bpc_change": change}


def _folder(context: StageContext, name: str) -> Path:
    """A stage's model, that of its last phase, or one of the user's: what holds a slash is a path."""
    return Path(name) if "/" in name else context.run / name / "model"


def _exam(context: StageContext, name: str, folder: Path) -> dict[str, Any]:
    from jvlm.assets import asset
    from jvlm.eval.exams import evaluate_exam_set
    from jvlm.eval.toy import evaluate_exam, load_toy_config
    from jvlm.infer.generate import load_model

    model, papers = load_model(folder), sorted((context.data / "exam").glob("*/items.jsonl"))
    if not papers:
        tasks = load_toy_config(asset("evals", "toy.yaml"))
        return evaluate_exam(model, context.data / "exam", tasks, context.folder, name=name)
    found: dict[str, Any] = {}
    for paper in papers:
        found |= evaluate_exam_set(model, paper.parent, context.folder, name=name, seed=context.recipe.seed)
    return found
