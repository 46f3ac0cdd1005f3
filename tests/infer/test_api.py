"""What Python programs call, and the same model through transformers' pipeline; the examples in the docstrings run."""

import doctest
import io
import os

import pytest
import torch
from PIL import Image
from tiny import SIDE, encoded_image, make_model, shake
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

import jvlm
from jvlm.errors import DataError
from jvlm.infer import api, hf
from jvlm.infer.generate import VisionLanguageModel
from jvlm.model.directory import save_model
from jvlm.sample import CAPTION_PROMPT, ImageRef, Message, Sample
from jvlm.text.tokenizer import SPECIAL_TOKENS


@pytest.fixture(scope="module")
def model(tokenizer, processor):
    return VisionLanguageModel(make_model(tokenizer), processor)


@pytest.fixture(scope="module")
def home(tokenizer, processor, tmp_path_factory):
    """A folder as in the examples: a model directory and two images."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "runs" / "demo").mkdir(parents=True)
    save_model(folder / "runs" / "demo" / "model", make_model(tokenizer), processor)
    for number, name in enumerate(("photo.png", "drawing.png")):
        (folder / name).write_bytes(encoded_image(number, (70, 40)))
    return folder


@pytest.mark.parametrize("module", [api, hf], ids=["api", "hf"])
def test_the_examples_of_the_docstrings_run(module, home):
    before = os.getcwd()
    os.chdir(home)
    try:
        result = doctest.testmod(module, extraglobs={"jvlm": jvlm})
    finally:
        os.chdir(before)
    assert result.failed == 0
    assert result.attempted >= (6 if module is hf else 12)


def said(model, messages, images):
    sample = Sample("x", messages, [ImageRef(data=image) for image in images])
    return model.generate([sample], max_new_tokens=12)[0].text


def test_a_conversation_can_be_given_in_every_form(model):
    images = [encoded_image(0), encoded_image(1)]
    turns = [Message("user", [0, 1, "違いは。"]), Message("assistant", ["色。"]), Message("user", ["どの色。"])]
    expected = said(model, turns, images)
    placed = [{"role": m.role, "content": m.content} for m in turns]
    unplaced = [{"role": m.role, "content": m.text} for m in turns]
    for messages in (turns, placed, unplaced):
        assert model.chat(images, messages, max_new_tokens=12) == expected
    assert turns[0].content == [0, 1, "違いは。"]  # nothing of the caller's is changed
    later = [{"role": "user", "content": "はじめに。"}, placed[1], {"role": "user", "content": [1, 0, "どの色。"]}]
    messages = [Message(one["role"], [p] if isinstance(p := one["content"], str) else p) for one in later]
    assert model.chat(images, later, max_new_tokens=12) == said(model, messages, images)


def test_a_stream_gives_the_answer_in_pieces(model):
    pieces = list(model.chat([encoded_image(2)], "何の図ですか。", stream=True, max_new_tokens=20))
    assert "".join(pieces) == model.chat([encoded_image(2)], "何の図ですか。", max_new_tokens=20)
    assert len(pieces) > 3
    assert all(pieces)


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_no_conversation_is_refused_at_once(model, stream):
    for images, messages in (
        ([b"no image"], "色は。"),
        ([], [{"role": "user", "content": [0, "色は。"]}]),
        ([], [{"role": "robot", "content": "色は。"}]),
        ([], [{"role": "user"}]),
        ([encoded_image(0)], [{"role": "system", "content": "色は。"}]),
        ([], "あ" * 1000),
    ):
        with pytest.raises(DataError):
            model.chat(images, messages, stream=stream)


def test_captions_are_in_the_order_of_the_images(model):
    images = [encoded_image(number) for number in range(4)]
    captions = model.caption(images, max_new_tokens=8)
    for prompt, found in ((CAPTION_PROMPT, captions), ("色は。", model.caption(images, "色は。", max_new_tokens=8))):
        assert found == [model.chat([image], prompt, max_new_tokens=8) for image in images]
    assert model.caption([]) == []
    with pytest.raises(DataError, match=r"nowhere\.png: no such file"):
        model.caption([images[0], "nowhere.png"])


def test_probabilities_of_choices_are_the_likelihoods_in_proportion(model):
    image, choices = encoded_image(1), ["赤", "青い三角です。", "はい"]
    found = model.choice_probabilities([image], "色は。", choices)
    sample = Sample("x", [Message("user", [0, "色は。"])], [ImageRef(data=image)])
    (logs,) = model.choice_log_likelihoods([sample], [choices])
    assert found == pytest.approx(torch.tensor(logs, dtype=torch.float64).softmax(0).tolist())
    assert found != pytest.approx(model.choice_probabilities([encoded_image(2)], "色は。", choices))
    assert api.shares([-1000.0, -1001.0]) == pytest.approx([0.7311, 0.2689], abs=1e-4)


# --- transformers' pipeline ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ask(home):
    return pipeline("image-text-to-text", model=str(home / "runs" / "demo" / "model"), device="cpu")


def turn(*parts):
    """Of texts, and of images as bytes, paths or Pillow's."""
    content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image", "image": p} for p in parts]
    return {"role": "user", "content": content}


def test_a_pipeline_says_what_chat_says(ask, model):
    assert type(ask.model) is hf.JvlmForImageTextToText
    images = [encoded_image(number, (60, 40)) for number in range(3)]
    opened = [Image.open(io.BytesIO(image)) for image in images]
    conversations = [
        ([turn("空は何色ですか。")], []),
        ([turn(images[0], "色は。")], [0]),
        ([turn(opened[1], opened[2], "違いは。"), {"role": "assistant", "content": "色。"}, turn("どの色。")], [1, 2]),
    ]
    for messages, numbers in conversations:
        (answer,) = ask(text=messages, max_new_tokens=12, return_full_text=False)
        turns = [
            {"role": m["role"], "content": m["content"] if isinstance(m["content"], str) else m["content"][-1]["text"]}
            for m in messages
        ]
        assert answer["generated_text"] == model.chat([images[n] for n in numbers], turns, max_new_tokens=12)
    (full,) = ask(text=conversations[1][0], max_new_tokens=12)
    assert full["generated_text"][-1]["role"] == "assistant"
    (plain,) = ask(images=opened[0], text="色は。", max_new_tokens=12, return_full_text=False)
    assert plain["generated_text"] == model.chat([images[0]], "色は。", max_new_tokens=12)


def test_with_tiles_too(tokenizer, tiled, tmp_path):
    save_model(tmp_path / "model", make_model(tokenizer), tiled)
    image = encoded_image(1, (3 * SIDE, 2 * SIDE))
    tiling = jvlm.load(tmp_path / "model")
    ask = pipeline("image-text-to-text", model=str(tmp_path / "model"), device="cpu")
    (answer,) = ask(text=[turn(image, "色は。")], max_new_tokens=12, return_full_text=False)
    assert answer["generated_text"] == tiling.chat([image], "色は。", max_new_tokens=12)


def test_nothing_typed_becomes_a_control_token_there(ask, processor):
    special = set(processor.tokenizer.special.values())
    expected = ask.processor.apply_chat_template([turn("x")], add_generation_prompt=True)["input_ids"][0].tolist()
    for token in SPECIAL_TOKENS:
        ids = ask.processor.apply_chat_template([turn(token)], add_generation_prompt=True)["input_ids"][0].tolist()
        assert [i for i in ids if i in special] == [i for i in expected if i in special]


def test_what_the_pipeline_cannot_do_is_an_error(ask, home):
    with pytest.raises(DataError, match="not fetched"):
        ask(text=[{"role": "user", "content": [{"type": "image", "url": "http://127.0.0.1/x.png"}]}])
    with pytest.raises(ValueError, match="cannot be continued"):
        ask(text=[turn("x"), {"role": "assistant", "content": [{"type": "text", "text": "y"}]}])
    with pytest.raises(ValueError, match="one conversation"):
        ask.processor.apply_chat_template([[turn("x")], [turn("y")]])
    ids = ask.processor.apply_chat_template([turn(encoded_image(0), "x")])["input_ids"]
    with pytest.raises(ValueError, match="image tokens"):  # and no pixels
        ask.model(input_ids=ids)
    with pytest.raises(ValueError, match="device_map"):
        AutoModelForImageTextToText.from_pretrained(home / "runs" / "demo" / "model", device_map="auto")


def test_pixels_of_pillow_images_of_every_mode_are_those_of_the_file(ask, tmp_path):
    """An image that is opened and one named by its file are the same image."""
    noise = Image.open(io.BytesIO(encoded_image(5, (40, 60))))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"):
        image = noise.convert("L").convert("I;16") if mode == "I;16" else noise.convert(mode)
        file = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
        image.save(file)
        of_file, of_image = (ask.processor.apply_chat_template([turn(p)])["pixel_values"] for p in (file, image))
        assert torch.equal(of_file, of_image), mode


def test_what_transformers_saves_is_a_model_directory(home, tmp_path):
    """Of other weights than those that were loaded; a processor alone is none."""
    model = AutoModelForImageTextToText.from_pretrained(home / "runs" / "demo" / "model")
    shake(model.model)
    with pytest.raises(ValueError, match="save the model there first"):
        AutoProcessor.from_pretrained(home / "runs" / "demo" / "model").save_pretrained(tmp_path / "saved")
    model.save_pretrained(tmp_path / "saved")
    AutoProcessor.from_pretrained(home / "runs" / "demo" / "model").save_pretrained(tmp_path / "saved")
    read = [jvlm.load(tmp_path / "saved").model, AutoModelForImageTextToText.from_pretrained(tmp_path / "saved").model]
    for name, tensor in model.model.named_parameters():
        assert all(torch.equal(dict(other.named_parameters())[name], tensor) for other in read)
    question = [turn(encoded_image(0), "色は。")]
    (answer,) = pipeline("image-text-to-text", model=str(tmp_path / "saved"), device="cpu")(
        text=question, max_new_tokens=6, return_full_text=False
    )
    assert answer["generated_text"] == jvlm.load(tmp_path / "saved").chat(
        [encoded_image(0)], "色は。", max_new_tokens=6
    )


def test_weights_are_rounded_when_asked(home):
    folder = home / "runs" / "demo" / "model"
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert AutoProcessor.from_pretrained(folder).tokenizer.padding_side
