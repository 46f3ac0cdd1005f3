"""In from other people's models: a Hugging Face folder of a language model becomes a directory of ours."""

from pathlib import Path

import torch
from transformers import MixtralForCausalLM, PreTrainedConfig

from jvlm.cards import carry_card
from jvlm.errors import DataError, UsageError
from jvlm.files import read_json
from jvlm.model import attention
from jvlm.model.directory import save_model
from jvlm.model.experts import use_own_forward
from jvlm.model.language import CLASSES, LanguageModel
from jvlm.model.processor import Processor
from jvlm.text.adopt import adopt_tokenizer


def adopt(source: Path, target: Path) -> str:
    """Write the model of `source` (config.json, safetensors, tokenizer.json) to `target`; returns what it is, in words.

    Weights become float32. Control tokens that its tokenizer lacks begin as the mean of the others. Raises UsageError
    for another type of model or when `target` exists, DataError for files that are missing, pickled or do not fit, and
    for a sliding window, which packed attention has not.
    """
    if target.exists():
        raise UsageError("the target exists already", where=target, fix="name a new directory")
    config = _config(source)
    tokenizer, new = adopt_tokenizer(source)
    model = _weights(source, config)
    known = tokenizer.vocab_size - len(new)
    if tokenizer.vocab_size > model.config.vocab_size:
        model.resize_token_embeddings(tokenizer.vocab_size, mean_resizing=False)
    with torch.no_grad():
        for table in (model.model.embed_tokens.weight, model.lm_head.weight):  # one and the same where tied
            table[new] = table[:known].mean(0)
    processor = Processor(tokenizer)
    settings = model.config
    settings.pad_token_id, settings.bos_token_id, settings.eos_token_id = processor.pad, processor.bos, processor.eos
    save_model(target, model, processor)
    carry_card([source], target, "Brought in by `jvlm import`; weights are float32.")
    parameters = sum(p.numel() for p in model.parameters())
    return f"{type(model).__name__} with {parameters:,} parameters, {len(new)} control tokens added"


def _config(source: Path) -> PreTrainedConfig:
    path = source / "config.json"
    if not path.is_file():
        raise DataError("no model: config.json is missing", where=source)
    record = read_json(path)
    kind = record.get("model_type")
    if kind not in CLASSES:
        fix = f"known: {', '.join(CLASSES)}"
        raise UsageError(f"a model of type {kind!r} cannot be brought in", where=path, fix=fix)
    if record.get("quantization_config"):
        raise UsageError("the weights are quantised", where=path, fix="take the folder that they were made from")
    if not list(source.glob("*.safetensors")):
        fix = "load it with transformers, if you trust it, and save it with save_pretrained"
        raise DataError("no safetensors; pickled weights can run code and are not read", where=source, fix=fix)
    config: PreTrainedConfig = CLASSES[kind][0].from_pretrained(source, local_files_only=True)
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    length = config.max_position_embeddings
    if window is not None and window < length and (kinds is None or "sliding_attention" in kinds):
        fix = f"set max_position_embeddings to {window} there, within which there is no difference"
        raise DataError(f"attention reaches {window} tokens back in texts of {length}", where=path, fix=fix)
    if hasattr(config, "sliding_window"):
        config.sliding_window = None
    if kinds is not None:
        config.layer_types = ["full_attention"] * len(kinds)
    return config


def _weights(source: Path, config: PreTrainedConfig) -> LanguageModel:
    model: LanguageModel
    model, told = CLASSES[config.model_type][1].from_pretrained(
        source,
        config=config,
        dtype=torch.float32,
        attn_implementation=attention.NAME,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    if wrong := {what: sorted(names)[:3] for what, names in told.items() if names}:
        raise DataError(f"the weights do not fit the config: {wrong}", where=source)
    if isinstance(model, MixtralForCausalLM):
        model.config.output_router_logits = False
        use_own_forward(model)
    return model
