"""A model for a larger vocabulary, for continual pretraining on a domain with words of its own."""

from pathlib import Path

import torch

from jvlm.cards import carry_card
from jvlm.errors import DataError
from jvlm.model.directory import load_directory, save_model
from jvlm.model.jvlm import JvlmModel
from jvlm.model.language import LanguageModel
from jvlm.model.processor import Processor
from jvlm.text.tokenizer import Tokenizer


def extend_model(folder: Path, tokenizer: Tokenizer, out: Path) -> None:
    """Write the model of `folder` with `tokenizer`, an extension of its own, to `out`.

    A new piece begins as the mean of the pieces it was spelt with (Hewitt 2021; Dobler and de Melo 2023), so the model
    is what it was on all text that has no new piece. Raises DataError when the tokenizer is another one.
    """
    loaded = load_directory(folder)
    old = loaded.processor.tokenizer
    if not isinstance(loaded.model, JvlmModel | LanguageModel):
        raise DataError("neither a language nor a vision-language model", where=folder)
    spelt = [old.encode(tokenizer.decode([i])) for i in range(old.vocab_size, tokenizer.vocab_size)]
    if not spelt or any(old.decode([i]) != tokenizer.decode([i]) for i in range(old.vocab_size)):
        raise DataError("the tokenizer does not extend that of the model", where=folder, fix="extend its own")
    language = loaded.model.language if isinstance(loaded.model, JvlmModel) else loaded.model
    language.resize_token_embeddings(tokenizer.vocab_size, mean_resizing=False)
    with torch.no_grad():
        for table in (language.model.embed_tokens.weight, language.lm_head.weight):  # one and the same where tied
            table[old.vocab_size :] = torch.stack([table[ids].mean(0) for ids in spelt])
    was = loaded.processor
    save_model(out, loaded.model, Processor(tokenizer, was.vision, was.projector, was.tiles))
    carry_card([folder], out, f"Given {len(spelt):,} words of its own by `jvlm tokenizer extend`.")
