"""Training the SentencePiece model and converting it to the Hugging Face definition with the same ids."""

import io
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO, Literal

from jvlm.errors import DataError, UsageError
from jvlm.text.characters import required_characters
from jvlm.text.model_proto import Piece, forget_setting, read_pieces, write_pieces
from jvlm.text.seeds import repeated_strings
from jvlm.text.tokenizer import CHAT_TOKENS, IMAGE_TOKENS, SPECIAL_TOKENS

LARGE = 32_000
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
_UNFIT = re.compile(r"[\d\t]")


def train_sentencepiece(
    texts: Iterable[str],
    vocab_size: int,
    *,
    seed: int,
    threads: int,
    split_scripts: bool,
    model_type: Literal["unigram", "bpe"] = "unigram",
    at_most: bool = False,
) -> bytes:
    """A serialised SentencePiece model: identity normaliser, byte fallback, digits apart, newline a piece of its own.

    Rare characters beyond half of the vocabulary are left to the byte fallback, so that words get the other half. From
    `LARGE` pieces on, every character of `required_characters` and every run of 2 to 16 spaces is a piece.
    With `split_scripts` no piece crosses from one script to another: without that rule a small corpus merges whole
    phrases (左上に赤い), and a model has to learn every combination of words instead of the words. BPE is there to be
    measured: it has no exact twin. With `at_most` a text too small for `vocab_size` gets what it can fill.
    """
    import sentencepiece

    large = vocab_size >= LARGE
    sentences = [sentence for text in texts for sentence in _sentences(text.replace(_BOUNDARY, ""))]
    required = _ALWAYS + (required_characters() if large else "")
    if large:
        sentences = list(_without_rare(sentences, required, vocab_size // 4))
        # Once the characters seen cover the text in float32, the trainer drops required ones never seen: show them all.
        sentences += list(required[1:]) * (sum(map(len, sentences)) // 10**7 + 1)
    coverage = 1.0 if large else _coverage(sentences, (vocab_size - len(SPECIAL_TOKENS) - 257) // 2)
    model = io.BytesIO()
    sentencepiece.set_random_generator_seed(seed)
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as seeds:
        by_script = split_scripts and model_type == "unigram"
        if by_script:
            _write_seeds(sentences, seeds)
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(map(_split, sentences) if split_scripts else sentences),
                pretokenization_delimiter=_BOUNDARY if split_scripts else "",
                seed_sentencepieces_file=seeds.name if by_script else "",
                split_by_unicode_script=split_scripts,
                model_writer=model,
                model_type=model_type,
                vocab_size=vocab_size,
                hard_vocab_limit=not at_most,
                character_coverage=coverage,
                required_chars=required,
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
    rounded = _round_scores(forget_setting(model.getvalue(), seeds.name))
    if not set(required) <= {piece.text for piece in read_pieces(rounded)}:
        raise UsageError(f"{vocab_size} is too small for this text", where="vocab_size", fix="raise it")
    return with_space_runs(rounded) if large and model_type == "unigram" else rounded


def twin(model: bytes) -> str:
    """The `tokenizer.json` text of a model made by `train_sentencepiece`."""
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


def _write_seeds(sentences: list[str], file: IO[str]) -> None:
    """As the trainer reads them: a string, a tab, and how much text it would cover. Digits stand alone, as it wants."""
    strings = repeated_strings((run for s in sentences for run in _SCRIPT_RUNS.findall(s)), MAX_PIECE_CHARS)
    for string, times in strings.items():
        if not _UNFIT.search(string):
            file.write(f"{string.replace(' ', '▁')}\t{times * len(string)}\n")
    file.flush()


def _split(sentence: str) -> str:
    return _BOUNDARY.join(_SCRIPT_RUNS.findall(sentence))


def _sentences(text: str) -> Iterator[str]:
    """Lines, cut into pieces the trainer does not skip for their length; ▁ would pass for a space there."""
    for line in text.split("\n"):
        for start in range(0, len(line), MAX_SENTENCE_CHARS):
            piece = line[start : start + MAX_SENTENCE_CHARS].replace("▁", "").replace("\0", "")
            if piece:
                yield piece


def _without_rare(sentences: list[str], required: str, most: int) -> Iterator[str]:
    """The sentences cut at every character that is neither required nor among the `most` most frequent ones."""
    counts: Counter[str] = Counter()
    for sentence in sentences:
        counts.update(sentence)
    known = set(required).union(character for character, _ in counts.most_common(most))
    cut = {ord(character): "\n" for character in counts if character not in known}
    for sentence in sentences:
        yield from (part for part in sentence.translate(cut).split("\n") if part)


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
    """The model with every piece's score rounded to 1/64."""
    pieces = read_pieces(model)
    return write_pieces(model, [piece._replace(score=round(piece.score * SCORE_STEP) / SCORE_STEP) for piece in pieces])


def with_space_runs(model: bytes) -> bytes:
    """The model with a piece for every run of 2 to 16 spaces, so dear to split that the longest one is always taken.

    They take the place of the words that would be missed least. A run of n spaces scores n times the best score of a
    word, less a little: more than any other way to write it, whatever stands around it.
    """
    pieces = read_pieces(model)
    runs = ["▁" * length for length in range(2, MAX_PIECE_CHARS + 1)]
    words = [i for i, piece in enumerate(pieces) if piece.is_word and len(piece.text) > 1]
    best = max(piece.score for piece in pieces if piece.is_word)
    given_up = sorted(words, key=lambda i: (pieces[i].text not in runs, pieces[i].score))[: len(runs)]
    for i, run in zip(sorted(given_up), runs, strict=True):
        pieces[i] = Piece(run, len(run) * best - 1 / SCORE_STEP, pieces[i].kind)
    return write_pieces(model, pieces)
