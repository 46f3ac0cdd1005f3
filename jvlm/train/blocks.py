"""What is done to the decoder blocks of a model while it is trained: compiling them, computing them twice."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from jvlm.errors import UsageError
from jvlm.train.config import EngineConfig


@contextmanager
def prepared_blocks(model: nn.Module, config: EngineConfig) -> Iterator[Callable[[], None]]:
    """Compile the blocks or have their activations computed again, as `config` says; yields what undoes compiling.

    Blocks are compiled one by one, so that all of them share one program, of fixed shapes; attention stays outside.
    Raises UsageError when there is no block, or for ZeRO 3, which gathers weights inside of blocks.
    """
    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if (config.compile or config.recompute) and not blocks:
        raise UsageError("the model has no decoder blocks", fix="leave engine.compile and engine.recompute out")
    if config.compile and config.zero == 3:
        raise UsageError("ZeRO 3 gathers weights inside of blocks, they cannot be compiled", fix="use zero: 2")

    def wrap(compile: bool) -> None:
        for block in blocks:
            forward: Callable[..., Any] = partial(type(block).forward, block)
            if compile:
                forward = torch.compile(forward, dynamic=False)
            if config.recompute:
                forward = partial(checkpoint, forward, use_reentrant=False)
            block.forward = forward

    wrap(config.compile)
    try:
        yield partial(wrap, False)
    finally:
        for block in blocks:
            del block.forward
