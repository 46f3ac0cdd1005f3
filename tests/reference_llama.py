"""The whole of a Llama in plain torch, written to be read; what transformers computes for us is held against it.

A token is a vector of `hidden_size` numbers. Every block adds to it twice: what attention brings from earlier tokens
(`Attention`), then what a perceptron makes of the token itself (`FeedForward`). Both read the vector at a fixed size
(`RMSNorm`). Shapes are given with B rows, T tokens, H query heads, G key and value heads, D numbers in a head.

Touvron et al. 2023 (arXiv:2302.13971); RMSNorm: Zhang and Sennrich 2019; rotary positions: Su et al. 2021; SwiGLU:
Shazeer 2020; grouped queries: Ainslie et al. 2023; a mixture of experts in place of the perceptron: Jiang et al. 2024.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """What a config.json says. A Mixtral sends each token to `experts_per_token` of its `experts`; a Llama has none."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    intermediate_size: int
    rope_theta: float
    norm_eps: float
    tied: bool
    experts: int = 0
    experts_per_token: int = 0


class RMSNorm(nn.Module):
    """Divide a vector by its root mean square, then scale each number by a learned weight."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: Tensor) -> Tensor:
        mean_square = x.float().pow(2).mean(-1, keepdim=True)
        return self.weight * (x.float() * torch.rsqrt(mean_square + self.eps)).to(x.dtype)


def rotary_angles(positions: Tensor, head_size: int, theta: float) -> Tensor:
    """``[B, T]`` positions → angles ``[B, T, D / 2]``, float32 whatever the model computes in.

    Pair i of a head turns by theta^(-2i/D) radians a token: the first pairs tell neighbours apart, the last far places.
    In bfloat16, with its 8 bits, positions above 256 would run into one another.
    """
    pairs = torch.arange(0, head_size, 2, dtype=torch.float32)
    return positions[..., None].float() * theta ** (-pairs / head_size)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn pair (i, i + D/2) of each head of ``[B, T, heads, D]`` by its angle: dot products see distances only."""
    cos, sin = angles.cos()[:, :, None].to(x.dtype), angles.sin()[:, :, None].to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class Attention(nn.Module):
    """Each token asks (query) and takes a mean of what earlier tokens offer (value), weighted by how their keys fit."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.kv_heads, size = shape.num_heads, shape.num_kv_heads, shape.hidden_size
        head = size // self.heads
        self.q_proj = nn.Linear(size, self.heads * head, bias=False)
        self.k_proj = nn.Linear(size, self.kv_heads * head, bias=False)
        self.v_proj = nn.Linear(size, self.kv_heads * head, bias=False)
        self.o_proj = nn.Linear(self.heads * head, size, bias=False)

    def forward(self, x: Tensor, angles: Tensor, mask: Tensor) -> Tensor:
        q = rotate(self.q_proj(x).unflatten(-1, (self.heads, -1)), angles)  # [B, T, H, D]
        k = rotate(self.k_proj(x).unflatten(-1, (self.kv_heads, -1)), angles)  # [B, T, G, D]
        v = self.v_proj(x).unflatten(-1, (self.kv_heads, -1))
        k, v = (y.repeat_interleave(self.heads // self.kv_heads, 2) for y in (k, v))  # H / G queries share a key
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
        weights = scores.masked_fill(~mask[:, None], float("-inf")).softmax(-1)
        return self.o_proj(torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2))


class FeedForward(nn.Module):
    """SwiGLU: one projection, let through by another."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class MixtureOfExperts(nn.Module):
    """Several perceptrons, of which a router picks a few for each token and mixes them by its own odds."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.hidden_size, shape.experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(shape) for _ in range(shape.experts))
        self.chosen = shape.experts_per_token

    def forward(self, x: Tensor) -> Tensor:
        odds = self.gate(x).float().softmax(-1)  # [B, T, experts]
        kept = odds * (odds >= odds.topk(self.chosen).values[..., -1:])
        shares = (kept / kept.sum(-1, keepdim=True)).to(x.dtype)
        return torch.stack([expert(x) for expert in self.experts], -1).mul(shares[..., None, :]).sum(-1)


class Block(nn.Module):
    """Attention and perceptron, each adding to the token's vector."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.norm_eps)
        self.mlp: nn.Module = MixtureOfExperts(shape) if shape.experts else FeedForward(shape)

    def forward(self, x: Tensor, angles: Tensor, mask: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), angles, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class ReferenceLlama(nn.Module):
    """Token ids to the logits of the next token."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.num_layers))
        self.norm = RMSNorm(shape.hidden_size, shape.norm_eps)
        self.lm_head = nn.Linear(shape.hidden_size, shape.vocab_size, bias=False)
        if shape.tied:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(self, ids: Tensor, documents: Tensor | None = None) -> Tensor:
        """``[B, T]`` ids → ``[B, T, vocabulary]``.

        `documents` ``[B, T]`` numbers the packed documents of a row: a token sees its own document's past alone, and
        positions begin anew in each.
        """
        documents = torch.zeros_like(ids) if documents is None else documents
        past = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        mask = past & (documents[:, :, None] == documents[:, None, :])  # [B, T, T]
        positions = mask.sum(-1) - 1
        angles = rotary_angles(positions, self.shape.hidden_size // self.shape.num_heads, self.shape.rope_theta)
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, angles, mask)
        return self.lm_head(self.norm(x))
