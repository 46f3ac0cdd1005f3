"""More pieces for a tokenizer that models already know: its ids stay, words of a new domain get new ones."""

import json
from collections.abc import Iterable

from jvlm.errors import DataError, UsageError
from jvlm.text.model_proto import read_pieces, write_pieces
from jvlm.text.sentencepiece_twin import train_sentencepiece, twin
from jvlm.text.tokenizer import Tokenizer, tokenizer_config


def extend_tokenizer(
    tokenizer: Tokenizer, texts: Iterable[str], pieces: int, *, seed: int = 0, threads: int = 2
) -> Tokenizer:
    """The tokenizer with `pieces` more, the likeliest words of `texts` that it has not, behind its own.

    A tokenizer is trained on `texts` alone, and lends its likeliest words with their scores. Text without one of them
    keeps its ids. Raises DataError without an `spm.model`, UsageError when the texts have fewer new words.
    """
    if tokenizer.sentencepiece_model is None:
        raise DataError("the tokenizer has no spm.model", fix="extend one that jvlm trained")
    old = read_pieces(tokenizer.sentencepiece_model)
    trained = train_sentencepiece(
        texts, len(old) + 2 * pieces, seed=seed, threads=threads, split_scripts=True, at_most=True
    )
    known = {piece.text for piece in old}
    new = [piece for piece in read_pieces(trained) if piece.is_word and len(piece.text) > 1 and piece.text not in known]
    if len(new) < pieces:
        fix = "ask for fewer or give it more text"
        raise UsageError(f"the text has {len(new)} words that the tokenizer has not", where="pieces", fix=fix)
    new.sort(key=lambda piece: -piece.score)
    model = write_pieces(tokenizer.sentencepiece_model, [*old, *new[:pieces]])
    config = json.dumps(tokenizer_config(), ensure_ascii=False, indent=1) + "\n"
    return Tokenizer(twin(model).encode(), config.encode(), model)
