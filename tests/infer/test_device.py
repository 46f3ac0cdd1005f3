"""Where a model computes: on the GPU where there is one, with the same answers."""

import pytest
import torch
from tiny import ask, make_model

import jvlm
from jvlm.infer.likelihood import bits
from jvlm.model.directory import save_model
from jvlm.model.jvlm import JvlmModel


@pytest.fixture
def folder(tokenizer, processor, tmp_path):
    save_model(tmp_path / "model", make_model(tokenizer), processor)
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("asked", "has_gpu", "goes_to"), [(None, True, "cuda"), (None, False, "cpu"), ("cpu", True, "cpu")]
)
def test_a_loaded_model_goes_to_the_gpu_if_there_is_one(folder, monkeypatch, asked, has_gpu, goes_to):
    seen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(JvlmModel, "to", lambda self, device: seen.append(device) or self)
    jvlm.load(folder, device=asked)
    assert seen == [goes_to]


@pytest.mark.cuda
def test_answers_and_likelihoods_are_those_of_the_processor(folder):
    here, there = jvlm.load(folder, device="cpu"), jvlm.load(folder)
    assert there.model.language.device.type == "cuda"
    asked = [ask("text", "空は何色ですか。"), ask("one", "色は。", [1]), ask("two", "違いは。", [2, 3])]
    assert there.generate(asked, max_new_tokens=8) == here.generate(asked, max_new_tokens=8)
    choices = [["赤", "青い三角です。"]] * 3
    near, far = (model.choice_log_likelihoods(asked, choices) for model in (here, there))
    torch.testing.assert_close(torch.tensor(far), torch.tensor(near), atol=1e-3, rtol=1e-4)
    near, far = (bits(model.model.language, model.processor, ["赤い丸があります。"]) for model in (here, there))
    assert far == pytest.approx(near, rel=1e-4)
