"""The pieces of a serialised SentencePiece model, read and written by hand, so that no protobuf runtime is needed.

ModelProto.pieces is field 1; of a SentencePiece field 1 is the text, 2 the score (a 32-bit float) and 3 the kind.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_TRAINER = 2  # ModelProto.trainer_spec
_WORD = 1  # SentencePiece.Type.NORMAL, which is not written down


class Piece(NamedTuple):
    """A piece; `kind` is its SentencePiece.Type."""

    text: str
    score: float
    kind: int

    @property
    def is_word(self) -> bool:
        """Neither a control token, a byte, the unknown token nor a symbol of the user's."""
        return self.kind == _WORD


def read_pieces(model: bytes) -> list[Piece]:
    """The pieces in order of their ids."""
    return [_piece(content) for field, content in _fields(model) if field == 1]


def write_pieces(model: bytes, pieces: Sequence[Piece]) -> bytes:
    """The model with these pieces in place of its own; everything else as it was."""
    rest = b"".join(_field(number, content) for number, content in _fields(model) if number != 1)
    return b"".join(_field(1, _serialised(piece)) for piece in pieces) + rest


def forget_setting(model: bytes, value: str) -> bytes:
    """The model without the trainer settings that are this text, such as the name of a file of that one training."""
    kept = [(n, c if n != _TRAINER else _without(c, value.encode())) for n, c in _fields(model)]
    return b"".join(_field(number, content) for number, content in kept)


def _without(settings: bytes, value: bytes) -> bytes:
    at, kept = 0, b""
    while at < len(settings):
        start = at
        tag, at = _varint(settings, at)
        content = None
        if tag & 7 == 2:
            size, at = _varint(settings, at)
            content, at = settings[at : at + size], at + size
        elif tag & 7 == 5:
            at += 4
        else:
            assert tag & 7 == 0, f"unknown wire type {tag & 7}"
            _, at = _varint(settings, at)
        if content != value:
            kept += settings[start:at]
    return kept


def _fields(model: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(model):
        tag, at = _varint(model, at)
        assert tag & 7 == 2, "every top-level field of a model is length-delimited"
        size, at = _varint(model, at)
        yield tag >> 3, model[at : at + size]
        at += size


def _piece(content: bytes) -> Piece:
    text, score, kind, at = "", 0.0, _WORD, 0
    while at < len(content):
        tag, at = _varint(content, at)
        if tag == 1 << 3 | 2:
            size, at = _varint(content, at)
            text = content[at : at + size].decode()
            at += size
        elif tag == 2 << 3 | 5:
            (score,) = struct.unpack_from("<f", content, at)
            at += 4
        else:
            assert tag == 3 << 3, f"unknown field {tag >> 3} of a piece"
            kind, at = _varint(content, at)
    return Piece(text, score, kind)


def _serialised(piece: Piece) -> bytes:
    kind = bytes([3 << 3, piece.kind]) if piece.kind != _WORD else b""
    return _field(1, piece.text.encode()) + bytes([2 << 3 | 5]) + struct.pack("<f", piece.score) + kind


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _as_varint(len(content)) + content


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _as_varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
