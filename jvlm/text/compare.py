"""Tokenizers side by side: characters per token, byte share and round trip on each domain of text."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jvlm.errors import DataError, UsageError
from jvlm.text.raw import Document, InputError, read_documents
from jvlm.text.stats import tokenizer_figures
from jvlm.text.tokenizer import TOKENIZER_FILE, Tokenizer

_BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")


class ForeignTokenizer:
    """Any tokenizer that transformers reads from a folder, or a SentencePiece `.model` file, as plain text ↔ ids.

    Its own control tokens are not added. A byte-level tokenizer has a byte in every piece: its byte share is 0.
    """

    def __init__(self, path: Path) -> None:
        """Raises DataError when `path` holds no tokenizer that can be read without a network."""
        self.byte_ids: frozenset[int]
        self._encode: Callable[[list[str]], Any]
        self._decode: Callable[[list[int]], Any]
        if path.suffix == ".model":
            import sentencepiece

            try:
                model = sentencepiece.SentencePieceProcessor(model_file=str(path))
            except (OSError, RuntimeError) as error:
                raise DataError(f"not a SentencePiece model: {error}", where=path) from None
            self._encode, self._decode = model.encode, model.decode
            self.byte_ids = frozenset(i for i in range(model.get_piece_size()) if model.is_byte(i))
            self.vocab_size = model.get_piece_size()
            return
        from transformers import AutoTokenizer

        try:
            other: Any = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
        except (OSError, ValueError) as error:
            raise DataError(f"no tokenizer: {str(error).splitlines()[0]}", where=path) from None
        self._encode = lambda texts: other(texts, add_special_tokens=False)["input_ids"]
        self._decode = lambda ids: other.decode(ids, clean_up_tokenization_spaces=False)
        self.byte_ids = frozenset(i for piece, i in other.get_vocab().items() if _BYTE_PIECE.fullmatch(piece))
        self.vocab_size = len(other)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        ids: list[list[int]] = self._encode(list(texts))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`."""
        text: str = self._decode(list(ids))
        return text


def compare_tokenizers(tokenizers: Sequence[Path], domains: Sequence[Path], most: int = 2000) -> list[dict[str, Any]]:
    """One row per tokenizer and domain: `tokenizer`, `vocab_size`, `domain`, `documents` and the figures.

    Args:
        tokenizers: folders (of jvlm, or any that transformers reads) or SentencePiece `.model` files.
        domains: text files or folders, see `read_documents`; the first `most` documents of each are measured.

    Raises DataError for a tokenizer or a text that cannot be read, UsageError when none is named.
    """
    if not tokenizers or not domains:
        raise UsageError("nothing to compare", fix="name at least one tokenizer and one text")
    rows = []
    for path in tokenizers:
        tokenizer = _load(path)
        for domain in domains:
            texts = [document.text for document, _ in zip(_documents(domain), range(most), strict=False)]
            figures = tokenizer_figures(tokenizer, texts)
            about = {"tokenizer": str(path), "vocab_size": tokenizer.vocab_size, "domain": domain.name}
            rows.append(about | {"documents": len(texts)} | figures)
    return rows


def _load(path: Path) -> Tokenizer | ForeignTokenizer:
    if (path / TOKENIZER_FILE).is_file():
        try:
            return Tokenizer.load(path)
        except DataError:
            pass  # a tokenizer.json of somebody else's
    return ForeignTokenizer(path)


def _documents(domain: Path) -> Iterator[Document]:
    errors: list[InputError] = []
    yield from read_documents(domain, domain.name, errors)
    if errors:
        raise DataError(errors[0].what, where=errors[0].where)
