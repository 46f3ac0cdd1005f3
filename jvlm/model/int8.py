"""Linear layers with weights of 8 bits: a quarter of the memory of float32, for models on small machines.

Each output channel is scaled so that its largest weight is 127; activations stay as they are, so that an answer still
does not depend on its batch. The head stays whole, as it is often the table of the embeddings, and so do experts,
convolutions and the attention of open_clip's own towers, which are no linear layers.
"""

from typing import Literal

import torch
from torch import nn

from jvlm.errors import UsageError

Weights = Literal["full", "int8"]


def to_int8(model: nn.Module) -> None:
    """Replace the weights of linear layers, in place. Raises UsageError where torchao is not installed."""
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError:
        raise UsageError("int8 weights need torchao, which is not installed", fix="pip install 'jvlm[quant]'") from None

    def chosen(module: nn.Module, name: str) -> bool:
        return type(module) is nn.Linear and name.rpartition(".")[2] != "lm_head"

    quantize_(model, Int8WeightOnlyConfig(set_inductor_config=False), chosen)


def weight_bytes(model: nn.Module) -> int:
    """Memory that the parameters take; what is shared counts once."""
    return sum(part.numel() * part.element_size() for p in model.parameters() for part in _parts(p))


def _parts(parameter: torch.Tensor) -> list[torch.Tensor]:
    if not hasattr(parameter, "__tensor_flatten__"):
        return [parameter]
    names, _ = parameter.__tensor_flatten__()
    return [getattr(parameter, name) for name in names]
