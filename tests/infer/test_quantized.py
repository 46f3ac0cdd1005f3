"""Weights of 8 bits: how far they lie off, what they take, and that nothing else changes."""

import sys

import pytest
import torch
from tiny import ask, make_model, weights

import jvlm
from jvlm.errors import UsageError
from jvlm.infer.generate import VisionLanguageModel
from jvlm.model.directory import save_model
from jvlm.model.quantized import to_int8, weight_bytes


def test_products_are_those_of_the_rounded_weights(tokenizer):
    """Against weights rounded here, channel by channel."""
    model, rounded = make_model(tokenizer), make_model(tokenizer)
    to_int8(model)
    layers, changed = dict(rounded.named_modules()), 0
    for name, layer in model.named_modules():
        if type(layer) is not torch.nn.Linear or name.endswith("lm_head"):
            continue
        weight = layers[name].weight.detach()
        step = weight.abs().amax(1, keepdim=True) / 127
        x = torch.randn(5, 1, weight.shape[1], generator=torch.Generator().manual_seed(0))
        wanted = torch.nn.functional.linear(x, (weight / step).round() * step, layers[name].bias)
        with torch.inference_mode():
            found = layer(x)
            torch.testing.assert_close(found, wanted, atol=2e-2 * float(wanted.abs().max()), rtol=0)
            torch.testing.assert_close(layer(x[:1]), found[:1], atol=1e-5, rtol=1e-5)
        changed += 1
    assert changed >= 14 + 2  # seven of each of two blocks, the projector's
    assert torch.equal(model.language.lm_head.weight, rounded.language.lm_head.weight)


def test_a_directory_is_loaded_with_int8_weights(tokenizer, processor, tmp_path):
    model = make_model(tokenizer)
    save_model(tmp_path / "model", model, processor)
    full, small = jvlm.load(tmp_path / "model"), jvlm.load(tmp_path / "model", weights="int8")
    linear = sum(
        m.weight.numel() for n, m in model.named_modules() if type(m) is torch.nn.Linear and "lm_head" not in n
    )
    saved = weight_bytes(full.model) - weight_bytes(small.model)
    assert weight_bytes(full.model) == 4 * sum(tensor.numel() for tensor in weights(model).values())
    assert 2.7 * linear < saved < 3 * linear
    assert full.settings["precision"] != small.settings["precision"]
    asked = [ask(str(n), "色は。", [n]) for n in range(12)]
    answers = small.generate(asked, max_new_tokens=6)
    assert answers == [small.generate([sample], max_new_tokens=6)[0] for sample in asked]
    same = [a == b for a, b in zip(answers, full.generate(asked, max_new_tokens=6), strict=True)]
    assert sum(same) >= 6
    quantised = make_model(tokenizer)
    to_int8(quantised)
    assert VisionLanguageModel(quantised, processor).generate(asked, max_new_tokens=6) == answers


def test_without_torchao_the_way_out_is_named(tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(UsageError, match=r"torchao.*pip install 'jvlm\[quant\]'"):
        to_int8(make_model(tokenizer))
