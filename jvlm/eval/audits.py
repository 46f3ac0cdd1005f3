"""Paired audits: the same questions asked twice, and what became of each answer.

Image removal (does the model look?): each item is in one of four states: persistent (right both times: prior knowledge
or a shortcut), gain (right only with the image), harm (right only without), unresolved (wrong both times). The idea is
JMed48k's (arXiv 2605.22080); names and formulas here are our own. The same four states tell of any two arms, and of
two models.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from jvlm.errors import DataError
from jvlm.eval.statistics import cluster_bootstrap, mcnemar_exact, paired_bootstrap


def paired_test(
    first: Mapping[str, bool], second: Mapping[str, bool], groups: Mapping[str, Hashable] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Two models, or two ways to ask, on the same items: which was right where, and whether it could be chance.

    `difference` is the first's accuracy less the second's, with its 95 % interval from a bootstrap over groups;
    `mcnemar_p` is exact, two-sided. Raises DataError when the two are not about the same items, or about none.
    """
    if set(first) != set(second):
        odd = sorted(set(first) ^ set(second))
        raise DataError(
            f"{len(odd)} items were asked in one arm only, such as {odd[0]}", fix="run both arms to the end"
        )
    ids = sorted(first)
    if not ids:
        raise DataError("no item to compare")
    pairs = [(bool(first[i]), bool(second[i])) for i in ids]
    counts = {state: pairs.count(state) for state in ((True, True), (True, False), (False, True), (False, False))}
    n, both, one, other = len(ids), counts[True, True], counts[True, False], counts[False, True]
    _, low, high = paired_bootstrap(
        [float(a) for a, _ in pairs], [float(b) for _, b in pairs], [groups[i] for i in ids] if groups else None, seed
    )
    return {
        "n": n,
        "both": both,
        "only_first": one,
        "only_second": other,
        "neither": counts[False, False],
        "first": (both + one) / n,
        "second": (both + other) / n,
        "difference": (one - other) / n,
        "interval": [low, high],
        "mcnemar_p": mcnemar_exact(one, other),
    }


def image_removal_audit(
    with_image: Mapping[str, bool],
    without_image: Mapping[str, bool],
    groups: Mapping[str, Hashable] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Transitions, net effect (accuracy with - without, and its interval), retention, gain, harm, rescue, p.

    retention: share of the answers right with the image that survive its removal; rescue: share of those wrong
    without the image that it rights; both None when there is nothing to divide by. Raises DataError as `paired_test`.
    """
    pair = paired_test(with_image, without_image, groups, seed)
    n, persistent, gain, harm, unresolved = (pair[k] for k in ("n", "both", "only_first", "only_second", "neither"))
    return {
        "n": n,
        "transitions": {"persistent": persistent, "gain": gain, "harm": harm, "unresolved": unresolved},
        "accuracy_with": pair["first"],
        "accuracy_without": pair["second"],
        "net_effect": pair["difference"],
        "net_interval": pair["interval"],
        "retention": persistent / (persistent + gain) if persistent + gain else None,
        "gain": gain / n,
        "harm": harm / n,
        "rescue": gain / (gain + unresolved) if gain + unresolved else None,
        "mcnemar_p": pair["mcnemar_p"],
    }


def order_audit(
    chosen: Sequence[Mapping[str, frozenset[str]]],
    right: Sequence[Mapping[str, bool]],
    groups: Mapping[str, Hashable],
    seed: int = 0,
) -> dict[str, Any]:
    """How much an answer owes to the order of the options.

    Args:
        chosen: per order of the options, by item id, the contents chosen; empty for an answer that cannot be read.
        right: likewise whether that was right.

    Returns the mean accuracy over the orders with its 95 % interval over groups, that of each order (`orders`, the
    printed one first), `agreement`: the share of items whose answer has the same content in every order, and
    `always_right`: the share right in every one.
    """
    ids = sorted(right[0])
    if not ids:
        raise DataError("no item to compare")
    means = [sum(flags[i] for flags in right) / len(right) for i in ids]
    value, low, high = cluster_bootstrap(means, [groups[i] for i in ids], seed)
    agreed = [len({answers[i] for answers in chosen}) == 1 and bool(chosen[0][i]) for i in ids]
    return {
        "n": len(ids),
        "value": value,
        "interval": [low, high],
        "orders": [sum(flags[i] for i in ids) / len(ids) for flags in right],
        "agreement": sum(agreed) / len(ids),
        "always_right": means.count(1.0) / len(ids),
    }
