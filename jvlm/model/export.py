"""Out to plain transformers directories, which load without any code of ours."""

from pathlib import Path

from jvlm.errors import UsageError
from jvlm.model.directory import load_directory, save_model
from jvlm.model.language import CLASSES, LanguageModel
from jvlm.model.processor import Processor

FORMATS = ("hf", *CLASSES)


def export(source: Path, target: Path, format: str) -> str:
    """Write `source` as `format` into `target`; returns what was written, in words.

    ``hf``: the language model alone, with the tokenizer, as the transformers class it is; the name of a type demands
    that it is of that one. Raises UsageError when the source holds no such language model or the format is unknown.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format '{format}'", fix=f"known: {', '.join(FORMATS)}")
    if target.exists():
        raise UsageError("the target exists already", where=target, fix="name a new directory")
    loaded = load_directory(source)
    language = loaded.model.language if loaded.kind == "jvlm" else loaded.model
    if not isinstance(language, LanguageModel):
        raise UsageError(f"a '{loaded.kind}' model holds no language model", where=source)
    if format not in ("hf", language.config.model_type):
        raise UsageError(f"the model is a {language.config.model_type}, no {format}", where=source, fix="use hf")
    save_model(target, language, Processor(loaded.processor.tokenizer))
    return f"{type(language).__name__} with {sum(p.numel() for p in language.parameters()):,} parameters"
