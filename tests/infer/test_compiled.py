"""Compiled parts of a decoder: built before the first answer and never again, and the same answers."""

from functools import partial

import pytest
import torch
from tiny import ask, make_language, make_model
from torch._dynamo.testing import CompileCounterWithBackend

import jvlm
from jvlm.errors import UsageError
from jvlm.infer import decoder
from jvlm.infer.compiled import compile_decoder
from jvlm.infer.decoder import Decoder
from jvlm.model.directory import save_model


@pytest.fixture
def backend(monkeypatch):
    """Sets who builds the programs (torch's own takes half a minute)."""
    real = torch.compile

    def use(chosen):
        torch._dynamo.reset()
        decoder._compiled.cache_clear()
        monkeypatch.setattr(torch, "compile", partial(real, backend=chosen))
        return chosen

    yield use
    decoder._compiled.cache_clear()
    torch._dynamo.reset()


@torch.inference_mode()
def ragged(language, **options):
    """Logits of prompts and tokens in any number of rows and columns, one row of one included."""
    written, generator = [], torch.Generator().manual_seed(0)
    for most, lengths in ((6, (7, 1, 12, 4, 9)), (1, (3,)), (1, (1,)), (70, (5,) * 64)):
        rows = Decoder(language, most, **options)
        prompts = torch.randn(len(lengths), max(lengths), language.config.hidden_size, generator=generator)
        written.append(rows.read(prompts, lengths))
        for left in range(len(lengths), 0, -9 if most > 9 else -1):
            rows.keep(range(left))
            written.append(rows.write(torch.randn(left, 1, language.config.hidden_size, generator=generator)))
    return torch.cat(written)


@pytest.mark.parametrize("weights", ["full", "int8"])
def test_programs_are_built_once_for_any_number_of_rows_and_columns(tokenizer, backend, weights):
    from jvlm.model.quantized import quantize

    counted, language = backend(CompileCounterWithBackend("eager")), make_language(tokenizer)
    quantize(language, weights)
    compile_decoder(language)
    assert counted.frame_count == 2 * 2  # in front of attention and behind it, for one token and for many
    torch.testing.assert_close(ragged(language, compile=True), ragged(language), atol=1e-5, rtol=1e-5)
    assert counted.frame_count == 4


def test_a_directory_is_loaded_and_compiled(tokenizer, processor, tmp_path, backend):
    save_model(tmp_path / "model", make_model(tokenizer), processor)
    counted = backend(CompileCounterWithBackend("eager"))
    plain, compiled = jvlm.load(tmp_path / "model"), jvlm.load(tmp_path / "model", compile=True)
    built = counted.frame_count
    assert built == 4
    asked = [ask(str(n), "色は。" * (1 + n % 3), [n]) for n in range(7)]
    assert compiled.generate(asked, max_new_tokens=6) == plain.generate(asked, max_new_tokens=6)
    assert compiled.chat(asked[0].images, "色は。") == plain.chat(asked[0].images, "色は。")
    assert counted.frame_count == built
    parts = [model.engine()._decoder._before for model in (compiled, plain)]
    assert parts == [decoder._compiled()[0], decoder._before]


def test_without_a_compiler_the_way_out_is_named(tokenizer, backend):
    def broken(graph, inputs):
        raise RuntimeError("No working C++ compiler found")

    backend(broken)
    with pytest.raises(UsageError, match=r"cannot be compiled: .*No working C\+\+ compiler found.*leave compile out"):
        compile_decoder(make_language(tokenizer))


@pytest.mark.long
def test_torch_s_own_programs_write_the_same(tokenizer, processor, tmp_path, backend):
    backend("inductor")
    language = make_language(tokenizer)
    compile_decoder(language)
    torch.testing.assert_close(ragged(language, compile=True), ragged(language), atol=1e-5, rtol=1e-5)
    save_model(tmp_path / "model", make_model(tokenizer), processor)
    plain, compiled = jvlm.load(tmp_path / "model"), jvlm.load(tmp_path / "model", compile=True)
    asked = [ask(str(n), "色は。" * (1 + n % 3), [n]) for n in range(12)]
    answers = compiled.generate(asked, max_new_tokens=12)
    assert answers == plain.generate(asked, max_new_tokens=12)
    assert answers == [compiled.generate([one], max_new_tokens=12)[0] for one in asked]
