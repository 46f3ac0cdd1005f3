"""From nothing to a tokenizer: the raw data, the cleaned corpus, the pieces."""

import json
from pathlib import Path
from typing import Any

from jvlm.errors import UsageError
from jvlm.stages.context import StageContext
from jvlm.stages.origins import data_licence


def data(context: StageContext) -> dict[str, Any]:
    """Generate the toy world, or read a folder of real data."""
    from jvlm_data.real import build as real
    from jvlm_data.toyworld import build as toyworld

    settings = context.config.model_dump()
    name = settings.pop("set")
    if name == "real":
        if settings["root"] is None:
            raise UsageError("no folder of data", fix="set stages.data.root or the variable JVLM_DATA_ROOT")
        return {"set": name} | real.build(real.RealConfig(**settings), context.data, context.say)
    config = toyworld.ToyworldConfig(seed=context.recipe.seed, **settings)
    return {"set": name} | toyworld.build(config, context.data, context.say)


def corpus(context: StageContext) -> dict[str, Any]:
    """Clean, deduplicate, mix the data stage's text, or the recipe's own; scored where planted dirt is known."""
    from jvlm_data.toyworld.dirt import score_cleaning

    from jvlm.files import read_json_lines
    from jvlm.text.corpus import CorpusConfig, CorpusInput, build_corpus

    raw, sources = context.data / "text" / "general.jsonl", context.data / "text" / "general"
    evaluation = context.data / "evaluation.jsonl"
    settings = context.config.model_dump()
    planted = False
    if not settings["inputs"] and sources.is_dir():
        settings["inputs"] = [
            CorpusInput(path=path, source=path.stem, any_language=_language(path) != "ja")
            for path in sorted(sources.glob("*.jsonl"))
        ]
    elif not settings["inputs"]:
        settings["inputs"] = [CorpusInput(path=raw, source="toyworld", licence=data_licence(context.recipe))]
        planted = True
    if not settings["evaluation"] and evaluation.is_file():
        settings["evaluation"] = [evaluation]
    out = context.folder / "text"
    report = build_corpus(CorpusConfig(**settings), out)
    report.pop("config")
    if planted:
        kept = read_json_lines(out / "train.jsonl") + read_json_lines(out / "held_out.jsonl")
        truth = read_json_lines(context.data / "text" / "dirt.jsonl")
        report |= score_cleaning(truth, kept, read_json_lines(raw))
        context.say(f"dirt found {report['dirt_recall']:.3f}, clean lines lost {report['clean_loss']:.4f}")
    return report


def _language(path: Path) -> str:
    """What the first row of a source says of its language: a source is of one."""
    with open(path, encoding="utf-8") as rows:
        return str(json.loads(rows.readline() or "{}").get("language", "ja"))


def tokenizer(context: StageContext) -> dict[str, Any]:
    """Train on the cleaned text and the captions' words; measure on the held-out text."""
    from jvlm.files import read_json_lines
    from jvlm.text.stats import tokenizer_figures
    from jvlm.text.tokenizer import train_tokenizer

    text = context.run / "corpus" / "text"
    lines = [record["text"] for record in read_json_lines(text / "train.jsonl")]
    lines += _conversations(context)
    trained = train_tokenizer(
        lines,
        context.config.vocab_size,
        context.folder / "model",
        seed=context.recipe.seed,
        threads=context.recipe.threads,
        split_scripts=context.config.split_scripts,
    )
    held_out = [record["text"] for record in read_json_lines(text / "held_out.jsonl")]
    return {"vocab_size": trained.vocab_size, **tokenizer_figures(trained, held_out)}


def _conversations(context: StageContext) -> list[str]:
    """Text of the training conversations: the pieces should also fit what is asked and answered."""
    from jvlm.images.shards import ShardReader
    from jvlm.train.order import spread

    texts: list[str] = []
    stages = context.recipe.stages
    with_images = ("captions_train", "instruct_train", "medical_training")
    for name in with_images if stages.align or stages.clip else ("dialogues_train",):
        if stages.data is None or not (context.shards / name).is_dir():
            continue
        shards = ShardReader(context.shards / name)
        for index in spread(len(shards), 2000):
            texts += [m["content"][-1] for m in shards.record(index)["messages"] if isinstance(m["content"][-1], str)]
    return texts
