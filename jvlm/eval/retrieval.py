"""Image-text retrieval over pools of distinct captions."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from jvlm.errors import DataError
from jvlm.eval.statistics import DRAWS, wilson_interval


def retrieval_r1(
    image_features: np.ndarray,
    text_features: np.ndarray,
    captions: Sequence[str],
    pools: int = 10,
    pool_size: int = 100,
    seed: int = 0,
) -> dict[str, Any]:
    """R@1 in both directions, over `pools` random pools of `pool_size` pairs whose captions all differ.

    Args:
        image_features, text_features: [pairs, dim]; row i of both belongs to captions[i]. Normalised here.

    Returns r1 (the smaller direction: the headline), image_to_text, text_to_image, their intervals, pools,
    pool_size, n (queries per direction), chance. A tie with a wrong candidate counts as a miss, so constant
    features score 0. Raises DataError when there are fewer distinct captions than a pool needs.
    """
    if not len(image_features) == len(text_features) == len(captions):
        numbers = f"{len(image_features)} images, {len(text_features)} texts and {len(captions)} captions"
        raise DataError(f"{numbers} do not pair")
    seen: dict[str, int] = {}
    first = np.array(sorted({seen.setdefault(caption, i) for i, caption in enumerate(captions)}), dtype=np.int64)
    if len(first) < pool_size:
        raise DataError(
            f"{len(first)} distinct captions, a pool needs {pool_size}", fix="use more pairs or a smaller pool"
        )
    images, texts = _normalised(image_features), _normalised(text_features)
    hits = np.zeros(2, dtype=np.int64)
    for pool in range(pools):
        chosen = np.random.default_rng([seed, pool]).choice(first, pool_size, replace=False)
        similarity = images[chosen] @ texts[chosen].T  # [images, texts]
        hits += _hits(similarity), _hits(similarity.T)
    n = pools * pool_size
    shares = hits / n
    return {
        "r1": float(shares.min()),
        "image_to_text": float(shares[0]),
        "text_to_image": float(shares[1]),
        "image_to_text_interval": list(wilson_interval(int(hits[0]), n)),
        "text_to_image_interval": list(wilson_interval(int(hits[1]), n)),
        "pools": pools,
        "pool_size": pool_size,
        "n": n,
        "chance": 1 / pool_size,
    }


def _hits(similarity: np.ndarray) -> int:
    own = np.diag(similarity).copy()
    others = similarity.copy()
    np.fill_diagonal(others, -np.inf)
    return int((own > others.max(axis=1)).sum())


def _normalised(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, dtype=np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def retrieval_within_source(
    image_features: np.ndarray,
    text_features: np.ndarray,
    captions: Sequence[str],
    sources: Sequence[str],
    k: int = 10,
    min_pairs: int = 50,
    seed: int = 0,
) -> dict[str, Any]:
    """R@k among the pairs of one source, over chance: in a mixed gallery, telling the sources apart looks like skill.

    Equal captions of a source are one candidate. An image's query is right when its caption is among the k nearest;
    a caption's, when one of its images is. Chance is exact for each query: k of the captions, or one less the odds that
    k images drawn without looking hold none of the caption's own. Ties count as misses. Sources of fewer than
    `min_pairs` pairs, or of no more than k captions, are listed in `left_out`.

    Args:
        image_features, text_features: ``[pairs, dim]``; row i of both belongs to captions[i] of sources[i].

    Returns source_only_over_chance, over_chance (the mean over sources of R@k / chance, both directions together) with
    a 95 % interval from redrawing each source's captions with their images, and per source n, captions, r_at_k, chance,
    over_chance. Raises DataError when no source is large enough, or a feature is not a number.
    """
    images, texts = _normalised(image_features), _normalised(text_features)
    if not (np.isfinite(images).all() and np.isfinite(texts).all()):
        raise DataError("a feature is not a number", fix="the towers diverged: lower the learning rate")
    measured: dict[str, tuple[np.ndarray, np.ndarray, int]] = {}  # of each caption: hits, expected hits; queries
    left_out = {}
    for source in sorted(set(sources)):
        rows = [i for i, name in enumerate(sources) if name == source]
        distinct = {captions[i]: i for i in reversed(rows)}
        if len(rows) < min_pairs or len(distinct) <= k:
            left_out[source] = len(rows)
            continue
        candidates = list(distinct.values())
        place = {caption: column for column, caption in enumerate(distinct)}
        own = np.zeros((len(rows), len(distinct)), dtype=bool)  # [images, captions]
        own[np.arange(len(rows)), [place[captions[i]] for i in rows]] = True
        similarity = images[rows] @ texts[candidates].T
        sizes = own.sum(axis=0)  # images of each caption
        hits = own.T @ _found(similarity, own, k).astype(int) + _found(similarity.T, own.T, k)
        odds = sizes * k / len(distinct) + [_chance_of_one(int(size), len(rows), k) for size in sizes]
        measured[source] = hits, odds, len(rows) + len(distinct)
    if not measured:
        raise DataError(f"no source has {min_pairs} pairs and more than {k} captions", fix="hold out more pairs")
    generator = np.random.default_rng(seed)
    redrawn = np.zeros(DRAWS)
    for hits, odds, _ in measured.values():
        drawn = generator.integers(0, len(hits), (DRAWS, len(hits)))
        redrawn += hits[drawn].sum(axis=1) / odds[drawn].sum(axis=1) / len(measured)
    per_source = {
        source: {
            "n": queries,
            "captions": len(hits),
            "r_at_k": float(hits.sum() / queries),
            "chance": float(odds.sum() / queries),
            "over_chance": float(hits.sum() / odds.sum()),
        }
        for source, (hits, odds, queries) in measured.items()
    }
    return {
        "k": k,
        "source_only_over_chance": source_only_over_chance(sources, k),
        "over_chance": sum(score["over_chance"] for score in per_source.values()) / len(per_source),
        "interval": [float(edge) for edge in np.percentile(redrawn, [2.5, 97.5])],
        "sources": per_source,
        "left_out": left_out,
    }


def source_only_over_chance(sources: Sequence[str], k: int = 10) -> float:
    """What a guesser who knows each pair's source and nothing else reaches in one gallery of all, R@k over chance.

    It draws k candidates of the query's own source: right in k / (pairs of the source) of the cases.
    """
    sizes = Counter(sources)
    reached = sum(size * min(1.0, k / size) for size in sizes.values()) / len(sources)
    return reached / min(1.0, k / len(sources))


def _found(similarity: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
    """Per row whether its best own candidate is beaten, or met, by fewer than k candidates of others."""
    best = np.where(own, similarity, -np.inf).max(axis=1, keepdims=True)
    return ((similarity >= best) & ~own).sum(axis=1) < k


def _chance_of_one(wanted: int, of: int, k: int) -> float:
    """That k drawn without replacement hold at least one of `wanted`."""
    return 1 - math.comb(of - wanted, k) / math.comb(of, k)
