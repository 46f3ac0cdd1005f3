"""Bits per character by hand."""

import math

import pytest
import torch
from tiny import LANGUAGE, corpus_texts, make_language

from jvlm.infer import likelihood
from jvlm.infer.likelihood import bits, bits_per_character
from jvlm.model.processor import Processor


def by_hand(model, processor, texts, limit=10_000):
    bits, characters = 0.0, 0
    for text in texts:
        targets = [*processor.tokenizer.encode(text), processor.eos]
        for begin in range(0, len(targets), limit):
            window = targets[begin : begin + limit]
            with torch.no_grad():
                table = model(torch.tensor([[processor.bos, *window[:-1]]])).logits[0].log_softmax(-1)
            bits -= sum(float(table[k, token]) for k, token in enumerate(window)) / math.log(2)
        characters += len(text) + 1
    return bits / characters


@pytest.fixture
def language(tokenizer):
    return make_language(tokenizer)


def test_bits_per_character_equal_the_computation_by_hand(language, tokenizer, monkeypatch):
    texts = ["赤い丸があります。", "", "青", *(text[:80] for text in corpus_texts(6))]
    expected = by_hand(language, Processor(tokenizer), texts)
    assert bits_per_character(language, Processor(tokenizer), texts) == pytest.approx(expected, rel=1e-5)
    assert expected > 1
    monkeypatch.setattr(likelihood, "ROW_TOKENS", 120)  # several rows
    assert max(len(tokenizer.encode(text)) for text in texts) < 119
    assert bits_per_character(language, Processor(tokenizer), texts) == pytest.approx(expected, rel=1e-5)


def test_bits_belong_to_their_texts(language, tokenizer, monkeypatch):
    texts = ["".join(corpus_texts(5)), "短い文。", "", "青い星"]  # the first spans several windows and rows
    monkeypatch.setattr(likelihood, "ROW_TOKENS", 200)
    found = bits(language, Processor(tokenizer), texts)
    alone = [by_hand(language, Processor(tokenizer), [text], 200) * (len(text) + 1) for text in texts]
    assert found == pytest.approx(alone, rel=1e-5)


def test_long_texts_are_scored_in_windows(language, tokenizer):
    texts = ["".join(corpus_texts(5)), "短い文。"]
    assert len(tokenizer.encode(texts[0])) > LANGUAGE.max_length
    expected = by_hand(language, Processor(tokenizer), texts, LANGUAGE.max_length)
    assert bits_per_character(language, Processor(tokenizer), texts) == pytest.approx(expected, rel=1e-5)


def test_a_uniform_model_needs_log2_of_the_vocabulary_a_token(tokenizer):
    shape = LANGUAGE.model_copy(update={"tie_embeddings": False})
    model = make_language(tokenizer, shape)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    text = "赤い丸があります。"
    tokens = len(tokenizer.encode(text)) + 1
    expected = tokens * math.log2(tokenizer.vocab_size) / (len(text) + 1)
    assert bits_per_character(model, Processor(tokenizer), [text]) == pytest.approx(expected, rel=1e-6)
