"""Linear layers with weights of 4 bits: the normal floats of QLoRA (Dettmers et al. 2023).

A weight takes an eighth of the memory of float32 and a 30th more: 64 weights share a scale of 8 bits, which is itself
rounded, 256 of them sharing one. Adapters learn beside them, and answers are written with them
(`jvlm.model.quantized`). They save memory, not time: a product unpacks them first.
"""

import math
from typing import Any

from torch import nn

from jvlm.errors import UsageError

BLOCK, SCALERS = 64, 256
"""Weights that share a scale, scales that share one of theirs."""


def to_nf4(layer: nn.Linear) -> None:
    """Replace the weight of a layer, in place.

    Raises UsageError where torchao is not installed or the weight does not divide into blocks.
    """
    try:
        from torchao.quantization import NF4Tensor
    except ImportError:
        raise UsageError("int4 weights need torchao, which is not installed", fix="pip install 'jvlm[quant]'") from None
    weight: Any = layer.weight
    if weight.numel() % BLOCK:
        text = f"a weight of {tuple(weight.shape)} does not divide into blocks of {BLOCK} 4-bit numbers"
        raise UsageError(text, fix="use int8")
    scalers = math.gcd(weight.numel() // BLOCK, SCALERS)
    layer.weight = nn.Parameter(NF4Tensor.from_tensor(weight.detach(), BLOCK, scalers), requires_grad=False)
