"""The choices of a question in one row: the prompt once, then every choice, each seeing the prompt and itself alone.

    row        prompt ........ | choice 0 . | choice 1 .... | padding
    positions  0 1 2 ...  P-1  | P P+1 ..   | P P+1 ...     | 0

The mask is a tree: so one forward pass of the prompt serves all choices, and a row's numbers are those of the choices
read one at a time.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Tree(NamedTuple):
    """Token ids of a prompt (at least one) and of its choices (each at least one)."""

    prompt: list[int]
    choices: list[list[int]]

    @property
    def length(self) -> int:
        """Positions that are read: the last token of a choice is only ever predicted."""
        return len(self.prompt) + sum(len(choice) - 1 for choice in self.choices)


class Rows(NamedTuple):
    """A batch of trees, padded to the longest.

    Attributes:
        input_ids, position_ids: ``[B, T]``. mask: bool ``[B, 1, T, T]``, true where a row's position sees a column.
        reads: places in the flat ``[B * T]`` whose output predicts a token of a choice; targets: that token.
        lengths: number of tokens of each choice, trees in turn.
    """

    input_ids: Tensor
    position_ids: Tensor
    mask: Tensor
    reads: Tensor
    targets: Tensor
    lengths: list[int]


def lay_out(trees: Sequence[Tree], pad_id: int) -> Rows:
    """Rows of one length. Padding sees itself, so that no row of the mask is empty."""
    rows, width = len(trees), max(tree.length for tree in trees)
    input_ids = torch.full((rows, width), pad_id)
    position_ids = torch.zeros((rows, width), dtype=torch.int64)
    branch = torch.full((rows, width), -1)  # 0: the prompt, 1…: a choice, -1: padding
    reads: list[int] = []
    targets: list[int] = []
    for row, tree in enumerate(trees):
        at = len(tree.prompt)
        input_ids[row, :at] = torch.tensor(tree.prompt)
        position_ids[row, :at] = torch.arange(at)
        branch[row, :at] = 0
        for number, choice in enumerate(tree.choices, 1):
            stop = at + len(choice) - 1
            input_ids[row, at:stop] = torch.tensor(choice[:-1], dtype=torch.int64)
            position_ids[row, at:stop] = torch.arange(len(tree.prompt), len(tree.prompt) + stop - at)
            branch[row, at:stop] = number
            reads += [row * width + place for place in (len(tree.prompt) - 1, *range(at, stop))]
            targets += choice
            at = stop
    same = branch[:, :, None] == branch[:, None, :]
    from_prompt = (branch[:, None, :] == 0) & (branch[:, :, None] > 0)
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    mask = ((same | from_prompt) & causal)[:, None]
    lengths = [len(choice) for tree in trees for choice in tree.choices]
    return Rows(input_ids, position_ids, mask, torch.tensor(reads), torch.tensor(targets), lengths)


def batches(trees: Sequence[Tree], tokens: int) -> list[list[int]]:
    """Numbers of the trees that are read together, longest first so that little is padding: at most `tokens` places."""
    order = sorted(range(len(trees)), key=lambda i: (-trees[i].length, i))
    found: list[list[int]] = []
    for number in order:
        if found and (len(found[-1]) + 1) * trees[found[-1][0]].length <= tokens:
            found[-1].append(number)
        else:
            found.append([number])
    return found
