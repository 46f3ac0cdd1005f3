"""Other people's vision-language models: a model of ours, exported, says and weighs what it does here."""

import shutil

import pytest
import torch
from tiny import LANGUAGE, VISION, ask, encoded_image, make_language, shake
from transformers import AutoModelForImageTextToText, AutoProcessor

from jvlm.errors import DataError, UsageError
from jvlm.infer.generate import VisionLanguageModel
from jvlm.infer.image_text import ImageTextModel, is_image_text, load_image_text_model
from jvlm.model.config import ProjectorConfig
from jvlm.model.directory import save_model
from jvlm.model.export import export
from jvlm.model.jvlm import JvlmModel
from jvlm.model.processor import Processor
from jvlm.model.vision import build_tower
from jvlm.sample import ImageRef, Message, Sample

MLP = ProjectorConfig(kind="mlp")
TOWER = VISION.model_copy(update={"feature_norm": False})


@pytest.fixture(scope="module")
def both(tokenizer, tmp_path_factory):
    """A model here, and as another's: transformers reads it and knows nothing of us."""
    folder = tmp_path_factory.mktemp("llava")
    torch.manual_seed(0)
    model = JvlmModel(make_language(tokenizer), shake(build_tower(TOWER), 2, 0.1), MLP, Processor(tokenizer).image_ids)
    shake(model.projector, 3)
    shake(model.markers, 4)
    with torch.no_grad():  # an end mark that is likely now and then, or no answer would ever end
        model.language.get_input_embeddings().weight[tokenizer.special["<|end|>"]] *= 2
    processor = Processor(tokenizer, TOWER, MLP)
    save_model(folder / "ours", model.eval(), processor)
    export(folder / "ours", folder / "theirs", "llava")
    # Pillow scales pictures here, and there when it is asked to
    theirs = AutoProcessor.from_pretrained(folder / "theirs", backend="pil")
    loaded = AutoModelForImageTextToText.from_pretrained(folder / "theirs")
    return VisionLanguageModel(model, processor), ImageTextModel(loaded, theirs), folder / "theirs"


SAMPLES = [
    ask("one", "赤い丸は何個ありますか。", [0], sizes=[(40, 70)]),
    ask("two", "ちがいは？", [1, 2], sizes=[(30, 30), (90, 20)]),
    ask("none", "図形はいくつ？"),
    Sample(
        "turns",
        [Message("user", ["見て", 0]), Message("assistant", ["はい、2個です。"]), Message("user", ["色は？"])],
        [ImageRef(data=encoded_image(5))],
    ),
]
CHOICES = [["2個です。", "赤"], ["大きい", "小さい", "<|end|>"], ["一", "二つあります。"], ["青", "赤い色です。"]]


def test_choices_are_as_likely_there_as_here(both):
    ours, theirs, _ = both
    here, there = (model.choice_likelihoods(SAMPLES, CHOICES) for model in (ours, theirs))
    for mine, other in zip(here, there, strict=True):
        assert [one.num_tokens for one in mine] == [one.num_tokens for one in other]
        assert [a.log_likelihood - b.log_likelihood for a, b in zip(mine, other, strict=True)] == pytest.approx(
            [0.0] * len(mine), abs=1e-3
        )
    assert [[one.log_likelihood for one in row] for row in there] == theirs.choice_log_likelihoods(SAMPLES, CHOICES)
    other_picture = [ask("one", "赤い丸は何個ありますか。", [3], sizes=[(40, 70)])]
    changed = theirs.choice_log_likelihoods(other_picture, CHOICES[:1])[0]
    assert abs(changed[0] - there[0][0].log_likelihood) > 0.01  # or the test would see nothing of the picture


def test_the_same_is_said(both):
    ours, theirs, _ = both
    asked = SAMPLES + [ask(str(n), "何の図ですか。", [n]) for n in range(10)]
    here, there = (model.generate(asked, max_new_tokens=12) for model in (ours, theirs))
    assert here == there
    assert {one.finish_reason for one in there} == {"stop", "length"}
    mark = next(character for one in there for character in one.text[1:] if character.isalnum())
    cut = theirs.generate(asked, max_new_tokens=12, stop=[mark])
    for whole, one in zip(there, cut, strict=True):
        assert one.text == whole.text.partition(mark)[0]
        assert one.finish_reason == ("stop" if mark in whole.text else whole.finish_reason)
    with pytest.raises(UsageError, match="greedily"):
        theirs.generate(asked[:1], temperature=1.0)


def test_what_does_not_fit_or_cannot_be_read_is_refused(both):
    _, theirs, _ = both
    broken = Sample("broken", [Message("user", [0, "？"])], [ImageRef(data=encoded_image(0)[:60])])
    long = ask("long", "長い" * LANGUAGE.max_length, [0])
    told = theirs.refusals([*SAMPLES, broken, long], [*CHOICES, [], []])
    assert told[:4] == [None] * 4
    assert "truncated" in told[4]
    assert f"of {LANGUAGE.max_length} tokens" in told[5]
    with pytest.raises(DataError, match="tokens"):
        theirs.check(long, ["赤"])


def test_a_folder_is_read(both, tmp_path):
    ours, _, folder = both
    assert is_image_text(folder)
    assert not is_image_text(folder.parent / "ours")
    model = load_image_text_model(folder)
    assert model.settings == {"template": "chat", "begin": True, "precision": "float32"}
    assert model.generate(SAMPLES[2:3], max_new_tokens=8) == ours.generate(SAMPLES[2:3], max_new_tokens=8)
    shutil.copytree(folder, tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"no vision-language model can be read \(llava\)"):
        load_image_text_model(tmp_path / "cut")
