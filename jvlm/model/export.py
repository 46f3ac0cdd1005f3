"""Out to plain transformers directories, which load without any code of ours."""

from pathlib import Path

from jvlm.errors import UsageError
from jvlm.model.directory import load_directory, save_model
from jvlm.model.processor import Processor

FORMATS = ("llama",)


def export(source: Path, target: Path, format: str) -> str:
    """Write `source` as `format` into `target`; returns what was written, in words.

    ``llama``: the language model alone as `LlamaForCausalLM`, with the tokenizer. Raises UsageError when the
    source holds no language model or the format is unknown.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format '{format}'", fix=f"known: {', '.join(FORMATS)}")
    if target.exists():
        raise UsageError("the target exists already", where=target, fix="name a new directory")
    loaded = load_directory(source)
    if loaded.kind not in ("llama", "jvlm"):
        raise UsageError(f"a '{loaded.kind}' model holds no language model", where=source)
    language = loaded.model.language if loaded.kind == "jvlm" else loaded.model
    save_model(target, language, Processor(loaded.processor.tokenizer))
    return f"LlamaForCausalLM with {sum(p.numel() for p in language.parameters()):,} parameters"
