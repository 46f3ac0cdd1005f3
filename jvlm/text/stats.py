"""Figures of a text, and of a tokenizer on it."""

from collections.abc import Container, Iterable, Sequence
from typing import Protocol

from jvlm.errors import DataError

KANA_SHARE = 0.05


def is_japanese(text: str) -> bool:
    """Whether kana make up at least a twentieth of the characters: even statutes and manuals with code have more."""
    return sum("ぁ" <= character <= "ヿ" for character in text) >= KANA_SHARE * len(text) > 0


class Encoder(Protocol):
    """What is measured: text → ids and back, and which ids are single bytes."""

    @property
    def byte_ids(self) -> Container[int]: ...
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...
    def decode(self, ids: Sequence[int]) -> str: ...


def tokenizer_figures(tokenizer: Encoder, texts: Iterable[str]) -> dict[str, float]:
    """`chars_per_token`; `byte_share`, the share of tokens that are single bytes of characters without a piece of
    their own; `roundtrip`, the share of texts that decode to themselves. Raises DataError when there is no text.
    """
    documents = [text for text in texts if text]
    if not documents:
        raise DataError("no text to measure the tokenizer on")
    encoded = tokenizer.encode_batch(documents)
    tokens = sum(map(len, encoded))
    byte_tokens = sum(token in tokenizer.byte_ids for ids in encoded for token in ids)
    same = sum(tokenizer.decode(ids) == text for ids, text in zip(encoded, documents, strict=True))
    return {
        "chars_per_token": sum(map(len, documents)) / tokens,
        "byte_share": byte_tokens / tokens,
        "roundtrip": same / len(documents),
    }
