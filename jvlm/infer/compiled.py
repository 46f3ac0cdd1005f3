"""The compiled parts of a decoder, built before the first answer is asked for."""

import torch
from torch._dynamo.exc import TorchDynamoException

from jvlm.errors import UsageError
from jvlm.infer.decoder import Decoder
from jvlm.model.language import LanguageModel


@torch.inference_mode()
def compile_decoder(language: LanguageModel) -> None:
    """Build the programs that a `Decoder` with `compile` will run: for one token, and for any number of them.

    Takes seconds, which the next process mostly saves: torch keeps what it built. Raises UsageError where it cannot be
    done: there is no C++ compiler.
    """
    try:
        for rows in (1, 2):
            tokens = torch.zeros(rows, 1, language.config.hidden_size, dtype=language.dtype, device=language.device)
            Decoder(language, rows, compile=True).read(tokens, [1] * rows)
    except TorchDynamoException as error:
        reason = " ".join(str(error).split())
        what = f"the model cannot be compiled: {reason[:200]}"
        raise UsageError(what, fix="install a C++ compiler, or leave compile out") from None
