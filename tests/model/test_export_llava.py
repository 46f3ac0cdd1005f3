"""Export to LLaVA: transformers alone computes the same logits, reads the same ids and pixels, says the same."""

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models import register_model
from timm.models.vision_transformer import _create_vision_transformer
from tiny import LANGUAGE, SEED, encoded_image, make_language, shake, weights
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration, LlavaProcessor

from jvlm.errors import UsageError
from jvlm.images.load import load_image
from jvlm.infer.generate import VisionLanguageModel
from jvlm.model.config import LanguageConfig, ProjectorConfig, TilesConfig, VisionConfig
from jvlm.model.directory import save_model
from jvlm.model.export import export
from jvlm.model.jvlm import JvlmModel
from jvlm.model.language import language_model_from
from jvlm.model.processor import Processor
from jvlm.model.vision import build_clip, build_tower
from jvlm.sample import ImageRef, Message, Sample

BLOCKS, SIDE = 3, 32
TOKENS = 12
MLP = ProjectorConfig(kind="mlp")
CLIP = VisionConfig(
    image_size=SIDE,
    patch_size=8,
    width=32,
    layers=BLOCKS,
    head_width=16,
    embed_dim=16,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    feature_layers=[-2],
    feature_norm=False,
)
SIGLIP = CLIP.model_copy(update={"timm_model": "tiny_siglip", "mean": (0.5,) * 3, "std": (0.5,) * 3})
SEVERAL = CLIP.model_copy(update={"feature_layers": [-1, 0]})
MARKERS = ("<|image_start|>", "<|image_end|>", "<|image_row|>")


@register_model
def tiny_siglip(pretrained: bool = False, **settings: Any) -> nn.Module:
    """SigLIP's tower, made small."""
    shape = {"img_size": SIDE, "patch_size": 8, "embed_dim": 32, "depth": BLOCKS, "num_heads": 2}
    kind = {"class_token": False, "global_pool": "map", "act_layer": "gelu_tanh"}
    return _create_vision_transformer("tiny_siglip", **shape | kind | settings)


def build(tokenizer, vision=CLIP, projector=MLP, language=None):
    """A vision-language model no weight of which is what it began as."""
    torch.manual_seed(0)
    tower = shake(build_tower(vision), 2, 0.1)
    language = make_language(tokenizer) if language is None else language
    model = JvlmModel(language, tower, projector, Processor(tokenizer).image_ids)
    shake(model.projector, 3)
    shake(model.markers, 4)
    return model.eval()


@dataclass
class Both:
    """One model here and, out of its export, there."""

    ours: VisionLanguageModel
    model: Any
    processor: Any

    @property
    def encode(self):
        return self.ours.processor.encode


def exported(model, processor, folder):
    save_model(folder / "ours", model, processor)
    export(folder / "ours", folder / "theirs", "llava")
    theirs, told = AutoModelForImageTextToText.from_pretrained(folder / "theirs", output_loading_info=True)
    assert not any(told.values()), told
    return Both(VisionLanguageModel(model, processor), theirs.eval(), AutoProcessor.from_pretrained(folder / "theirs"))


@pytest.fixture(scope="module", params=[CLIP, SIGLIP, SEVERAL], ids=["clip", "siglip", "layers"])
def both(request, tokenizer, tmp_path_factory):
    model = build(tokenizer, request.param)
    with torch.no_grad():  # an end mark that is likely now and then, or no answer would ever end
        model.language.get_input_embeddings().weight[tokenizer.special["<|end|>"]] *= 2
    return exported(model, Processor(tokenizer, request.param, MLP), tmp_path_factory.mktemp("llava"))


def picture(number):
    """Any size and shape, noise on a slope."""
    random = np.random.default_rng([SEED, number])
    width, height = (int(side) for side in np.exp(random.uniform(0, np.log(301), 2)))
    slope = np.linspace(0, 200, width)[None, :, None] * random.uniform(0, 1, 3)
    return Image.fromarray((slope + random.integers(0, 56, (height, width, 3))).astype(np.uint8))


def prompts():
    return [
        [Message("user", [0, "赤い丸は何個ありますか。"])],
        [Message("system", ["短く。"]), Message("user", ["左は", 0, "右は", 1, "\nちがいは？"])],
        [Message("user", ["こんにちは"]), Message("assistant", ["はい、2個です。"]), Message("user", [0, 1, 2])],
        [Message("user", ["図形はいくつ？"])],
        [Message("document", ["図を", 0, "見てください。"])],
    ]


def as_hugging_face(messages, images):
    def part(content):
        is_text = isinstance(content, str)
        return {"type": "text", "text": content} if is_text else {"type": "image", "image": images[content]}

    return [{"role": m.role, "content": [part(content) for content in m.content]} for m in messages]


# --- the model ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def logits(both, ids, pixels):
    """Of both, on the same pixels; theirs are normalised here, by no code of either."""
    model, config = both.ours.model, both.ours.processor.vision
    count = len(ids)
    hidden = model(torch.tensor([ids]), torch.arange(count)[None], [count], pixels)
    ours = model.language.lm_head(hidden)[0]
    values = None
    if pixels is not None:
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (config.mean, config.std))
        values = (pixels / 255.0 - mean) / std
    return ours, both.model(input_ids=torch.tensor([ids]), pixel_values=values).logits[0]


def some_pixels(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator) if count else None


def test_logits_are_equal_on_equal_pixels(both):
    for messages in prompts():
        encoded = both.encode(messages)
        ours, theirs = logits(both, encoded.ids, some_pixels(len(encoded.images)))
        assert ours.shape == theirs.shape
        assert float((ours - theirs).abs().max()) <= 1e-4
        if encoded.images:  # or the test would see nothing of tower and projector
            other, _ = logits(both, encoded.ids, some_pixels(len(encoded.images), seed=1))
            assert float((ours - other).abs().max()) > 0.1


def test_it_is_transformers_own_model(both):
    assert type(both.model) is LlavaForConditionalGeneration
    assert type(both.processor) is LlavaProcessor
    assert both.model.config.text_config._attn_implementation == "sdpa"
    assert both.model.dtype == torch.float32


def test_the_markers_are_in_the_input_table_and_the_head_is_as_it_was(both):
    model, special = both.ours.model, both.ours.processor.tokenizer.special
    table = model.language.get_input_embeddings().weight
    assert model.language.lm_head.weight is table  # tied, so that one table would not do
    ids = [special[token] for token in MARKERS]
    theirs = both.model.get_input_embeddings().weight
    assert torch.equal(theirs[ids], model.markers.weight)
    others = [i for i in range(len(table)) if i not in ids]
    assert torch.equal(theirs[others], table[others])
    assert torch.equal(both.model.lm_head.weight, table)
    assert not torch.equal(theirs[ids], table[ids])


@torch.no_grad()
@pytest.mark.parametrize("layers", [[0], [1], [-1], [-3], [1, -1], [-1, -2, 0]], ids=str)
@pytest.mark.parametrize("vision", [CLIP, SIGLIP], ids=["clip", "siglip"])
def test_feature_layers_name_the_same_blocks(tokenizer, tmp_path, vision, layers):
    """What the blocks of open_clip's tower put out, caught at the blocks, through the projector."""
    vision = vision.model_copy(update={"feature_layers": layers})
    model = build(tokenizer, vision)
    visual = model.tower.visual
    blocks = visual.trunk.blocks if vision.timm_model else visual.transformer.resblocks
    caught = {}
    for number, block in enumerate(blocks):
        block.register_forward_hook(lambda _, __, out, number=number: caught.__setitem__(number, out))
    pixels = some_pixels(2)
    visual(model.tower.normalise(pixels))
    skip = 0 if vision.timm_model else 1
    features = torch.cat([caught[layer % BLOCKS][:, skip:] for layer in layers], -1)
    both = exported(model, Processor(tokenizer, vision, MLP), tmp_path)
    theirs = both.model.get_image_features(model.tower.normalise(pixels)).pooler_output
    torch.testing.assert_close(torch.stack(list(theirs)), model.projector(features), atol=1e-5, rtol=1e-5)


OTHERS = {"num_key_value_heads": 2, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
LANGUAGES = [
    {"model_type": "llama", "tie_word_embeddings": False, **OTHERS},
    {"model_type": "mistral", "sliding_window": None, **OTHERS},
    {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None, **OTHERS},
    {"model_type": "qwen2", "tie_word_embeddings": True, **OTHERS},
    {"model_type": "qwen3", "tie_word_embeddings": True, "head_dim": 8, **OTHERS},
]


@pytest.mark.parametrize("record", LANGUAGES, ids=lambda record: record["model_type"])
def test_every_language_model_goes_out(tokenizer, tmp_path, record):
    torch.manual_seed(0)
    language = shake(language_model_from(record | {"hidden_size": 32, "vocab_size": tokenizer.vocab_size}))
    both = exported(build(tokenizer, language=language), Processor(tokenizer, CLIP, MLP), tmp_path)
    assert both.model.config.text_config.model_type == record["model_type"]
    encoded = both.encode(prompts()[1])
    ours, theirs = logits(both, encoded.ids, some_pixels(2))
    assert float((ours - theirs).abs().max()) <= 1e-4


def test_what_transformers_saves_again_is_the_same(both, tmp_path):
    both.model.save_pretrained(tmp_path)
    both.processor.save_pretrained(tmp_path)
    model, processor = AutoModelForImageTextToText.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    before, after = weights(both.model), weights(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert model.generation_config.eos_token_id == both.ours.processor.end
    conversation = as_hugging_face(prompts()[1], [picture(0), picture(1)])
    one, other = (
        p.apply_chat_template(conversation, tokenize=True, return_dict=True, return_tensors="pt")
        for p in (both.processor, processor)
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


# --- the processor -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", [False, True], ids=["whole", "prompt"])
def test_the_template_gives_the_ids_of_our_segments_and_a_picture_for_each_image(both, prompt):
    images = [picture(number) for number in range(3)]
    for messages in prompts():
        conversation = as_hugging_face(messages, images)
        out = both.processor.apply_chat_template(
            conversation, tokenize=True, return_dict=True, add_generation_prompt=prompt
        )
        encoded = both.encode(messages, prompt)
        assert out["input_ids"][0] == encoded.ids
        assert len(out.get("pixel_values", [])) == len(encoded.images)


@pytest.mark.parametrize(("backend", "most"), [("torchvision", 1.0), ("pil", 0.0)])
def test_pixels_are_equal(both, tmp_path, backend, most):
    """Within one grey level, and to the bit where transformers scales with Pillow too."""
    both.processor.save_pretrained(tmp_path)
    theirs = AutoProcessor.from_pretrained(tmp_path, backend=backend).image_processor
    assert theirs.backend == backend
    config = both.ours.processor.vision
    mean, std = (np.array(v).reshape(3, 1, 1) for v in (config.mean, config.std))
    sizes = set()
    for number in range(50):
        image = picture(number)
        sizes.add(image.size)
        values = np.asarray(theirs(image)["pixel_values"][0], np.float64)
        greys = (values * std + mean) * 255
        (ours,) = both.ours.processor.pixels(image).astype(np.float64)
        assert np.abs(greys - ours).max() <= most + 1e-3, image.size
    assert len(sizes) > 40
    assert min(min(size) for size in sizes) < 3
    assert max(max(size) for size in sizes) > 200


def test_servers_are_told_how_many_tokens_an_image_takes(both):
    sizes = [(40, 70), (300, 3)]
    told = both.processor._get_num_multimodal_tokens(image_sizes=sizes)
    assert told.num_image_tokens == [both.ours.processor.num_image_tokens] * 2


@pytest.mark.parametrize(("backend", "most"), [("torchvision", 2), ("pil", 0)])
def test_the_same_is_said_on_50_images(both, tmp_path, backend, most):
    """Greedy, prompts of several lengths in one batch; the pixels are each side's own.

    A model of random weights is the worst case: a grey level can turn what it says.
    """
    both.processor.save_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path, backend=backend)
    questions = ["何の図ですか。", "赤い丸は何個ありますか。\n", "色は？", "この画像を説明してください。", "上？"]
    samples, conversations = [], []
    for number in range(50):
        data, question = encoded_image(number, size=(20 + number, 60 - number)), questions[number % 5]
        samples.append(Sample(str(number), [Message("user", [0, question])], [ImageRef(data=data)]))
        conversations.append(as_hugging_face(samples[-1].messages, [load_image(data)]))
    ours = both.ours.generate(samples, max_new_tokens=TOKENS)
    inputs = processor.apply_chat_template(
        conversations,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
        processor_kwargs={"padding": True},
    )
    out = both.model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    texts = processor.batch_decode(out, skip_special_tokens=True)
    differ = [f"{i}: {a.text!r}, {b!r}" for i, (a, b) in enumerate(zip(ours, texts, strict=True)) if a.text != b]
    assert len(differ) <= most, differ
    assert len(set(texts)) >= 10
    assert {generation.finish_reason for generation in ours} == {"stop", "length"}


ALONE = """
import sys
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
model, processor = (kind.from_pretrained(sys.argv[1]) for kind in (AutoModelForImageTextToText, AutoProcessor))
content = [{"type": "image", "path": sys.argv[2]}, {"type": "text", "text": sys.argv[3]}]
asked = [{"role": "user", "content": content}]
inputs = processor.apply_chat_template(
    asked, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
)
out = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
assert "jvlm" not in sys.modules
print("said", ascii(processor.decode(out, skip_special_tokens=True)))
"""


@pytest.mark.slow
def test_a_program_without_a_line_of_ours_says_the_same(tokenizer, tmp_path):
    both = exported(build(tokenizer), Processor(tokenizer, CLIP, MLP), tmp_path)
    (tmp_path / "picture.png").write_bytes(encoded_image(0))
    said = both.ours.chat([tmp_path / "picture.png"], "これは？", max_new_tokens=8)
    arguments = [str(tmp_path / name) for name in ("theirs", "picture.png")]
    done = subprocess.run([sys.executable, "-c", ALONE, *arguments, "これは？"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"said {said!a}\n" in done.stdout


# --- what has no equivalent --------------------------------------------------------------------------------------


def refused(model, processor, folder):
    save_model(folder / "ours", model, processor)
    with pytest.raises(UsageError) as caught:
        export(folder / "ours", folder / "theirs", "llava")
    assert [path.name for path in folder.iterdir()] == ["ours"]
    return str(caught.value)


TRUNK = VisionConfig(
    image_size=SIDE, patch_size=8, width=32, layers=5, feature_layers=[2], timm_model="test_efficientnet_gn"
)


@pytest.mark.parametrize(
    ("vision", "what"),
    [(TRUNK, "EfficientNet"), (CLIP.model_copy(update={"feature_norm": True}), "vision.feature_norm")],
    ids=["trunk", "norm"],
)
def test_all_that_has_no_equivalent_is_named_at_once_and_nothing_is_written(tokenizer, tmp_path, vision, what):
    projector, tiles = ProjectorConfig(), TilesConfig(per_image=4)
    said = refused(build(tokenizer, vision, projector), Processor(tokenizer, vision, projector, tiles), tmp_path)
    for named in (what, "projector.kind pixel_shuffle", "tiles.per_image 4", "train without them"):
        assert named in said


@pytest.mark.parametrize(
    ("vision", "projector", "tiles", "what"),
    [
        ({"feature_norm": True}, {}, {}, "vision.feature_norm"),
        ({}, {"kind": "linear"}, {}, "projector.kind linear"),
        ({}, {"kind": "resampler"}, {}, "projector.kind resampler"),
        ({}, {}, {"per_image": 2}, "tiles.per_image 2"),
    ],
)
def test_nothing_else_is_named(tokenizer, tmp_path, vision, projector, tiles, what):
    shape, bridge = CLIP.model_copy(update=vision), ProjectorConfig(**{"kind": "mlp"} | projector)
    processor = Processor(tokenizer, shape, bridge, TilesConfig(**tiles))
    said = refused(build(tokenizer, shape, bridge), processor, tmp_path)
    assert what in said
    assert ";" not in said


def test_a_model_without_both_halves_is_refused(tokenizer, tmp_path):
    for number, (model, processor) in enumerate(
        [
            (make_language(tokenizer, LanguageConfig(**LANGUAGE.model_dump())), Processor(tokenizer)),
            (build_clip(CLIP, tokenizer.vocab_size, 3, 8), Processor(tokenizer, CLIP)),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert "no vision-language model" in refused(model, processor, folder)
