"""What the converters of text sets share: published texts → one `.jsonl.zst` per split, as `jvlm text build` reads."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import zstandard
from jvlm_data.rows import Fault, nothing_usable
from jvlm_data.splits import SPLITS, HeldOut, split_of, text_hash

from jvlm.files import append_json_line, new_folder


@dataclass(frozen=True, slots=True)
class TextEntry:
    """A published text. `split` is the official one, None where there is none."""

    id: str
    where: str
    text: str
    licence: str
    split: str | None = None
    content: str | None = None
    """What must not stand in two splits, where that is not the whole text."""


def write_text_set(
    read: Callable[[list[Fault]], Iterator[TextEntry]], name: str, out: Path, source: Path, layout: str
) -> dict[str, int]:
    """`out/train.jsonl.zst`, `val`, `test` (those that are not empty), `errors.jsonl`, `removed.jsonl`; counts.

    `read` yields every text of the source and adds to the faults it is given; it is called twice, because what is held
    out must be known before the first training text is written, and a corpus does not fit in memory. A text that
    also stands in a more protected split is left out and listed in `removed.jsonl`.
    Raises DataError when nothing is usable; `layout` says what the folder should hold.
    """
    held_out = HeldOut()
    for entry in read([]):
        split, key = _place(entry)
        held_out.add(split, [key])
    faults: list[Fault] = []
    counts = dict.fromkeys((*SPLITS, "removed"), 0)
    with new_folder(out) as folder:
        with ExitStack() as stack:
            writers = {}
            for entry in read(faults):
                split, key = _place(entry)
                if clash := held_out.clash(split, [key]):
                    row = {"where": entry.where, "split": split, "reason": f"it stands in {clash}"}
                    append_json_line(folder / "removed.jsonl", row)
                    counts["removed"] += 1
                    continue
                if split not in writers:
                    file = stack.enter_context(open(folder / f"{split}.jsonl.zst", "wb"))
                    writers[split] = stack.enter_context(zstandard.ZstdCompressor().stream_writer(file))
                record = {"id": entry.id, "text": entry.text, "source": name, "license": entry.licence}
                writers[split].write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
                counts[split] += 1
        if not any(counts[split] for split in SPLITS):
            raise nothing_usable(source, faults, layout)
        for fault in faults:
            append_json_line(folder / "errors.jsonl", fault)
    return counts | {"errors": len(faults)}


def _place(entry: TextEntry) -> tuple[str, str]:
    """(split, hash of what must stand in one split alone)."""
    key = text_hash(entry.text if entry.content is None else entry.content)
    return entry.split or split_of(key), key
