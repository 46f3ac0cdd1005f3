"""The decoder against transformers' own forward of whole sequences, for every family of language models."""

import pytest
import torch
from tiny import shake

from jvlm.infer.decoder import COLUMNS, Decoder
from jvlm.model.language import language_model_from

VOCABULARY, WINDOW = 50, 300
BASE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": WINDOW,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": {"model_type": "llama"},
    "llama, all heads their own": {"model_type": "llama", "num_key_value_heads": 4},
    "llama, longer by scaled positions": {
        "model_type": "llama",
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 1000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
    "mistral": {"model_type": "mistral", "sliding_window": None},
    "mistral that looks back": {"model_type": "mistral", "sliding_window": 5},
    "mixtral": {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "qwen2": {"model_type": "qwen2"},
    "qwen2 that looks back": {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 4,
        "max_window_layers": 1,
    },
    "qwen3": {"model_type": "qwen3", "head_dim": 12},
}


def language(family="llama"):
    torch.manual_seed(0)
    return shake(language_model_from(BASE | FAMILIES[family])).eval()


def prompts(*lengths):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


def read(decoder, texts, start=None):
    begun = len(start.ids) if start else 0
    rests = [torch.tensor(text[begun:]) for text in texts]
    ids = torch.nn.utils.rnn.pad_sequence(rests, batch_first=True, padding_value=3)
    return decoder.read(decoder.language.get_input_embeddings()(ids), [len(rest) for rest in rests], start)


def write(decoder, tokens):
    return decoder.write(decoder.language.get_input_embeddings()(torch.tensor(tokens)[:, None]))


def expected(model, texts):
    return torch.stack([model(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1] for text in texts])


def close(found, wanted):
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_reading_and_writing_give_what_the_whole_forward_gives(family):
    model = language(family)
    decoder, texts = Decoder(model, 8), prompts(7, 1, 12)
    close(read(decoder, texts), expected(model, texts))
    late = prompts(9, 3)  # into a batch that is under way, and into memory that others have used
    for step in range(6):
        tokens = [(7 * step + row) % VOCABULARY for row in range(decoder.rows)]
        texts = [[*text, token] for text, token in zip(texts, tokens, strict=True)]
        close(write(decoder, tokens), expected(model, texts))
        if step == 2:
            decoder.keep([2, 1])
            texts = [texts[2], texts[1]]
            close(read(decoder, late), expected(model, late))
            texts += late


@pytest.mark.parametrize("family", ["llama", "mistral that looks back", "qwen2 that looks back"])
@torch.inference_mode()
def test_what_prompts_begin_with_is_read_once(family):
    model = language(family)
    begin, *rests = prompts(10, 6, 1, 4)
    texts = [begin + rest for rest in rests]
    decoder = Decoder(model, 4)
    start = decoder.start(begin, model.get_input_embeddings()(torch.tensor([begin])))
    assert decoder.rows == 0
    close(read(decoder, texts, start), expected(model, texts))
    texts = [[*text, 5] for text in texts]
    close(write(decoder, [5, 5, 5]), expected(model, texts))
    alike = [[*begin, 4], [*begin, 9]]  # a token each is left to be read
    decoder.keep([])
    close(read(decoder, alike, start), expected(model, alike))


@torch.inference_mode()
def test_memory_is_as_large_as_the_longest_row_and_is_given_back():
    model = language()
    decoder = Decoder(model, 4)

    def room():
        return decoder.memory.shape[2], decoder.memory.shape[4]

    texts = prompts(COLUMNS - 1, 3)
    read(decoder, texts)
    assert room() == (4, COLUMNS)
    for token in (8, 9):
        texts = [[*text, token] for text in texts]
        close(write(decoder, [token, token]), expected(model, texts))
    assert room() == (4, 2 * COLUMNS)  # what was there has been taken over
    read(decoder, prompts(4 * COLUMNS))
    assert room() == (4, 4 * COLUMNS)
    decoder.keep([])
    read(decoder, texts := prompts(5))
    assert room() == (4, COLUMNS)
    close(write(decoder, [1]), expected(model, [[*texts[0], 1]]))
