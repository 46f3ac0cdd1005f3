"""Cross-entropy in chunks is cross-entropy."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from jvlm.model.loss import token_log_probabilities, token_losses
from jvlm.model.processor import IGNORED

VOCABULARY, WIDTH = 23, 6


def problem(rows, length, keep, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, length, WIDTH, generator=generator).requires_grad_()
    labels = torch.randint(0, VOCABULARY, (rows, length), generator=generator)
    labels[torch.rand(rows, length, generator=generator) >= keep] = IGNORED
    head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.randn(VOCABULARY, WIDTH, generator=generator))
    return hidden, labels, head


def plain(hidden, labels, head):
    return F.cross_entropy(head(hidden).flatten(0, 1), labels.flatten(), reduction="sum", ignore_index=IGNORED)


@given(
    rows=st.integers(1, 3),
    length=st.integers(1, 20),
    keep=st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    chunk=st.integers(1, 70),
    seed=st.integers(0, 9),
)
@settings(max_examples=80, deadline=None)
def test_chunked_equals_plain_with_gradients(rows, length, keep, chunk, seed):
    hidden, labels, head = problem(rows, length, keep, seed)
    results = []
    for loss in (token_losses(hidden, labels, head, chunk).sum(), plain(hidden, labels, head)):
        results.append([loss, *torch.autograd.grad(loss, [hidden, head.weight])])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_batch_without_targets_gives_zero_and_zero_gradients():
    hidden, labels, head = problem(2, 5, 0.0)
    loss = token_losses(hidden, labels, head, 2).sum()
    loss.backward()
    assert loss.item() == 0.0
    assert hidden.grad.abs().sum() == 0
    assert head.weight.grad.abs().sum() == 0


def test_ignored_tokens_are_not_even_projected():
    hidden, labels, head = problem(2, 40, 0.3)
    seen = []
    head.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    with torch.no_grad():
        token_losses(hidden, labels, head, 8)
    assert sum(seen) == int((labels != IGNORED).sum())
    assert max(seen) <= 8


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("keep", [0.0, 0.5, 1.0])
def test_token_log_probabilities_are_a_gather_of_log_softmax(chunk, keep):
    hidden, labels, head = problem(1, 17, keep)
    ours = token_log_probabilities(hidden[0], labels[0], head, chunk)
    table = head(hidden[0]).log_softmax(-1)
    expected = torch.where(labels[0] == IGNORED, 0.0, table.gather(1, labels[0].clamp(min=0)[:, None])[:, 0])
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)
    if keep:
        gradients = [torch.autograd.grad(out.sum(), hidden, retain_graph=True)[0] for out in (ours, expected)]
        torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)
