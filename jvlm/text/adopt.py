"""The tokenizer of another program's model, with our control tokens.

What its folder calls bos, eos, pad and unk keeps those parts; what it lacks is added behind its vocabulary.
"""

import json
from pathlib import Path
from typing import Any

from jvlm.errors import DataError
from jvlm.files import read_json
from jvlm.text.tokenizer import (
    BEGIN,
    CONFIG_FILE,
    END,
    PAD,
    SPECIAL_TOKENS,
    TOKENIZER_FILE,
    UNKNOWN,
    Tokenizer,
    tokenizer_config,
)

MAP_FILE = "special_tokens_map.json"


def adopt_tokenizer(folder: Path) -> tuple[Tokenizer, list[int]]:
    """The tokenizer of a Hugging Face folder and the ids that are new in it.

    A model that has no begin token gets its end token for one, as documents were divided in its training. A pad token
    that is the end token as well is not taken: padding must be told from ends. Raises DataError when there is no
    `tokenizer.json`, or when typing a control token would still give its id.
    """
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Fast

    path = folder / TOKENIZER_FILE
    if not path.is_file():
        fix = "save it with transformers' AutoTokenizer and save_pretrained first"
        raise DataError("no tokenizer.json", where=folder, fix=fix)
    try:
        fast: Any = Fast.from_str(json.dumps(_every_segment_alike(read_json(path)), ensure_ascii=False))
    except Exception as error:  # the Rust side raises bare Exception
        raise DataError(f"not a tokenizer definition: {error}", where=path) from None
    fast.no_truncation()
    fast.no_padding()
    known = fast.get_vocab()
    played = {role: token for role, token in _played(folder).items() if token in known and token != role}
    tokens = [played.get(role, role) for role in SPECIAL_TOKENS]
    fast.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in dict.fromkeys(tokens)])
    config = json.dumps(tokenizer_config(played), ensure_ascii=False, indent=1) + "\n"
    tokenizer = Tokenizer(fast.to_str().encode(), config.encode())
    control = set(tokenizer.special.values()) - {tokenizer.special[UNKNOWN]}
    for token in tokens:
        for text in (token, f" {token}", f"a{token}b"):
            if control & set(tokenizer.encode(text)):
                raise DataError(f"typed text gives the control token {token!r}", where=path)
    return tokenizer, [tokenizer.special[role] for role, token in tokenizer.tokens.items() if token not in known]


def _played(folder: Path) -> dict[str, str]:
    """Our control tokens → the folder's own, where it names one."""
    named: dict[str, Any] = {}
    for name in (MAP_FILE, CONFIG_FILE):
        if (folder / name).is_file():
            named |= {key: value for key, value in read_json(folder / name).items() if key.endswith("_token")}
    tokens = {key: value["content"] if isinstance(value, dict) else value for key, value in named.items() if value}
    begin, end, pad = tokens.get("bos_token"), tokens.get("eos_token"), tokens.get("pad_token")
    played = {BEGIN: begin or end, END: end, UNKNOWN: tokens.get("unk_token")}
    if pad not in played.values():
        played[PAD] = pad
    if played[UNKNOWN] in (begin, end):
        played[UNKNOWN] = None
    return {role: token for role, token in played.items() if token}


def _every_segment_alike(definition: dict[str, Any]) -> dict[str, Any]:
    """SentencePiece's leading space at every start of text, as where text is encoded by itself.

    With `first` a tokenizer leaves it out behind a control token, and a conversation encoded as one string would have
    other ids than the segments it is trained on.
    """
    for part in (definition.get("pre_tokenizer"), definition.get("decoder")):
        for step in (part, *(part or {}).get("pretokenizers", ()), *(part or {}).get("decoders", ())):
            if step and step.get("prepend_scheme") == "first":
                step["prepend_scheme"] = "always"
    return definition
