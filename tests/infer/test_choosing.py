"""Choosing tokens: the distribution, the nucleus, given answers, and that no row looks at another."""

import random
from collections import Counter

import pytest
import torch

from jvlm.infer.choosing import Chooser, choose, trie

LOGITS = torch.tensor([2.0, 0.0, 1.0, -1.0, 1.5, -torch.inf])


def chooser(temperature=1.0, top_p=1.0, seed=0, answers=()):
    return Chooser(temperature, top_p, random.Random(seed), trie(answers) if answers else None)


def draws(count, **settings):
    many = [chooser(seed=seed, **settings) for seed in range(count)]
    return Counter(choose(LOGITS.repeat(count, 1), many))


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.85), (2.0, 0.6), (1.0, 0.01)])
def test_draws_have_the_shares_of_the_softmax_and_come_from_the_nucleus(temperature, top_p):
    p = (LOGITS / temperature).softmax(-1).tolist()
    kept, total = [], 0.0
    for token in sorted(range(len(p)), key=lambda token: -p[token]):  # the fewest that reach the share
        if total < top_p:
            kept.append(token)
            total += p[token]
    found = draws(4000, temperature=temperature, top_p=top_p)
    for token, probability in enumerate(p):
        share = probability / total if token in kept else 0.0
        assert abs(found[token] / 4000 - share) <= 4 * (share * (1 - share) / 4000) ** 0.5


def test_rows_do_not_look_at_each_other():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 40, generator=generator)
    settings = [(0.0, 1.0), (1.0, 1.0), (1.0, 0.5), (0.7, 1.0), (3.0, 0.9), (0.0, 0.5)]
    answers = [(), (), (), ((1, 2), (3, 2)), (), ((5, 2), (6, 2), (7, 2))]

    def choosers():
        return [chooser(t, p, n, a) for n, ((t, p), a) in enumerate(zip(settings, answers, strict=True))]

    together, apart = choosers(), choosers()
    for _ in range(2):
        found = choose(logits.clone(), together)
        assert found == [choose(logits[n : n + 1].clone(), [one])[0] for n, one in enumerate(apart)]
        for token, one, other in zip(found, together, apart, strict=True):
            one.took(token)
            other.took(token)
    assert found[3] == found[5] == 2


def test_only_given_answers_are_chosen():
    answers = [(1, 9), (3, 4, 9), (3, 2, 9)]
    written = set()
    for seed in range(50):
        one, tokens = chooser(5.0, 1.0, seed, answers), []
        while not tokens or tokens[-1] != 9:
            tokens += choose(torch.zeros(1, 10), [one])
            one.took(tokens[-1])
        written.add(tuple(tokens))
    assert written == set(answers)
    assert choose(torch.arange(10.0)[None], [chooser(0.0, answers=answers)]) == [3]
