"""Contrastive losses in pieces and shares against open_clip's own on the whole batch."""

import math

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss

from jvlm.model import contrast
from jvlm.model.contrast import sigmoid_loss, softmax_loss

PAIRS, WIDTH = 13, 8
SHARES = {
    "whole": [slice(0, 13)],
    "two": [slice(0, 6), slice(6, 13)],
    "one by one": [slice(i, i + 1) for i in range(13)],
}


def leaves():
    """Features that have no unit length yet, temperature and bias."""
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(PAIRS, WIDTH, generator=generator, requires_grad=True) for _ in range(2))
    return [images, texts, torch.tensor(math.log(14.0), requires_grad=True), torch.tensor(-3.0, requires_grad=True)]


def gradients(loss, kind):
    """Loss of the whole batch, a mean over pairs, and the gradients of everything it depends on."""
    wanted = leaves()
    images, texts = (F.normalize(features, dim=-1) for features in wanted[:2])
    value = loss(images, texts, wanted[2].exp(), wanted[3])
    value.backward()
    return [value.detach(), *(leaf.grad for leaf in (wanted if kind == "sigmoid" else wanted[:3]))]


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("shares", SHARES)
def test_values_and_gradients_are_open_clips(monkeypatch, kind, rows, shares):
    monkeypatch.setitem(contrast.LOGITS, "cpu", rows * PAIRS)

    def ours(images, texts, scale, bias):
        rest = (scale,) if kind == "softmax" else (scale, bias)
        loss = softmax_loss if kind == "softmax" else sigmoid_loss
        return sum(loss(images, texts, share, *rest) for share in SHARES[shares]) / PAIRS

    def theirs(images, texts, scale, bias):
        return ClipLoss()(images, texts, scale) if kind == "softmax" else SigLipLoss()(images, texts, scale, bias)

    for mine, reference in zip(gradients(ours, kind), gradients(theirs, kind), strict=True):
        assert reference.abs().max() > 1e-3
        torch.testing.assert_close(mine, reference, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("loss", [softmax_loss, sigmoid_loss])
def test_all_pairs_with_all_never_stand_whole(monkeypatch, loss):
    """Nothing that an operation gives is [pairs, pairs], and no piece of it is kept for the backward pass."""
    monkeypatch.setitem(contrast.LOGITS, "cpu", 2 * PAIRS)
    images, texts, scale, bias = leaves()
    largest, kept = 0, []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            nonlocal largest
            out = function(*arguments, **(keywords or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    def keep(tensor):
        kept.append(tuple(tensor.shape))
        return tensor

    with Watch(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss(images, texts, slice(0, PAIRS), scale, *([bias] if loss is sigmoid_loss else [])).backward()
    assert (2, PAIRS) not in kept
    assert kept
    assert 2 * PAIRS <= largest <= max(2 * PAIRS, PAIRS * WIDTH) < PAIRS * PAIRS
