"""Training the SentencePiece model and converting it to the Hugging Face definition with the same ids."""

import io
import re
import struct
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator

from jvlm.errors import DataError, UsageError
from jvlm.text.tokenizer import CHAT_TOKENS, IMAGE_TOKENS, SPECIAL_TOKENS

MAX_PIECE_CHARS = 16
MAX_SENTENCE_CHARS = 1000
MAX_SEEDS = 1_000_000  # SentencePiece's own number
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
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".tsv") as seeds:
            seeds.writelines(f"{piece}\t{count}\n" for piece, count in _seeds(sentences))
            seeds.flush()
            _train(sentences, seeds.name, coverage, vocab_size, threads, model)
            path = seeds.name
    except RuntimeError as error:
        raise _vocabulary_error(str(error), vocab_size) from None
    return _cleaned(model.getvalue(), path)


def _train(sentences: list[str], seeds: str, coverage: float, vocab_size: int, threads: int, model: io.BytesIO) -> None:
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([_BOUNDARY.join(_SCRIPT_RUNS.findall(sentence)) for sentence in sentences]),
        pretokenization_delimiter=_BOUNDARY,
        seed_sentencepieces_file=seeds,
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


def _seeds(sentences: list[str]) -> list[tuple[str, int]]:
    """What may become a piece: every character, and what occurs twice or more inside a run of one script.

    SentencePiece's own list holds only what is followed by different characters; a boundary follows every whole run,
    so that it leaves out whole words, 左上 and 四角 among them.
    """
    runs: Counter[str] = Counter()
    for sentence in sentences:
        runs.update(_SCRIPT_RUNS.findall(sentence))
    counts: Counter[str] = Counter()
    for run, number in runs.items():
        for start in range(len(run)):
            for end in range(start + 1, min(len(run), start + MAX_PIECE_CHARS) + 1):
                counts[run[start:end]] += number
    spaced = re.compile(r"\s|\d.|.\d")  # digits stand alone, spaces are the trainer's own
    kept = [(s, n) for s, n in counts.items() if (len(s) == 1 or n > 1) and not spaced.search(s)]
    return sorted(kept, key=lambda seed: (-seed[1] * len(seed[0]), seed[0]))[:MAX_SEEDS]


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


def _cleaned(model: bytes, path: str) -> bytes:
    """The model with every piece's score rounded to 1/64 and without the `path` of the candidates.

    Walks the protocol buffer by hand (ModelProto.pieces = field 1, SentencePiece.score = field 2, a 32-bit float;
    ModelProto.trainer_spec = field 2), so that no protobuf runtime is needed.
    """
    out = bytearray()
    for number, wire, value in _fields(model):
        assert wire == 2, "every top-level field of a model is length-delimited"
        inner = bytearray()
        for field in _fields(value) if number <= 2 else ():
            if number == 1 and field[:2] == (2, 5):
                (score,) = struct.unpack("<f", field[2])
                field = (2, 5, struct.pack("<f", round(score * SCORE_STEP) / SCORE_STEP))
            if field[2] != path.encode():
                inner += _field(*field)
        out += _field(number, wire, bytes(inner) if number <= 2 else value)
    return bytes(out)


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(number, wire type, value) of each field; the length of a length-delimited one is not part of its value."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire, start = tag & 7, at
        if wire == 0:
            _, end = _varint(data, at)
        elif wire == 2:
            size, start = _varint(data, at)
            end = start + size
        else:
            end = at + {1: 8, 5: 4}[wire]
        yield tag >> 3, wire, data[start:end]
        at = end


def _field(number: int, wire: int, value: bytes) -> bytes:
    return _as_varint(number << 3 | wire) + (_as_varint(len(value)) if wire == 2 else b"") + value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
