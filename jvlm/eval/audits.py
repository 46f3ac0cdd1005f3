"""The image-removal audit: does the model look? The same questions, with their image and with it removed.

Each item is in one of four states: persistent (right both times: prior knowledge or a shortcut), gain (right
only with the image), harm (right only without), unresolved (wrong both times). The idea is JMed48k's
(arXiv 2605.22080); names and formulas here are our own.
"""

from collections.abc import Hashable, Mapping
from typing import Any

from jvlm.errors import DataError
from jvlm.eval.statistics import mcnemar_exact, paired_bootstrap


def image_removal_audit(
    with_image: Mapping[str, bool],
    without_image: Mapping[str, bool],
    groups: Mapping[str, Hashable] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Transitions, net effect (accuracy with - without, and its interval), retention, gain, harm, rescue, p.

    retention: share of the answers right with the image that survive its removal; rescue: share of those wrong
    without the image that it rights; both None when there is nothing to divide by. `mcnemar_p` is exact,
    two-sided. Raises DataError when the two arms are not about the same items.
    """
    if set(with_image) != set(without_image):
        odd = sorted(set(with_image) ^ set(without_image))
        raise DataError(
            f"{len(odd)} items were asked in one arm only, such as {odd[0]}", fix="run both arms to the end"
        )
    ids = sorted(with_image)
    if not ids:
        raise DataError("no item to compare")
    pairs = [(bool(with_image[i]), bool(without_image[i])) for i in ids]
    persistent, gain = pairs.count((True, True)), pairs.count((True, False))
    harm, unresolved = pairs.count((False, True)), pairs.count((False, False))
    n = len(ids)
    _, low, high = paired_bootstrap(
        [float(a) for a, _ in pairs], [float(b) for _, b in pairs], [groups[i] for i in ids] if groups else None, seed
    )
    return {
        "n": n,
        "transitions": {"persistent": persistent, "gain": gain, "harm": harm, "unresolved": unresolved},
        "accuracy_with": (persistent + gain) / n,
        "accuracy_without": (persistent + harm) / n,
        "net_effect": (gain - harm) / n,
        "net_interval": [low, high],
        "retention": persistent / (persistent + gain) if persistent + gain else None,
        "gain": gain / n,
        "harm": harm / n,
        "rescue": gain / (gain + unresolved) if gain + unresolved else None,
        "mcnemar_p": mcnemar_exact(gain, harm),
    }
