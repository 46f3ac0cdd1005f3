"""Linear layers with weights of 8 or 4 bits: a quarter or a seventh of the memory of float32, for small machines.

8 bits: each output channel is scaled so that its largest weight is 127. 4 bits: the normal floats of
`jvlm.model.nf4`; a layer whose weight does not divide into their blocks has 8 bits. Activations stay as they are, so
that an answer still does not depend on its batch. The head stays whole, as it is often the table of the embeddings,
and so do experts, convolutions and the attention of open_clip's own towers, which are no linear layers.

torchao's own 4 bits for processors (`Int4OpaqueTensor`, a prototype) are no way: in float32 a layer takes a hundred
times as long.
"""

from typing import Literal, TypeGuard

import torch
from torch import nn

from jvlm.errors import UsageError
from jvlm.model.nf4 import BLOCK, to_nf4

Weights = Literal["full", "int8", "int4"]


def quantize(model: nn.Module, weights: Weights) -> None:
    """Replace the weights of linear layers, in place. Raises UsageError where torchao is not installed."""
    if weights == "int4":
        for name, module in model.named_modules():
            if _is_chosen(module, name) and module.weight.numel() % BLOCK == 0:
                to_nf4(module)
    if weights != "full":
        to_int8(model)


def to_int8(model: nn.Module) -> None:
    """Round to 8 bits what is whole, in place. Raises UsageError where torchao is not installed."""
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError:
        raise UsageError("int8 weights need torchao, which is not installed", fix="pip install 'jvlm[quant]'") from None
    quantize_(model, Int8WeightOnlyConfig(set_inductor_config=False), _is_chosen)


def weight_bytes(model: nn.Module) -> int:
    """Memory that the parameters take; what is shared counts once."""
    return sum(part.numel() * part.element_size() for p in model.parameters() for part in _parts(p))


def _is_chosen(module: nn.Module, name: str) -> TypeGuard[nn.Linear]:
    """Whether it is a whole linear layer, and not the head."""
    return type(module) is nn.Linear and type(module.weight) is nn.Parameter and name.rpartition(".")[2] != "lm_head"


def _parts(parameter: torch.Tensor) -> list[torch.Tensor]:
    if not hasattr(parameter, "__tensor_flatten__"):
        return [parameter]
    names, _ = parameter.__tensor_flatten__()
    return [getattr(parameter, name) for name in names]
