"""Out to plain transformers directories, which load without any code of ours."""

from pathlib import Path

from jvlm.cards import carry_card
from jvlm.errors import UsageError
from jvlm.model.directory import load_directory
from jvlm.model.export.language import write_language_model
from jvlm.model.export.llava import write_llava
from jvlm.model.language import CLASSES

FORMATS = ("hf", *CLASSES, "llava")


def export(source: Path, target: Path, format: str) -> str:
    """Write `source` as `format` into `target`; returns what was written, in words.

    ``hf``: the language model alone, with the tokenizer, as the transformers class it is; the name of a type demands
    that it is of that one. ``llava``: the whole vision-language model as `LlavaForConditionalGeneration`.
    Raises UsageError when the source holds no such model, has what the format has not, or the format is unknown.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format '{format}'", fix=f"known: {', '.join(FORMATS)}")
    if target.exists():
        raise UsageError("the target exists already", where=target, fix="name a new directory")
    loaded = load_directory(source)
    if format == "llava":
        told = write_llava(loaded, source, target)
    else:
        told = write_language_model(loaded, source, target, format)
    carry_card([source], target, f"Written by `jvlm export --format {format}`.")
    return told
