"""Muon against torch's own, which computes in bfloat16, and its orthogonalisation against the exact one."""

import pytest
import torch

from jvlm.train.muon import Muon, orthogonal

SHAPES = [(24, 24), (40, 24), (24, 40), (24, 24)]


def weights() -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]


def test_steps_equal_torchs_muon():
    ours, theirs = weights(), weights()
    start = [p.detach().clone() for p in ours]
    mine = Muon([{"params": ours, "weight_decay": 0.1}], lr=0.02)
    other = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        for number, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            p.grad = torch.randn(p.shape, generator=torch.manual_seed(10 * step + number))
            q.grad = p.grad.clone()
        mine.step()
        other.step()
    for before, p, q in zip(start, ours, theirs, strict=True):
        moved = (q.detach() - before).norm()
        assert float(moved) > 0.1
        assert float((p - q).detach().norm() / moved) < 0.02  # bfloat16


def test_an_update_is_of_adamws_size_whatever_the_gradients():
    for scale in (1e-6, 1.0, 1e6):
        (parameter,) = [torch.nn.Parameter(torch.zeros(64, 160))]
        parameter.grad = torch.randn(64, 160, generator=torch.manual_seed(1)) * scale
        Muon([{"params": [parameter]}], lr=1.0).step()
        assert float(parameter.detach().square().mean().sqrt()) == pytest.approx(0.2, rel=0.15)


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 30, 12), (2, 12, 30)])
def test_orthogonal_is_near_the_exact_factor(shape):
    matrices = torch.randn(shape, generator=torch.manual_seed(2))
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonal(matrices)
    singular = torch.linalg.svdvals(found)
    assert 0.3 < float(singular.min()) < float(singular.max()) < 1.3
    cosine = torch.nn.functional.cosine_similarity(found.flatten(1), (u @ vh).flatten(1))
    assert float(cosine.min()) > 0.95
    torch.testing.assert_close(orthogonal(matrices[1:]), found[1:])  # matrices do not see each other


def test_only_matrices():
    with pytest.raises(ValueError, match="matrices"):
        Muon([{"params": [torch.nn.Parameter(torch.zeros(3))]}], lr=0.1)
