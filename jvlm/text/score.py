"""The line rules against lines labelled by hand: what of the junk is found, and what of the rest is lost.

`evals/lines.jsonl` holds prose, clinical notes, code, dialect, 顔文字 and junk, written for this project without regard
to the rules; `keep` says for a general, a medical and a code corpus whether a careful editor would keep the line. On
`dev` rules may be tuned; `test` was written by another hand, which had seen neither rules nor `dev`. A line is judged
as it would be inside a document, by the line rules of a profile alone.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

from jvlm.errors import DataError
from jvlm.files import read_json_lines
from jvlm.text.clean import ProfileName, line_reason

SPLITS = ("dev", "test")
SCORED: tuple[ProfileName, ...] = ("general", "medical", "code")


def score_lines(path: Path) -> dict[str, dict[str, Any]]:
    """Split → profile → `recall` (share of its junk that is removed), `precision` (share of the removed that is junk),
    `kept` (kind → share of its good lines that stay), `n`, and `wrong`: ids of the lines judged against their label.

    Raises DataError when the file is missing or a row lacks a field.
    """
    rows = read_json_lines(path)
    if not rows:
        raise DataError("no labelled lines", where=path)
    found = {split: {profile: _Judged() for profile in SCORED} for split in SPLITS}
    for number, row in enumerate(rows, 1):
        try:
            judged, keep = found[row["split"]], {profile: bool(row["keep"][profile]) for profile in SCORED}
            name, kind, text = row["id"], row["kind"], row["text"]
        except (KeyError, TypeError, AttributeError):
            raise DataError("a labelled line needs id, kind, text, keep and split", where=f"{path}:{number}") from None
        for profile in SCORED:
            judged[profile].add(name, kind, keep[profile], line_reason(text, profile) is None)
    return {split: {name: judged.figures() for name, judged in profiles.items()} for split, profiles in found.items()}


class _Judged:
    """What one profile's rules say of the lines of one split."""

    def __init__(self) -> None:
        self._good: dict[str, list[bool]] = defaultdict(list)
        self._junk: list[bool] = []
        self._wrong: list[str] = []

    def add(self, name: str, kind: str, keep: bool, stays: bool) -> None:
        (self._good[kind] if keep else self._junk).append(stays)
        if stays != keep:
            self._wrong.append(name)

    def figures(self) -> dict[str, Any]:
        lost = sum(len(stays) - sum(stays) for stays in self._good.values())
        removed = len(self._junk) - sum(self._junk)
        return {
            "n": len(self._junk) + sum(map(len, self._good.values())),
            "recall": removed / len(self._junk) if self._junk else None,
            "precision": removed / (removed + lost) if removed + lost else None,
            "kept": {kind: sum(stays) / len(stays) for kind, stays in sorted(self._good.items())},
            "wrong": self._wrong,
        }
