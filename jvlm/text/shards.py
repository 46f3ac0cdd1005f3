"""Token shards: tokenised documents, unpacked, each with its identity; read through memory maps.

A folder holds `tokens.bin` (little-endian uint16, or uint32 for a vocabulary above 65,536), `offsets.npy` (int64
[documents + 1], in tokens), `identity.jsonl` with `identity_offsets.npy` (int64, in bytes) and `card.json`. No begin
or end mark is stored: what stands around a document is the packer's business.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jvlm.errors import DataError
from jvlm.files import new_folder, read_json, sha256_file, write_json
from jvlm.text.raw import Document
from jvlm.text.tokenizer import Tokenizer

FORMAT = 1
_BATCH = 256


def write_token_shards(documents: Iterable[Document], tokenizer: Tokenizer, out: Path) -> dict[str, Any]:
    """Tokenise `documents` in order into the folder `out`, which appears whole or not at all; returns its card.

    Raises DataError when there is no document.
    """
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")
    offsets, identity_offsets = [0], [0]
    stream = iter(documents)
    with new_folder(out) as folder:
        with open(folder / "tokens.bin", "wb") as tokens, open(folder / "identity.jsonl", "wb") as identities:
            while batch := list(islice(stream, _BATCH)):
                encoded = tokenizer.encode_batch([document.text for document in batch])
                for document, ids in zip(batch, encoded, strict=True):
                    tokens.write(np.array(ids, dtype).tobytes())
                    offsets.append(offsets[-1] + len(ids))
                    line = json.dumps(_identity(document), ensure_ascii=False).encode() + b"\n"
                    identities.write(line)
                    identity_offsets.append(identity_offsets[-1] + len(line))
        if len(offsets) == 1:
            raise DataError("no documents to tokenise", where=out, fix="build the corpus first")
        np.save(folder / "offsets.npy", np.array(offsets, np.int64))
        np.save(folder / "identity_offsets.npy", np.array(identity_offsets, np.int64))
        card = {
            "format": FORMAT,
            "documents": len(offsets) - 1,
            "tokens": offsets[-1],
            "dtype": dtype.name,
            "tokenizer": tokenizer.fingerprint,
            "fingerprint": _fingerprint(folder, tokenizer.fingerprint),
        }
        write_json(folder / "card.json", card)
    return card


class TokenShards:
    """Read access to a folder of `write_token_shards`. Raises DataError when it is missing, foreign or cut short."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.card: dict[str, Any] = read_json(self.folder / "card.json")
        if not isinstance(self.card, dict) or self.card.get("format") != FORMAT:
            raise DataError("not token shards of this format", where=self.folder, fix="write them again")
        try:
            self._offsets = np.load(self.folder / "offsets.npy")
            self._identity_offsets = np.load(self.folder / "identity_offsets.npy")
            self._tokens = _map(self.folder / "tokens.bin", np.dtype(self.card["dtype"]).newbyteorder("<"))
            self._identities = _map(self.folder / "identity.jsonl", np.dtype(np.uint8))
        except (OSError, ValueError) as error:
            raise DataError(f"unreadable token shards: {error}", where=self.folder, fix="write them again") from None
        sizes = (len(self._offsets) - 1, int(self._offsets[-1]), len(self._tokens))
        if sizes != (self.num_documents, self.card["tokens"], self.card["tokens"]):
            raise DataError("token shards do not match their card", where=self.folder, fix="write them again")
        if int(self._identity_offsets[-1]) != len(self._identities):
            raise DataError("identities do not match their index", where=self.folder, fix="write them again")

    @property
    def num_documents(self) -> int:
        return int(self.card["documents"])

    @property
    def fingerprint(self) -> str:
        """sha256 over the tokenizer's fingerprint and all content, hexadecimal."""
        return str(self.card["fingerprint"])

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """[documents]: number of tokens of each."""
        lengths: NDArray[np.int64] = np.diff(self._offsets)
        return lengths

    def documents_of(self, source: str) -> NDArray[np.int64]:
        """Numbers of the documents of a source. Raises DataError when there is none."""
        found = [number for number, name in enumerate(self._sources) if name == source]
        if not found:
            fix = f"sources: {', '.join(sorted(set(self._sources)))}"
            raise DataError(f"no document of source '{source}'", where=self.folder, fix=fix)
        return np.array(found, np.int64)

    @cached_property
    def _sources(self) -> list[str]:
        return [str(self.identity(number)["source"]) for number in range(self.num_documents)]

    def tokens(self, index: int) -> NDArray[np.unsignedinteger[Any]]:
        """[length] token ids of one document, a read-only view into the file. IndexError when there is none such."""
        self._check_index(index)
        view: NDArray[np.unsignedinteger[Any]] = self._tokens[self._offsets[index] : self._offsets[index + 1]]
        return view

    def identity(self, index: int) -> dict[str, Any]:
        """Where one document came from: `id`, `source`, `licence`, `path`, `line`."""
        self._check_index(index)
        start, end = self._identity_offsets[index], self._identity_offsets[index + 1]
        identity: dict[str, Any] = json.loads(self._identities[start:end].tobytes())
        return identity

    def check(self, tokenizer: Tokenizer) -> None:
        """Raises DataError unless these shards were made with `tokenizer`."""
        if self.card["tokenizer"] != tokenizer.fingerprint:
            raise DataError(
                "the token shards were made with another tokenizer",
                where=self.folder,
                fix=f"theirs is {self.card['tokenizer'][:12]}, this is {tokenizer.fingerprint[:12]}: tokenise again",
            )

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self.num_documents:
            raise IndexError(f"document {index} of {self.num_documents}")


def token_shards(documents: Iterable[Document], tokenizer: Tokenizer, folder: Path) -> TokenShards:
    """The documents as token shards in `folder`, written when they are not there yet."""
    if not folder.is_dir():
        write_token_shards(documents, tokenizer, folder)
    shards = TokenShards(folder)
    shards.check(tokenizer)
    return shards


def _map(file: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A read-only memory map; an empty file, which cannot be mapped, is an empty array."""
    return np.memmap(file, dtype, mode="r") if file.stat().st_size else np.empty(0, dtype)


def _identity(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "source": document.source,
        "licence": document.licence,
        "path": document.path,
        "line": document.line,
    }


def _fingerprint(folder: Path, tokenizer_fingerprint: str) -> str:
    hashes = [sha256_file(folder / name) for name in ("tokens.bin", "offsets.npy", "identity.jsonl")]
    return hashlib.sha256("\n".join([tokenizer_fingerprint, *hashes]).encode()).hexdigest()
