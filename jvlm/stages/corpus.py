"""From nothing to a tokenizer: the raw data, the cleaned corpus, the pieces."""

from typing import Any

from jvlm.stages.context import StageContext


def data(context: StageContext) -> dict[str, Any]:
    """Generate the toy world."""
    from jvlm_data.toyworld.build import ToyworldConfig, build

    settings = context.config.model_dump()
    return build(ToyworldConfig(seed=context.recipe.seed, **settings), context.data, context.say)


def corpus(context: StageContext) -> dict[str, Any]:
    """Clean, deduplicate, mix; scored against the list of planted dirt when the raw text is the toy world's."""
    from jvlm_data.toyworld.dirt import score_cleaning

    from jvlm.files import read_json_lines
    from jvlm.text.corpus import CorpusConfig, CorpusInput, build_corpus

    raw = context.data / "text" / "general.jsonl"
    settings = context.config.model_dump()
    own_text = not settings["inputs"]
    if own_text:
        settings["inputs"] = [CorpusInput(path=raw, source="toyworld")]
    out = context.folder / "text"
    report = build_corpus(CorpusConfig(**settings), out)
    report.pop("config")
    if own_text:
        kept = read_json_lines(out / "train.jsonl") + read_json_lines(out / "held_out.jsonl")
        truth = read_json_lines(context.data / "text" / "dirt.jsonl")
        report |= score_cleaning(truth, kept, read_json_lines(raw))
        context.say(f"dirt found {report['dirt_recall']:.3f}, clean lines lost {report['clean_loss']:.4f}")
    return report


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
    )
    held_out = [record["text"] for record in read_json_lines(text / "held_out.jsonl")]
    return {"vocab_size": trained.vocab_size, **tokenizer_figures(trained, held_out)}


def _conversations(context: StageContext) -> list[str]:
    """Text of the training conversations: the pieces should also fit what is asked and answered."""
    from jvlm.images.shards import ShardReader

    texts: list[str] = []
    for name in ("captions_train", "instruct_train", "medical_training"):
        shards = ShardReader(context.shards / name)
        for index in range(min(len(shards), 2000)):
            texts += [m["content"][-1] for m in shards.record(index)["messages"] if isinstance(m["content"][-1], str)]
    return texts
