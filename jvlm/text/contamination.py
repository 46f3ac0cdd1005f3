"""Evaluation texts in training text: a document that holds half of a question is not trained on.

Texts are compared by runs of 13 characters, white space and case aside (the length of GPT-3's word runs, in characters
as llm-jp does for Japanese). Each evaluation text is a set of such runs; a document is contaminated when it holds at
least `share` of the runs of one of them. Texts with fewer than eight runs are left out: they stand everywhere.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jvlm.errors import DataError
from jvlm.text.dedup import Sieve, shingle_hashes
from jvlm.text.raw import InputError, read_documents

RUN = 13
LEAST_RUNS = 8
SHARE = 0.5
"""The share at which a document is dropped, unless somebody says otherwise."""


class EvaluationTexts:
    """The runs of evaluation texts, ready to be looked up.

    Args:
        texts: (id, text) of each; the same run may belong to several.
    """

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        self.ids: list[str] = []
        hashes, owners = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
        for identity, text in texts:
            runs = np.unique(_runs(text))
            if len(runs) >= LEAST_RUNS:
                hashes.append(runs)
                owners.append(np.full(len(runs), len(self.ids)))
                self.ids.append(identity)
        flat, owner = np.concatenate(hashes), np.concatenate(owners)
        order = np.argsort(flat, kind="stable")
        self._hashes, self._owners = flat[order], owner[order]
        self._sizes = np.bincount(owner, minlength=len(self.ids))
        self._sieve = Sieve(self._hashes)

    def find(self, text: str, share: float) -> tuple[str, float] | None:
        """The evaluation text that `text` holds most of, and how much, when that is at least `share` (0 to 1)."""
        if not self.ids:
            return None
        runs = np.unique(self._sieve.passing(_runs(text)))
        first, last = (np.searchsorted(self._hashes, runs, side) for side in ("left", "right"))
        counts = last - first
        if not counts.any():
            return None
        starts = np.repeat(first - np.cumsum(counts) + counts, counts)
        held = np.bincount(self._owners[starts + np.arange(counts.sum())], minlength=len(self.ids)) / self._sizes
        best = int(held.argmax())
        return (self.ids[best], float(held[best])) if held[best] >= share else None


def read_evaluation_texts(paths: Iterable[Path]) -> EvaluationTexts:
    """From files or folders that `read_documents` reads, rows with `text`. Raises DataError for one that has none."""
    errors: list[InputError] = []
    texts = [(d.id, d.text) for path in paths for d in read_documents(path, path.name, errors)]
    if errors:  # a question that is not read is a question that leaks
        raise DataError(errors[0].what, where=errors[0].where, fix=f"{len(errors)} rows cannot be read; mend them")
    return EvaluationTexts(texts)


def _runs(text: str) -> NDArray[np.uint64]:
    folded = "".join(text.lower().split())
    return shingle_hashes(folded, RUN) if len(folded) >= RUN else np.empty(0, np.uint64)
