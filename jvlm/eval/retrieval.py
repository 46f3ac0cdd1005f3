"""Image-text retrieval over pools of distinct captions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jvlm.errors import DataError
from jvlm.eval.statistics import wilson_interval


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
