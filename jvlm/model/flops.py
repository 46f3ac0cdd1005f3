"""Operations of a training step, counted from the structure of the model.

A product of ``[m, k]`` and ``[k, n]`` is 2mkn operations. Forward, a language model takes for a packed batch

    2 · weights of its blocks' matrices · tokens        of a mixture of experts those that a token goes to
    2 · width · vocabulary · trained tokens             the head; the others are not projected
    4 · layers · heads · head width · Σ length² / 2     QKᵀ and PV of each document, half of them masked

and with the backward pass three times that: a product for the gradient of the weights and one for the gradient of
what came in. With dense rows and one document each that is the usual 6 · weights + 6 · layers · width · length a token
(Kaplan et al. 2020; PaLM's appendix B leaves the mask on). A frozen part takes no gradient of weights, and no gradient
at all when nothing before it learns; beside adapters the matrices themselves are frozen. The image tower, which may be
any network, is counted product by product as it looks at one picture. Norms, softmax, rotary embedding and activations
are left out, and so is what activation checkpointing computes again.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from jvlm.model.jvlm import JvlmModel
from jvlm.model.lora import is_adapter
from jvlm.model.packed import PackedBatch
from jvlm.model.processor import PADDING_GREY


def counted(module: nn.Module, run: Callable[[], Any]) -> float:
    """Operations of the matrix products and convolutions of `run`, a forward pass through `module`."""
    training, fast = module.training, torch.backends.mha.get_fastpath_enabled()
    module.eval()  # a batch norm must not learn from it
    torch.backends.mha.set_fastpath_enabled(False)  # one kernel for all of a block, which is not counted
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run()
        return float(counter.get_total_flops())
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        module.train(training)


class Flops:
    """Operations of the forward and backward pass over a packed batch, by this process."""

    def __init__(self, model: nn.Module) -> None:
        """`model` is a language model or a JvlmModel whose frozen parts are frozen already."""
        language: Any = model.language if isinstance(model, JvlmModel) else model
        config, layers = language.config, language.model.layers
        active = getattr(config, "num_experts_per_tok", 1) / getattr(config, "num_local_experts", 1)
        weights = sum(
            parameter.numel() * (active if ".experts." in name else 1)
            for name, parameter in layers.named_parameters()
            if parameter.ndim > 1
        )
        width = config.num_attention_heads * layers[0].self_attn.head_dim
        seen, per_image = False, 0.0
        learned = _share_that_learns(layers)
        if isinstance(model, JvlmModel):
            side = model.vision_config.image_size
            device = next(model.parameters()).device
            picture = torch.full((1, 3, side, side), PADDING_GREY, dtype=torch.uint8, device=device)
            tower = counted(model, lambda: model.tower(picture))
            whole = counted(model, lambda: model.image_features(picture))
            share, projector_learns = _share_that_learns(model.tower), _learns(model.projector)
            seen = share > 0 or projector_learns
            # adapters stand in every block, so that the gradient goes all the way down
            way = 1.0 if any(is_adapter(name) for name, _ in model.tower.named_parameters()) else share
            per_image = tower * (1 + share + way) + (whole - tower) * _passes(projector_learns, share > 0)
        passes = _passes(_learns(language), seen)
        self.per_image = per_image
        self.per_token = 2 * weights * (1 + learned + (learned > 0 or seen))
        head = language.lm_head.weight
        self.per_target = 2 * head.numel() * (1 + head.requires_grad + (learned > 0 or seen))
        self.per_pair = 2 * len(layers) * width * passes  # of a token with one of its document, masked or not

    def __call__(self, batch: PackedBatch) -> float:
        pairs = sum(length**2 for length in batch.doc_lens)
        images = 0 if batch.pixels is None else len(batch.pixels)
        matrices = self.per_token * batch.input_ids.numel() + self.per_target * batch.weight
        return matrices + self.per_pair * pairs + self.per_image * images


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _share_that_learns(part: nn.Module) -> float:
    """Of the weights of a part. What learns of a tower is its upper end, and the gradient goes no further down."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in part.parameters()]
    return sum(size for size, learns in sizes if learns) / sum(size for size, _ in sizes)


def _passes(learns: bool, before: bool) -> int:
    """Forward, gradient of the weights, gradient of the input; `before`: whether anything before this part learns."""
    return 1 + learns + (learns or before)
