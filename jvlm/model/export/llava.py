"""A whole vision-language model as transformers' `LlavaForConditionalGeneration`: tower, projector, language model.

Tensors have the names that they have in LLaVA's published directories.

Our image markers have embeddings of their own, which the head does not know. LLaVA has one table, so they are written
into it, and the head keeps the table without them: input and output embeddings are two matrices in every export.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from jvlm.errors import UsageError
from jvlm.files import new_folder, write_json
from jvlm.model.directory import WEIGHTS, Loaded, language_config_record
from jvlm.model.experts import split_experts
from jvlm.model.export.llava_processor import select_strategy, write_processor_files
from jvlm.model.export.vision import ConvertedTower, convert_tower
from jvlm.model.jvlm import JvlmModel
from jvlm.model.processor import Processor
from jvlm.model.tensors import plan_files, write_tensors

INPUT_TABLE, HEAD = "language_model.model.embed_tokens.weight", "language_model.lm_head.weight"


def write_llava(loaded: Loaded, source: Path, target: Path) -> str:
    """Write the model of `loaded`, read from `source`, to `target`; returns what was written, in words.

    Raises UsageError when it is no vision-language model, or with all it has that LLaVA has not; nothing is written.
    """
    if loaded.kind != "jvlm":
        raise UsageError(f"a '{loaded.kind}' model is no vision-language model", where=source)
    model, processor = loaded.model, loaded.processor
    tower = convert_tower(model.tower)
    if obstacles := [*tower.obstacles, *_obstacles(model, processor)]:
        fix = "train without them, or export the language model alone with hf"
        raise UsageError("LLaVA has no equivalent for " + "; ".join(obstacles), where=source, fix=fix)
    shapes = {name: tensor.shape for name, tensor in _tensors(model, processor, tower)}
    with new_folder(target) as new:
        write_json(new / "config.json", _config(model, processor, tower))
        stops = {"bos_token_id": processor.bos, "eos_token_id": processor.end, "pad_token_id": processor.pad}
        write_json(new / "generation_config.json", stops)
        write_processor_files(new, processor, tower)
        write_tensors(new, WEIGHTS, _tensors(model, processor, tower), plan_files(WEIGHTS, shapes))
    count = sum(shape.numel() for shape in shapes.values())
    return f"LlavaForConditionalGeneration with {count:,} parameters"


def _obstacles(model: JvlmModel, processor: Processor) -> list[str]:
    """What the settings ask for that LLaVA cannot do."""
    found = []
    if model.vision_config.feature_norm and not model.vision_config.timm_model:  # whose features go through none
        found.append("vision.feature_norm (it takes features as the blocks leave them: false)")
    if model.projector_config.kind != "mlp":
        found.append(f"projector.kind {model.projector_config.kind} (it has mlp)")
    if processor.tiles.per_image:
        found.append(f"tiles.per_image {processor.tiles.per_image} (it has the whole view only: 0)")
    return found


def _config(model: JvlmModel, processor: Processor, tower: ConvertedTower) -> dict[str, Any]:
    blocks = tower.config["num_hidden_layers"]
    # its hidden states are the embeddings and the output of each block: counted from the end, both numberings agree
    layers = [block % blocks - blocks for block in model.vision_config.feature_layers]
    apart = {"tie_word_embeddings": False}
    return {
        "model_type": "llava",
        "architectures": ["LlavaForConditionalGeneration"],
        "text_config": language_config_record(model.language.config) | apart,
        "vision_config": tower.config,
        "vision_feature_layer": layers[0] if len(layers) == 1 else layers,
        "vision_feature_select_strategy": select_strategy(tower),
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": True,
        "image_token_index": processor.image_token,
        "image_seq_length": processor.num_image_tokens,
        "dtype": "float32",
        "torch_dtype": "float32",
    } | apart


def _tensors(model: JvlmModel, processor: Processor, tower: ConvertedTower) -> Iterator[tuple[str, Tensor]]:
    yield from ((f"vision_tower.vision_model.{name}", tensor) for name, tensor in tower.tensors.items())
    yield from ((f"multi_modal_projector.{name}", tensor) for name, tensor in model.projector.named_parameters())
    for name, tensor in split_experts(model.language.named_parameters()):
        if (name := f"language_model.{name}") not in (INPUT_TABLE, HEAD):
            yield name, tensor
    yield HEAD, model.language.lm_head.weight
    yield INPUT_TABLE, _input_table(model, processor)


def _input_table(model: JvlmModel, processor: Processor) -> Tensor:
    table: Tensor = model.language.model.embed_tokens.weight.detach().clone()  # [vocabulary, hidden]
    table[list(processor.image_ids.marks)] = model.markers.weight.detach()
    return table
