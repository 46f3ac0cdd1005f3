"""From logits to tokens: greedy, sampled, and among given answers. A row is chosen as if it were alone."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Trie = dict[int, Any]
"""What may come next, and what behind each of these: token → Trie."""


@dataclass
class Chooser:
    """How the tokens of one answer are chosen: from the `likeliest` share of the probability at a temperature (0: the
    best), among `allowed` if there are given answers. It has random numbers of its own."""

    temperature: float
    top_p: float
    numbers: random.Random
    allowed: Trie | None = None

    def took(self, token: int) -> None:
        """What may follow this token."""
        if self.allowed is not None:
            self.allowed = self.allowed[token]


def trie(answers: Iterable[Sequence[int]]) -> Trie:
    """Of answers by their tokens, none of which is another's beginning: they end with an end mark."""
    root: Trie = {}
    for answer in answers:
        node = root
        for token in answer:
            node = node.setdefault(token, {})
    return root


def choose(logits: Tensor, choosers: Sequence[Chooser]) -> list[int]:
    """A token for each row of ``[rows, vocabulary]``."""
    for row, chooser in enumerate(choosers):
        if chooser.allowed is not None:
            allowed = torch.tensor([*chooser.allowed], device=logits.device)
            kept = logits[row, allowed]
            logits[row].fill_(-torch.inf)
            logits[row, allowed] = kept
    # numpy finds the largest of a row several times as fast as torch does on a processor; both the first of equals
    best = logits.numpy().argmax(-1) if logits.device.type == "cpu" else logits.argmax(-1)
    tokens: list[int] = best.tolist()
    if not any(chooser.temperature for chooser in choosers):
        return tokens
    for is_nucleus in (False, True):  # each row by its own way: sorting changes which number means which token
        rows = [i for i, c in enumerate(choosers) if c.temperature and (c.top_p < 1) == is_nucleus]
        if rows:
            drawn = _draw(logits[rows], [choosers[i] for i in rows], is_nucleus)
            for row, token in zip(rows, drawn, strict=True):
                tokens[row] = token
    return tokens


def _draw(logits: Tensor, choosers: Sequence[Chooser], is_nucleus: bool) -> list[int]:
    """One uniform number a row, put through the inverse of the distribution (nucleus: Holtzman et al. 2020)."""
    double: dict[str, Any] = {"dtype": torch.float64, "device": logits.device}
    temperatures = torch.tensor([[c.temperature] for c in choosers], **double)
    uniform = torch.tensor([[c.numbers.random()] for c in choosers], **double)
    p = (logits.double() / temperatures).softmax(-1)
    order = None
    if is_nucleus:
        p, order = p.sort(dim=-1, descending=True, stable=True)
        share = torch.tensor([[c.top_p] for c in choosers], **double)
        p = p.masked_fill(p.cumsum(-1) - p >= share, 0)  # the likeliest always stays
    below = p.cumsum(-1)
    places = torch.searchsorted(below, uniform * below[:, -1:], right=True)
    places = places.clamp(max=p.shape[1] - 1)
    tokens = places if order is None else order.gather(1, places)
    chosen: list[int] = tokens[:, 0].tolist()
    return chosen
