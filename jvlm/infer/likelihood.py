"""How well a language model predicts text, in bits per character, so that tokenizers do not matter."""

import math
from collections.abc import Sequence

import torch
from transformers import LlamaForCausalLM

from jvlm.model.jvlm import hidden_states
from jvlm.model.loss import token_log_probabilities
from jvlm.model.packed import Example, pack
from jvlm.model.processor import Processor

ROW_TOKENS = 4096


@torch.inference_mode()
def bits_per_character(model: LlamaForCausalLM, processor: Processor, texts: Sequence[str]) -> float:
    """−log2 p of all texts with their end marks, divided by their characters plus one each for the end.

    A text longer than the model's window is scored in windows, each starting afresh with ``<s>``: an upper bound.
    """
    limit = min(ROW_TOKENS, model.config.max_position_embeddings)
    examples = []
    for ids in processor.tokenizer.encode_batch(list(texts)):
        targets = [*ids, processor.eos]
        for begin in range(0, len(targets), limit):
            window = targets[begin : begin + limit]
            examples.append(Example("", [processor.bos, *window[:-1]], window, []))
    bits, room = 0.0, ROW_TOKENS
    row: list[Example] = []
    for example in examples:
        if len(example.inputs) > room:
            bits += _bits(model, processor, row)
            row, room = [], ROW_TOKENS
        row.append(example)
        room -= len(example.inputs)
    bits += _bits(model, processor, row) if row else 0.0
    return bits / sum(len(text) + 1 for text in texts)


def _bits(model: LlamaForCausalLM, processor: Processor, row: list[Example]) -> float:
    batch = pack([row], sum(len(e.inputs) for e in row), processor.pad)
    embeddings = model.get_input_embeddings()(batch.input_ids)
    hidden = hidden_states(model, embeddings, batch.position_ids, batch.doc_lens)[0]
    return -float(token_log_probabilities(hidden, batch.labels[0], model.lm_head).double().sum()) / math.log(2)
