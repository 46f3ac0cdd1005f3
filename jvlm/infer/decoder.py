"""A language model with a cache of its own: prompts are read into rows, then every row gets a token at a time.

What transformers leaves to win here: its cache is copied whole for every token, its masks are made anew, and a batch
goes on until its longest answer ends. Here a row begins at column 0 of memory that is there already, whatever its
neighbours hold, so that it can be read, moved and replaced alone. Prompts read together are padded on the right:
with causal attention no token sees what stands behind it, and the answer overwrites it.

The blocks are transformers' own modules, called part by part, so that linear layers may be quantised or adapted. What a
block does to each token by itself, in front of attention (`_before`) and behind it (`_after`), may be compiled: its
only changing size is the number of tokens, so that there is one program for all that is read or written.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import SiLUActivation

from jvlm.model.language import LanguageModel

COLUMNS = 64
"""Memory grows by so many tokens a row."""

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines ``[tokens, 1, 1, head_dim]``, the first half of the sines negated."""


class Start(NamedTuple):
    """What prompts begin with, already read: ids, and the memory ``[layers, 2, kv_heads, len(ids), head_dim]``."""

    ids: list[int]
    memory: Tensor


class Decoder:
    """Rows of tokens, at most `most_rows`; the first `rows` are in use.

    `memory` is ``[layers, 2 (keys, values), rows, kv_heads, columns, head_dim]``, as large as was needed so far.
    """

    def __init__(self, language: LanguageModel, most_rows: int, *, compile: bool = False) -> None:
        self.language, self.most_rows = language, most_rows
        self._before, self._after = (_compiled if compile else _plain)()
        self._layers: list[Any] = list(language.model.layers)
        self._windows = [_window(layer.self_attn, language.config) for layer in self._layers]
        self.memory = self._zeros(0, 0)
        self._held: list[int] = []  # tokens in each row

    @property
    def rows(self) -> int:
        """Rows in use."""
        return len(self._held)

    def start(self, ids: list[int], embeddings: Tensor) -> Start:
        """Read ``[1, len(ids), hidden]`` as what prompts begin with; no row is taken."""
        self.read(embeddings, [len(ids)])
        self._held.pop()
        return Start(ids, self.memory[:, :, self.rows, :, : len(ids)].clone())

    def read(self, embeddings: Tensor, lengths: Sequence[int], start: Start | None = None) -> Tensor:
        """Read prompts into new rows behind those in use.

        Args:
            embeddings: ``[B, T, hidden]``, padded on the right, of what follows `start`.
            lengths: of the prompts, without padding and without `start`.
            start: what all of them begin with.

        Returns:
            Logits ``[B, vocabulary]`` of the token behind each prompt.
        """
        begun = len(start.ids) if start else 0
        total, rows = begun + embeddings.shape[1], slice(self.rows, self.rows + len(lengths))
        self._make_room(rows.stop, total)
        batch, length, device = *embeddings.shape[:2], embeddings.device
        positions = torch.arange(begun, total, device=device)[None]  # [1, T]
        rotation = self._rotation(embeddings, positions.repeat(batch, 1))
        masks = {  # from the first token on, without a window, it is plainly causal, for which there is a faster way
            window: _mask(embeddings, positions, total, window) if begun or window or total == 1 else None
            for window in {*self._windows}
        }
        x = embeddings.flatten(0, 1)[:, None]  # [B·T, 1, hidden]
        for number, layer in enumerate(self._layers):
            memory, window = self.memory[number, :, rows, :, :total], self._windows[number]
            query, *new = self._before(layer, x, rotation)
            if start:
                memory[:, :, :, :begun] = start.memory[number, :, None]
            for kept, vectors in zip(memory, new, strict=True):
                kept[:, :, begun:] = vectors.view(batch, length, *vectors.shape[2:]).transpose(1, 2)
            if number == len(self._layers) - 1:  # nothing looks at what it gives for other tokens than the last
                ends = torch.tensor(lengths, device=device) - 1
                each = torch.arange(0, batch * length, length, device=device) + ends
                x, query, length = x[each], query[each], 1
                masks[window] = _mask(x, begun + ends[:, None], total, window)
            found = _attend(query.view(batch, length, *query.shape[2:]), memory, masks[window], layer.self_attn.scaling)
            x = self._after(layer, x, found.reshape(batch * length, 1, -1))
        self._held += [begun + length for length in lengths]
        return self._logits(x)

    def write(self, embeddings: Tensor) -> Tensor:
        """Put a token, ``[rows, 1, hidden]``, into every row; returns the logits ``[rows, vocabulary]`` behind it."""
        number, columns = self.rows, 1 + max(self._held)
        self._make_room(number, columns)
        positions = torch.tensor(self._held, device=embeddings.device)
        rotation = self._rotation(embeddings, positions[:, None])
        places = self._places(positions)
        masks = {w: _mask(embeddings, positions[:, None], columns, w) for w in {*self._windows}}
        x = embeddings
        for layer, memory, window in zip(self._layers, self.memory, self._windows, strict=True):
            query, *new = self._before(layer, x, rotation)
            for kept, vectors in zip(memory, new, strict=True):
                kept.view(-1, kept.shape[-1]).index_copy_(0, places, vectors.flatten(0, 2))
            found = _attend(query, memory[:, :number, :, :columns], masks[window], layer.self_attn.scaling)
            x = self._after(layer, x, found.reshape(number, 1, -1))
        self._held = [held + 1 for held in self._held]
        return self._logits(x)

    def keep(self, rows: Sequence[int]) -> None:
        """Row i becomes what row ``rows[i]`` is: it stays, or moves to the place of a row that is not named."""
        for new, old in enumerate(rows):
            if new != old:
                assert new not in rows
                columns = self._held[old]
                self.memory[:, :, new, :, :columns] = self.memory[:, :, old, :, :columns]
        self._held = [self._held[row] for row in rows]

    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.language.lm_head(_norm(self.language.model.norm, x)[:, 0])
        return logits.float()

    def _places(self, positions: Tensor) -> Tensor:
        """Where in a layer's keys, as ``[vectors, head_dim]``, those of the token at a position of each row stand."""
        rows, heads, columns = self.memory.shape[2:5]
        vectors = torch.arange(0, rows * heads * columns, columns, device=positions.device).view(rows, heads)
        return (vectors[: len(positions)] + positions[:, None]).flatten()

    def _rotation(self, x: Tensor, positions: Tensor) -> Rotation:
        cosines, sines = self.language.model.rotary_emb(x, positions.view(-1, 1))  # [tokens, 1, head_dim]
        first, second = sines.chunk(2, -1)
        return cosines.unsqueeze(2), torch.cat([-first, second], -1).unsqueeze(2)

    def _make_room(self, rows: int, columns: int) -> None:
        """Memory for so many; what once needed much more and is over is given back."""
        has_rows, has_columns = self.memory.shape[2], self.memory.shape[4]
        columns = -(-columns // COLUMNS) * COLUMNS
        if rows <= has_rows and columns <= has_columns and (self.rows or has_columns <= 2 * columns):
            return
        if not self.rows:
            has_columns = 0
        old, held = self.memory, max(self._held, default=0)
        self.memory = self._zeros(max(has_rows, min(self.most_rows, 2 * rows)), max(has_columns, columns))
        self.memory[:, :, : self.rows, :, :held] = old[:, :, : self.rows, :, :held]

    def _zeros(self, rows: int, columns: int) -> Tensor:
        # zeros, not empty: what a mask hides still goes into products, and 0 × nan is no 0
        config: Any = self.language.config
        heads, width = config.num_key_value_heads, self._layers[0].self_attn.head_dim
        shape: Sequence[int] = (len(self._layers), 2, rows, heads, columns, width)
        dtype, device = self.language.dtype, self.language.device
        if device.type != "cpu" or not rows:
            return torch.zeros(shape, dtype=dtype, device=device)
        # numpy leaves zeroing to the system, which does it when a place is first used, and asks it for large pages
        zeros = torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, np.uint8))
        return zeros.view(dtype).view(shape)


Parts = tuple[Callable[[Any, Tensor, Rotation], tuple[Tensor, Tensor, Tensor]], Callable[[Any, Tensor, Tensor], Tensor]]
"""`_before` and `_after`, as they are or compiled."""


def _plain() -> Parts:
    return _before, _after


@cache
def _compiled() -> Parts:
    """The layers of a kind share a program; one token has its own."""
    return torch.compile(_before, dynamic=True), torch.compile(_after, dynamic=True)


def _before(layer: Any, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
    """Of tokens ``[tokens, 1, hidden]``: queries, keys and values, each ``[tokens, 1, heads, head_dim]``."""
    attention, normed = layer.self_attn, _norm(layer.input_layernorm, x)
    query, key, value = (_heads(attention, kind, normed) for kind in "qkv")
    return _rotated(query, rotation), _rotated(key, rotation), value


def _after(layer: Any, x: Tensor, found: Tensor) -> Tensor:
    """What a block makes of tokens ``[tokens, 1, hidden]``; attention found ``[tokens, 1, heads·head_dim]``."""
    x = x + layer.self_attn.o_proj(found)
    return x + _mixed(layer.mlp, _norm(layer.post_attention_layernorm, x))


def _mixed(mlp: Any, normed: Tensor) -> Tensor:
    """A block's perceptron, or its experts; where it is gated by SiLU, with a copy less of what is widest."""
    if isinstance(getattr(mlp, "act_fn", None), SiLUActivation):
        gate = F.silu(mlp.gate_proj(normed), inplace=True)
        return mlp.down_proj(gate.mul_(mlp.up_proj(normed)))
    return mlp(normed)


def _attend(query: Tensor, memory: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """What queries ``[B, T, heads, head_dim]`` find; as large as they are.

    memory: ``[2 (keys, values), B, kv_heads, columns, head_dim]``. mask: added to the scores; None is causal.
    """
    keys, values = memory
    if query.shape[1] > 1:
        return F.scaled_dot_product_attention(
            query.transpose(1, 2), keys, values, mask, is_causal=mask is None, scale=scale, enable_gqa=True
        ).transpose(1, 2)
    assert mask is not None
    # heads that share keys and values, as if they were so many positions
    grouped = query.view(len(query), keys.shape[1], -1, query.shape[-1])
    return _attend_of_few(grouped, keys, values, mask, scale).view(query.shape)


def _attend_of_few(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float) -> Tensor:
    """What few queries a row, ``[B, kv_heads, queries, head_dim]``, find among its keys.

    On a processor the fused kernel takes each row and head by itself, which for one query costs more than its products:
    two products of all of them at once are faster (docs/log.md).
    """
    if query.device.type != "cpu" or query.dtype != torch.float32:
        return F.scaled_dot_product_attention(query, keys, values, mask, scale=scale)
    shape = query.shape
    mask = mask.expand(*shape[:2], -1, -1).flatten(0, 1)  # [B·kv_heads, 1, columns]
    query, keys, values = (part.flatten(0, 1) for part in (query, keys, values))
    shares = torch.baddbmm(mask, query, keys.transpose(1, 2), alpha=scale).softmax(-1)
    return torch.bmm(shares, values).view(shape)


def _heads(attention: Any, kind: str, normed: Tensor) -> Tensor:
    """``[B, T, hidden]`` → ``[B, T, heads, head_dim]`` by the projection `kind`; Qwen 3 norms queries and keys."""
    heads: Tensor = getattr(attention, f"{kind}_proj")(normed).unflatten(-1, (-1, attention.head_dim))
    norm = getattr(attention, f"{kind}_norm", None)
    return heads if norm is None else _norm(norm, heads)


def _norm(norm: Any, x: Tensor) -> Tensor:
    """transformers' RMS norm in one operation instead of six."""
    return F.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _rotated(heads: Tensor, rotation: Rotation) -> Tensor:
    """``[B, T, heads, head_dim]`` turned by its positions, the two halves of each head being pairs."""
    cosines, sines = rotation
    return (heads * cosines).addcmul_(heads.roll(heads.shape[-1] // 2, -1), sines)


def _mask(x: Tensor, positions: Tensor, columns: int, window: int | None) -> Tensor:
    """``[B or 1, 1, T, columns]``, to be added: nothing where a position ``[B or 1, T]`` sees a column, else -inf."""
    column = torch.arange(columns, device=x.device)
    hidden = column > positions[..., None]
    if window is not None:
        hidden |= column <= positions[..., None] - window
    return x.new_zeros(hidden.shape).masked_fill_(hidden, -torch.inf)[:, None]


def _window(attention: nn.Module, config: Any) -> int | None:
    """How many tokens a layer looks back, itself included; None: all."""
    window = getattr(attention, "sliding_window", getattr(config, "sliding_window", None))
    return None if window is None or window >= config.max_position_embeddings else int(window)
