"""How well a language model predicts text, in bits per character, so that tokenizers do not matter."""

import math
from collections.abc import Sequence

import torch

from jvlm.model.jvlm import hidden_states
from jvlm.model.language import LanguageModel
from jvlm.model.loss import token_log_probabilities
from jvlm.model.packed import Example, pack
from jvlm.model.processor import Processor

ROW_TOKENS = 4096


def bits_per_character(model: LanguageModel, processor: Processor, texts: Sequence[str]) -> float:
    """−log2 p of all texts with their end marks, divided by their `outcomes`."""
    return sum(bits(model, processor, texts)) / sum(outcomes(texts))


def outcomes(texts: Sequence[str]) -> list[int]:
    """What is predicted of each text: its characters and one end."""
    return [len(text) + 1 for text in texts]


@torch.inference_mode()
def bits(model: LanguageModel, processor: Processor, texts: Sequence[str]) -> list[float]:
    """−log2 p of each text with its end mark.

    A text longer than the model's window is scored in windows, each starting afresh with ``<s>``: an upper bound.
    """
    limit = min(ROW_TOKENS, model.config.max_position_embeddings)
    found = [0.0] * len(texts)
    row: list[tuple[int, Example]] = []
    room = ROW_TOKENS
    for text, ids in enumerate(processor.tokenizer.encode_batch(list(texts))):
        targets = [*ids, processor.eos]
        for begin in range(0, len(targets), limit):
            window = targets[begin : begin + limit]
            if len(window) > room:
                _add_bits(model, processor, row, found)
                row, room = [], ROW_TOKENS
            row.append((text, Example("", [processor.bos, *window[:-1]], window, [])))
            room -= len(window)
    if row:
        _add_bits(model, processor, row, found)
    return found


def _add_bits(model: LanguageModel, processor: Processor, row: list[tuple[int, Example]], found: list[float]) -> None:
    examples = [example for _, example in row]
    lengths = [len(example.inputs) for example in examples]
    batch = pack([examples], sum(lengths), processor.pad)
    embeddings = model.get_input_embeddings()(batch.input_ids)
    hidden = hidden_states(model, embeddings, batch.position_ids, batch.doc_lens)[0]
    logs = token_log_probabilities(hidden, batch.labels[0], model.lm_head).double()
    for (text, _), part in zip(row, logs.split(lengths), strict=True):
        found[text] -= float(part.sum()) / math.log(2)
