"""Text sources, each a `.jsonl.zst` of rows with `text`: a share of every source, so that large ones drown none."""

import hashlib
import json
from pathlib import Path

from jvlm_data.rows import Fault

from jvlm.text.raw import Document, InputError, read_documents

MAX_CHARS = 6_000
"""Longest piece taken of one document, in characters: many documents teach more than a few whole novels."""


def write_sources(files: list[Path], out: Path, limit: int, language: str, faults: list[Fault]) -> dict[str, int]:
    """``out/SOURCE.jsonl`` for each file: documents by the hash of their text until `limit` characters; counts."""
    counts = {}
    for file in files:
        source = file.name.removesuffix(".jsonl.zst")
        errors: list[InputError] = []
        documents = sorted(read_documents(file, source, errors), key=lambda d: hashlib.sha256(d.text.encode()).digest())
        faults += [{"where": error.where, "error": error.what} for error in errors]
        taken = 0
        with open(out / f"{source}.jsonl", "w", encoding="utf-8", newline="\n") as rows:
            for document in documents:
                if taken >= limit:
                    break
                text = head(document.text)
                rows.write(_row(document, text, source, language))
                taken += len(text)
        counts[source] = taken
    return counts


def head(text: str) -> str:
    """The first `MAX_CHARS` characters at most, cut at the end of a line or a sentence where there is one."""
    if len(text) <= MAX_CHARS:
        return text
    cut = max(text.rfind(mark, 0, MAX_CHARS) for mark in ("\n", "。", ". "))
    return text[: cut + 1] if cut > MAX_CHARS // 2 else text[:MAX_CHARS]


def _row(document: Document, text: str, source: str, language: str) -> str:
    row = {"id": document.id, "text": text, "source": source, "licence": document.licence, "language": language}
    return json.dumps(row, ensure_ascii=False) + "\n"
