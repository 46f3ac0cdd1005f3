"""Weights of 8 and 4 bits: how far they lie off, what they take, and that nothing else changes."""

import sys

import pytest
import torch
from tiny import ask, make_model, weights

import jvlm
from jvlm.errors import UsageError
from jvlm.infer.generate import VisionLanguageModel
from jvlm.model.directory import save_model
from jvlm.model.quantized import quantize, weight_bytes

# fmt: off
NORMAL_FLOATS = torch.tensor([
    -1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.09105, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.562617, 0.7229568, 1.0,
])
"""Dettmers et al. 2023, appendix E."""
# fmt: on


def by_channels(weight):
    """Rounded to 8 bits, channel by channel."""
    step = weight.abs().amax(1, keepdim=True) / 127
    return (weight / step).round() * step


def by_blocks(weight):
    """Rounded to the nearest normal float, 64 weights by 64."""
    blocks = weight.reshape(-1, 64)
    scale = blocks.abs().amax(1, keepdim=True)
    nearest = (blocks[..., None] / scale[..., None] - NORMAL_FLOATS).abs().argmin(-1)
    return (NORMAL_FLOATS[nearest] * scale).view(weight.shape)


def off(found, wanted):
    """By which share of what was wanted."""
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(("kind", "rounding"), [("int8", by_channels), ("int4", by_blocks)])
def test_products_are_those_of_the_rounded_weights(tokenizer, kind, rounding):
    """Against weights rounded here."""
    model, rounded = make_model(tokenizer), make_model(tokenizer)
    quantize(model, kind)
    layers, changed = dict(rounded.named_modules()), 0
    for name, layer in model.named_modules():
        if type(layer) is not torch.nn.Linear or name.endswith("lm_head"):
            continue
        weight = layers[name].weight.detach()
        x = torch.randn(5, 1, weight.shape[1], generator=torch.Generator().manual_seed(0))
        wanted = torch.nn.functional.linear(x, rounding(weight), layers[name].bias)
        with torch.inference_mode():
            found = layer(x)
            assert off(found, wanted) < 1e-2
            torch.testing.assert_close(layer(x[:1]), found[:1], atol=1e-5, rtol=1e-5)
        changed += 1
    assert changed >= 14 + 2  # seven of each of two blocks, the projector's
    assert torch.equal(model.language.lm_head.weight, rounded.language.lm_head.weight)


@pytest.mark.parametrize(("kind", "least", "most"), [("int8", 2.7, 3.0), ("int4", 3.3, 3.5)])
def test_a_directory_is_loaded_with_small_weights(tokenizer, processor, tmp_path, kind, least, most):
    """`least` and `most`: bytes saved, of a weight's four."""
    model = make_model(tokenizer)
    save_model(tmp_path / "model", model, processor)
    full, small = jvlm.load(tmp_path / "model"), jvlm.load(tmp_path / "model", weights=kind)
    linear = sum(
        m.weight.numel() for n, m in model.named_modules() if type(m) is torch.nn.Linear and "lm_head" not in n
    )
    saved = weight_bytes(full.model) - weight_bytes(small.model)
    assert weight_bytes(full.model) == 4 * sum(tensor.numel() for tensor in weights(model).values())
    assert least * linear < saved < most * linear
    assert full.settings["precision"] != small.settings["precision"]
    asked = [ask(str(n), "色は。", [n]) for n in range(12)]
    answers = small.generate(asked, max_new_tokens=6)
    assert answers == [small.generate([sample], max_new_tokens=6)[0] for sample in asked]
    if kind == "int8":
        same = [a == b for a, b in zip(answers, full.generate(asked, max_new_tokens=6), strict=True)]
        assert sum(same) >= 6
    quantised = make_model(tokenizer)
    quantize(quantised, kind)
    assert VisionLanguageModel(quantised, processor).generate(asked, max_new_tokens=6) == answers


@torch.no_grad()
def test_what_does_not_divide_into_blocks_of_4_bits_has_8():
    layers = torch.nn.Sequential(torch.nn.Linear(12, 7), torch.nn.Linear(16, 12), torch.nn.LayerNorm(12))
    whole = layers[0].weight.detach().clone()
    quantize(layers, "int4")
    odd, even, norm = (type(layer.weight).__name__ for layer in layers)
    assert (odd, even, norm) == ("Int8Tensor", "NF4Tensor", "Parameter")
    assert off(layers[0](torch.eye(12)) - layers[0].bias, by_channels(whole).T) < 1e-2


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_without_torchao_the_way_out_is_named(tokenizer, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(UsageError, match=rf"{kind}.*torchao.*pip install 'jvlm\[quant\]'"):
        quantize(make_model(tokenizer), kind)
