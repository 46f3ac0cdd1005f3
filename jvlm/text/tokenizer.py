"""The tokenizer: a SentencePiece unigram model and its exact Hugging Face twin.

Why unigram: the twin must give the same ids. SentencePiece's BPE joins the leftmost pair among equal scores, while
Hugging Face gives every pair its own rank, so ーーーー or ...... can split differently and no order of merges cures
both sides. The unigram search is the same program on both sides but for float32 against float64; scores rounded to
1/64 add exactly in both, so even ties fall alike (for one text of up to some 30,000 tokens).

Why no normaliser and no U+2581: the twin's pieces hold plain spaces. SentencePiece cannot tell a typed ▁ from a
space; the twin spells it in bytes like any unseen character, so `decode(encode(x)) == x` for every Unicode string.
On text without ▁ the ids of both are equal.

A tokenizer of another program can stand in for it (`jvlm.text.adopt`): it has the control tokens that it lacked behind
its own, and `tokenizer_config.json` says under `jvlm_tokens` which of its own tokens play the part of one of ours.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jvlm.errors import DataError
from jvlm.files import write_bytes

UNKNOWN, BEGIN, END, PAD = "<unk>", "<s>", "</s>", "<pad>"
CHAT_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|document|>", "<|end|>")
IMAGE_TOKENS = ("<|image|>", "<|image_start|>", "<|image_end|>", "<|image_row|>")
SPECIAL_TOKENS = (UNKNOWN, BEGIN, END, PAD, *CHAT_TOKENS, *IMAGE_TOKENS)

ROLES_KEY = "jvlm_tokens"
TOKENIZER_FILE, CONFIG_FILE, SENTENCEPIECE_FILE = "tokenizer.json", "tokenizer_config.json", "spm.model"


class Tokenizer:
    """Text ↔ ids. Control tokens (`special`) can be placed by number only, never by typing them.

    In a tokenizer trained here they are ids 0 to 12.
    """

    def __init__(self, definition: bytes, config: bytes, sentencepiece_model: bytes | None = None) -> None:
        """From the bytes of `tokenizer.json` and `tokenizer_config.json`. Raises DataError for any other tokenizer."""
        import tokenizers

        self._definition, self._config, self.sentencepiece_model = definition, config, sentencepiece_model
        try:
            self._fast: tokenizers.Tokenizer = tokenizers.Tokenizer.from_str(definition.decode())
        except Exception as error:  # the Rust side raises bare Exception
            raise DataError(f"not a tokenizer definition: {error}") from None
        try:
            played: dict[str, str] = json.loads(config).get(ROLES_KEY, {})
        except (ValueError, AttributeError, RecursionError):
            raise DataError(f"{CONFIG_FILE} is no JSON object") from None
        self.tokens: dict[str, str] = {role: played.get(role, role) for role in SPECIAL_TOKENS}
        self.special: dict[str, int] = {role: self._control_id(token) for role, token in self.tokens.items()}
        self._fast.encode_special_tokens = True  # a typed <|user|> is text like any other

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Read a tokenizer folder or a model folder. Raises DataError when it holds none."""
        folder = Path(folder)
        try:
            definition, config = ((folder / name).read_bytes() for name in (TOKENIZER_FILE, CONFIG_FILE))
            spm = (folder / SENTENCEPIECE_FILE).read_bytes() if (folder / SENTENCEPIECE_FILE).exists() else None
        except OSError as error:
            raise DataError(f"no tokenizer: {error.strerror}", where=error.filename, fix="train one first") from None
        return cls(definition, config, spm)

    def save(self, folder: Path) -> None:
        """Write the files this was made from, byte for byte."""
        write_bytes(Path(folder) / TOKENIZER_FILE, self._definition)
        write_bytes(Path(folder) / CONFIG_FILE, self._config)
        if self.sentencepiece_model is not None:
            write_bytes(Path(folder) / SENTENCEPIECE_FILE, self.sentencepiece_model)

    def _control_id(self, token: str) -> int:
        number = self._fast.token_to_id(token)
        known = self._fast.get_added_tokens_decoder()
        if number is None or number not in known or not known[number].special:
            fix = "use a tokenizer trained by jvlm, or bring a whole model in with `jvlm import`"
            raise DataError(f"control token {token} is missing or a piece of text", fix=fix)
        return int(number)

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return 1 + max(self._fast.get_vocab().values())

    def piece(self, number: int) -> str | None:
        """The token of an id, None where there is none."""
        token: str | None = self._fast.id_to_token(number)
        return token

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of `tokenizer.json`, hexadecimal."""
        return hashlib.sha256(self._definition).hexdigest()

    @cached_property
    def byte_ids(self) -> range:
        """The ids of the 256 bytes, in order; empty where bytes have no pieces of their own (byte-level BPE)."""
        first = self._fast.token_to_id("<0x00>")
        return range(0) if first is None else range(first, first + 256)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, nothing added; never a control id. Raises DataError for a lone surrogate."""
        try:
            ids: list[int] = self._fast.encode(text, add_special_tokens=False).ids
        except (UnicodeEncodeError, TypeError):
            raise DataError("not valid Unicode text", where=repr(text[:40])) from None
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores unless TOKENIZERS_PARALLELISM says otherwise."""
        try:
            encodings = self._fast.encode_batch_fast(list(texts), add_special_tokens=False)
        except (UnicodeEncodeError, TypeError):
            return [self.encode(text) for text in texts]  # names the text that is wrong
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, control ids skipped; bytes that are not UTF-8 become U+FFFD."""
        text: str = self._fast.decode(list(ids), skip_special_tokens=True)
        return text


def tokenizer_config(played: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Content of `tokenizer_config.json`, so that `transformers.AutoTokenizer` loads the folder.

    `played` says which token plays the part of one of ours, where it is not our own.
    """
    played = played or {}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": played.get(UNKNOWN, UNKNOWN),
        "bos_token": played.get(BEGIN, BEGIN),
        "eos_token": played.get(END, END),
        "pad_token": played.get(PAD, PAD),
        "extra_special_tokens": [*CHAT_TOKENS, *IMAGE_TOKENS],
        "clean_up_tokenization_spaces": False,
    }
    return config | ({ROLES_KEY: dict(played)} if played else {})


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, out: Path, *, seed: int = 0, threads: int = 2, split_scripts: bool = True
) -> Tokenizer:
    """Train on `texts` and commit `out` with `spm.model`, `tokenizer.json` and `tokenizer_config.json`.

    The same texts, seed and `threads` give the same bytes; the trainer sums in the order of its threads, hence a
    fixed default. With `split_scripts` no piece crosses from one script to another.
    Raises UsageError when the texts cannot fill `vocab_size` or it is too small for them, DataError when there is no
    text.
    """
    from jvlm.files import new_folder
    from jvlm.text.sentencepiece_twin import train_sentencepiece, twin

    model = train_sentencepiece(texts, vocab_size, seed=seed, threads=threads, split_scripts=split_scripts)
    config = json.dumps(tokenizer_config(), ensure_ascii=False, indent=1) + "\n"
    tokenizer = Tokenizer(twin(model).encode(), config.encode(), model)
    with new_folder(out) as folder:
        tokenizer.save(folder)
    return tokenizer
