"""LLM-jp Corpus v3 as published (gitlab.llm-jp.nii.ac.jp) → text per split.

Layout: ``.jsonl.gz`` files (also ``.jsonl`` and ``.jsonl.zst``) at any depth, such as ``ja/ja_wiki/train_0.jsonl.gz``,
whose rows have text and meta. Files named ``validation_…`` are the publisher's validation set; parts without one are
split by the hash of the text.
"""

from collections.abc import Iterator
from pathlib import Path

from jvlm_data.rows import Fault
from jvlm_data.text_sets import TextEntry, write_text_set

from jvlm.text.raw import InputError, read_documents

NAME = "llm_jp_corpus"
LICENCES = {"ja_wiki": "CC-BY-SA"}
OTHER_LICENCE = "as the README of llm-jp-corpus-v3 says of this part"
_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
_SPLITS = {"train": "train", "validation": "val", "test": "test"}


def convert(source: Path, out: Path) -> dict[str, int]:
    """One document per row. Counts per split, of `removed` and `errors`.

    Raises DataError when nothing in `source` is usable.
    """
    return write_text_set(lambda faults: _entries(source, faults), NAME, out, source, "ja/ja_wiki/train_0.jsonl.gz …")


def _entries(source: Path, faults: list[Fault]) -> Iterator[TextEntry]:
    for path in sorted(path for path in source.rglob("*") if path.name.endswith(_SUFFIXES)):
        place = path.relative_to(source)
        part = place.parent.name
        split = _SPLITS.get(path.name.split("_")[0].split(".")[0])
        errors: list[InputError] = []
        licence = LICENCES.get(part, OTHER_LICENCE)
        for row in read_documents(path, f"{NAME}/{place.parent}", errors, licence=licence):
            yield TextEntry(row.id, f"{place}:{row.line}", row.text, row.licence, split)
        for error in errors:
            faults.append({"where": error.where.replace(str(path), str(place), 1), "error": error.what})
