"""Cross-entropy in chunks is cross-entropy."""

from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from jvlm.model import loss
from jvlm.model.loss import cross_entropy_sum, token_log_probabilities
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


@contextmanager
def chunks_of(tokens):
    """A chunk holds so many tokens."""
    before = loss.LOGITS
    loss.LOGITS = {"cpu": tokens * VOCABULARY}
    try:
        yield
    finally:
        loss.LOGITS = before


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
    with chunks_of(chunk):
        total, each = cross_entropy_sum(hidden, labels, head)
    results = []
    for ours in (total, plain(hidden, labels, head)):
        results.append([ours, *torch.autograd.grad(0.3 * ours, [hidden, head.weight])])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    kept = labels != IGNORED
    alone = F.cross_entropy(head(hidden)[kept], labels[kept], reduction="none")
    torch.testing.assert_close(each, alone, atol=1e-5, rtol=1e-5)
    assert not each.requires_grad


def test_a_batch_without_targets_gives_zero_and_zero_gradients():
    hidden, labels, head = problem(2, 5, 0.0)
    total, _ = cross_entropy_sum(hidden, labels, head)
    total.backward()
    assert total.item() == 0.0
    assert hidden.grad.abs().sum() == 0
    assert head.weight.grad.abs().sum() == 0


@pytest.mark.parametrize("frozen", ["head", "hidden"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(frozen):
    hidden, labels, head = problem(2, 9, 0.7)
    cross_entropy_sum(hidden, labels, head)[0].backward()
    expected = {"hidden": head.weight.grad.clone(), "head": hidden.grad.clone()}
    head.weight.grad = hidden.grad = None
    (head.weight if frozen == "head" else hidden).requires_grad_(False)
    cross_entropy_sum(hidden, labels, head)[0].backward()
    learned, other = (hidden.grad, head.weight.grad) if frozen == "head" else (head.weight.grad, hidden.grad)
    assert torch.equal(learned, expected[frozen])
    assert other is None


def test_logits_stand_for_a_chunk_of_trained_tokens_only(monkeypatch):
    hidden, labels, head = problem(2, 40, 0.3)
    seen, compute = [], torch.Tensor.exp_
    monkeypatch.setattr(torch.Tensor, "exp_", lambda x: seen.append(x.shape) or compute(x))
    with chunks_of(8):
        cross_entropy_sum(hidden, labels, head)[0].backward()
    assert sum(tokens for tokens, _ in seen) == int((labels != IGNORED).sum())
    assert max(tokens for tokens, _ in seen) <= 8


def test_in_bfloat16_sums_stay_float32():
    hidden, labels, head = problem(2, 40, 1.0)
    exact, _ = cross_entropy_sum(hidden, labels, head)
    expected = torch.autograd.grad(exact, [hidden, head.weight])
    with torch.autocast("cpu", torch.bfloat16):
        total, each = cross_entropy_sum(hidden, labels, head)
    found = torch.autograd.grad(total, [hidden, head.weight])
    assert total.dtype == each.dtype == found[1].dtype == torch.float32
    assert 0 < abs(total.item() - exact.item()) < 1e-2 * exact.item()
    for ours, theirs in zip(found, expected, strict=True):
        assert float((ours - theirs).norm()) < 2e-2 * float(theirs.norm())


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("keep", [0.0, 0.5, 1.0])
def test_token_log_probabilities_are_a_gather_of_log_softmax(chunk, keep):
    hidden, labels, head = problem(1, 17, keep)
    with chunks_of(chunk):
        ours = token_log_probabilities(hidden[0], labels[0], head)
    table = head(hidden[0]).log_softmax(-1)
    expected = torch.where(labels[0] == IGNORED, 0.0, table.gather(1, labels[0].clamp(min=0)[:, None])[:, 0])
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)
    if keep:
        gradients = [torch.autograd.grad(out.sum(), hidden, retain_graph=True)[0] for out in (ours, expected)]
        torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)
