"""The language model alone, as the transformers class it is."""

from pathlib import Path

from jvlm.errors import UsageError
from jvlm.model.directory import Loaded, save_model
from jvlm.model.language import LanguageModel
from jvlm.model.processor import Processor


def write_language_model(loaded: Loaded, source: Path, target: Path, format: str) -> str:
    """Write the language model of `loaded` to `target`; returns what was written, in words.

    Raises UsageError when there is none, or it is of another type than `format` demands.
    """
    language = loaded.model.language if loaded.kind == "jvlm" else loaded.model
    if not isinstance(language, LanguageModel):
        raise UsageError(f"a '{loaded.kind}' model holds no language model", where=source)
    if format not in ("hf", language.config.model_type):
        raise UsageError(f"the model is a {language.config.model_type}, no {format}", where=source, fix="use hf")
    save_model(target, language, Processor(loaded.processor.tokenizer))
    return f"{type(language).__name__} with {sum(p.numel() for p in language.parameters()):,} parameters"
