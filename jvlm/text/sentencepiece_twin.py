"""Training the SentencePiece model and converting it to the Hugging Face definition with the same ids."""

import io
import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator

from jvlm.errors import DataError, UsageError
from jvlm.text.tokenizer import CHAT_TOKENS, IMAGE_TOKENS, SPECIAL_TOKENS

MAX_PIECE_CHARS = 16
MAX_SENTENCE_CHARS = 1000
MAX_SENTENCES = 2_000_000  # more are sampled down to this, by the seed
SCORE_STEP = 64  # scores are multiples of 1/64: exact sums in float32 up to 2^18
# Control and byte pieces stand in the twin's vocabulary as plain strings such as `<|user|>` and `<0x41>`. A score
# this low keeps the search from ever taking one for text that was typed; spelled out, no text of that length costs
# as much, since every ASCII character is a piece.
NEVER = -(2.0**20)
_ALWAYS = "▁" + "".join(map(chr, range(0x21, 0x7F)))  # space (which SentencePiece writes ▁) and ASCII
_BOUNDARY = "\ue000"  # private use: no meaning in any text
_HAN, _HIRAGANA, _KATAKANA, _LATIN = "一-鿿㐀-䶿々〆", "ぁ-ゟ", "゠-ヿ", "A-Za-z"
_SCRIPT_RUNS = re.compile(
    f"[{_HAN}]+|[{_HIRAGANA}]+|[{_KATAKANA}]+|[{_LATIN}]+|[^{_HAN}{_HIRAGANA}{_KATAKANA}{_LATIN}]+"
)


def train_unigram(texts: Iterable[str], vocab_size: int, *, seed: int, threads: int) -> bytes:
    """A serialised SentencePiece model: identity normaliser, byte fallback, digits apart, newline a piece of its own.

    Rare characters beyond half of the vocabulary are left to the byte fallback, so that words get the other half.
    No piece crosses from one script to another: without that rule a small corpus merges whole phrases (左上に赤い),
    and a model has to learn every combination of words instead of the words.
    """
    import sentencepiece

    sentences = [sentence for text in texts for sentence in _sentences(text.replace(_BOUNDARY, ""))]
    coverage = _coverage(sentences, (vocab_size - len(SPECIAL_TOKENS) - 257) // 2)
    model = io.BytesIO()
    sentencepiece.set_random_generator_seed(seed)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([_BOUNDARY.join(_SCRIPT_RUNS.findall(sentence)) for sentence in sentences]),
            pretokenization_delimiter=_BOUNDARY,
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size,
            character_coverage=coverage,
            required_chars=_ALWAYS,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            byte_fallback=True,
            max_sentencepiece_length=MAX_PIECE_CHARS,
            max_sentence_length=MAX_SENTENCE_CHARS * 4,
            input_sentence_size=MAX_SENTENCES,
            shuffle_input_sentence=True,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=3,
            control_symbols=[*CHAT_TOKENS, *IMAGE_TOKENS],
            user_defined_symbols=["\n"],
            num_threads=threads,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _vocabulary_error(str(error), vocab_size) from None
    return _round_scores(model.getvalue())


def twin(model: bytes) -> str:
    """The `tokenizer.json` text of a model made by `train_unigram`."""
    import sentencepiece
    import tokenizers
    from tokenizers import decoders, models

    source = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = []
    for number in range(source.get_piece_size()):
        piece, score = source.id_to_piece(number).replace("▁", " "), source.get_score(number)
        is_text = not (source.is_control(number) or source.is_unknown(number) or source.is_byte(number))
        pieces.append((piece, score if is_text else NEVER))
    fast = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    fast.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    fast.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    definition: str = fast.to_str()
    return definition


def _sentences(text: str) -> Iterator[str]:
    """Lines, cut into pieces the trainer does not skip for their length; ▁ would pass for a space there."""
    for line in text.split("\n"):
        for start in range(0, len(line), MAX_SENTENCE_CHARS):
            piece = line[start : start + MAX_SENTENCE_CHARS].replace("▁", "").replace("\0", "")
            if piece:
                yield piece


def _coverage(sentences: list[str], most_characters: int) -> float:
    """The share of text the `most_characters` most frequent characters make, within what the trainer accepts."""
    counts: Counter[str] = Counter()
    for sentence in sentences:
        counts.update(sentence)
    if not counts:
        raise DataError("no text to train the tokenizer on")
    if len(counts) <= most_characters:
        return 1.0
    covered = sum(count for _, count in counts.most_common(max(most_characters, 0)))
    return max(covered / counts.total(), 0.98)


def _vocabulary_error(message: str, vocab_size: int) -> UsageError | DataError:
    if match := re.search(r"<= (\d+)", message):
        fix = f"set vocab_size to at most {match[1]} or give it more text"
        return UsageError(f"this text cannot fill a vocabulary of {vocab_size}", where="vocab_size", fix=fix)
    if match := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return UsageError(f"{vocab_size} is too small", where="vocab_size", fix=f"this text needs more than {match[1]}")
    return DataError(f"the tokenizer cannot be trained: {message.splitlines()[0]}")


def _round_scores(model: bytes) -> bytes:
    """The model with every piece's score rounded to 1/64.

    Walks the protocol buffer by hand (ModelProto.pieces = field 1, SentencePiece.score = field 2, a 32-bit float),
    so that no protobuf runtime is needed.
    """
    data, at = bytearray(model), 0
    while at < len(data):
        tag, at = _varint(data, at)
        size, at = _varint(data, at)
        assert tag & 7 == 2, "every top-level field of a model is length-delimited"
        if tag >> 3 == 1:
            _round_piece(data, at, at + size)
        at += size
    return bytes(data)


def _round_piece(data: bytearray, at: int, end: int) -> None:
    while at < end:
        tag, at = _varint(data, at)
        if tag == 2 << 3 | 5:
            (score,) = struct.unpack_from("<f", data, at)
            struct.pack_into("<f", data, at, round(score * SCORE_STEP) / SCORE_STEP)
            at += 4
        else:
            size, at = _varint(data, at)
            at += size if tag & 7 == 2 else 0


def _varint(data: bytearray, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
