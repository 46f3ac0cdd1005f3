"""The line rules against lines labelled by hand: what of the junk is found, and what of the rest is lost.

`evals/lines.jsonl` holds prose, clinical notes, code, dialect, 顔文字 and junk, written for this project without regard
to the rules; `keep` says for a general, a medical and a code corpus whether a careful editor would keep the line. On
`dev` rules may be tuned; `test` was written by another hand, which had seen neither rules nor `dev`. A line is judged
as it would be inside a document, by the line rules alone: junk is what no corpus would keep.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

from jvlm.errors import DataError
from jvlm.files import read_json_lines
from jvlm.text.clean import line_reason

SPLITS = ("dev", "test")


def score_lines(path: Path) -> dict[str, Any]:
    """Per split: `recall` (share of the junk that is removed), `precision` (share of the removed that is junk), `kept`
    (kind → share of its good lines that stay), `n`, and `wrong`: the ids of the lines judged otherwise than labelled.

    Raises DataError when the file is missing or a row lacks a field.
    """
    rows = read_json_lines(path)
    if not rows:
        raise DataError("no labelled lines", where=path)
    found: dict[str, Any] = {split: {"good": defaultdict(list), "junk": [], "wrong": []} for split in SPLITS}
    for number, row in enumerate(rows, 1):
        try:
            split, kind, keep, text = found[row["split"]], row["kind"], any(row["keep"].values()), row["text"]
        except (KeyError, TypeError, AttributeError):
            raise DataError("a labelled line needs id, kind, text, keep and split", where=f"{path}:{number}") from None
        stays = line_reason(text) is None
        (split["good"][kind] if keep else split["junk"]).append(stays)
        if stays != keep:
            split["wrong"].append(row["id"])
    return {name: _figures(split) for name, split in found.items()}


def _figures(split: dict[str, Any]) -> dict[str, Any]:
    good, junk = split["good"], split["junk"]
    lost = sum(len(stays) - sum(stays) for stays in good.values())
    removed = len(junk) - sum(junk)
    return {
        "n": len(junk) + sum(map(len, good.values())),
        "recall": removed / len(junk) if junk else None,
        "precision": removed / (removed + lost) if removed + lost else None,
        "kept": {kind: sum(stays) / len(stays) for kind, stays in sorted(good.items())},
        "wrong": split["wrong"],
    }
