"""Everything a model test needs, made in a second: a trained tokenizer, tiny shapes, a model, a few shards.

torch is imported only where a fixture needs it, so that light tests stay light.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from jvlm_data.toyworld import corpus, general
from PIL import Image

from jvlm.images.shards import ShardReader, write_shards
from jvlm.model.config import LanguageConfig, ProjectorConfig, TilesConfig, VisionConfig
from jvlm.sample import ImageRef, Message, Sample
from jvlm.text.raw import Document
from jvlm.text.shards import TokenShards, write_token_shards
from jvlm.text.tokenizer import Tokenizer, train_tokenizer

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

    from jvlm.model.jvlm import JvlmModel
    from jvlm.model.processor import Processor

SEED, SIDE = 7, 32
LANGUAGE = LanguageConfig(
    hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=48, max_length=400
)
VISION = VisionConfig(
    image_size=SIDE,
    patch_size=8,
    width=32,
    layers=2,
    head_width=16,
    embed_dim=16,
    text_width=32,
    text_layers=1,
    text_length=24,
)
PROJECTOR = ProjectorConfig(shuffle=2)
TILES = TilesConfig(per_image=6, per_sample=9)


def corpus_texts(count: int) -> list[str]:
    """The first documents of the toy world's corpus."""
    return [corpus.document(SEED, index)["text"] for index in range(count)]


def samples(set_name: str, count: int) -> list[Sample]:
    """The first samples of a toy-world set, with images of the tiny model's size."""
    return [general.make(set_name, SEED, index, SIDE) for index in range(count)]


def encoded_image(number: int, size: tuple[int, int] = (SIDE, SIDE)) -> bytes:
    """A PNG of noise, different for each number."""
    pixels = np.random.default_rng([SEED, number]).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def ask(
    identity: str,
    question: str,
    images: Sequence[int] = (),
    answer: str | None = None,
    sizes: Sequence[tuple[int, int]] = (),
) -> Sample:
    """A one-turn sample whose images are noise of the given numbers, of the tiny model's size or of `sizes`."""
    messages = [Message("user", [*range(len(images)), question])]
    if answer is not None:
        messages.append(Message("assistant", [answer]))
    sizes = sizes or [(SIDE, SIDE)] * len(images)
    references = [ImageRef(data=encoded_image(n, size)) for n, size in zip(images, sizes, strict=True)]
    return Sample(identity, messages, references)


def shake(module: Any, seed: int = 1, size: float = 0.15) -> Any:
    """Move every weight, so that a freshly initialised part (zeros, ones, near-flat logits) hides nothing."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * size)
    return module


def make_language(tokenizer: Tokenizer, config: LanguageConfig = LANGUAGE) -> "LlamaForCausalLM":
    """A small Llama with weights far from their initial values."""
    import torch

    from jvlm.model.language import build_language_model

    torch.manual_seed(0)
    special = tokenizer.special
    model = build_language_model(config, tokenizer.vocab_size, special["<pad>"], special["<s>"], special["</s>"])
    return shake(model).eval()


def make_model(
    tokenizer: Tokenizer, config: LanguageConfig = LANGUAGE, projector: ProjectorConfig = PROJECTOR
) -> "JvlmModel":
    """A small vision-language model with weights far from their initial values."""
    import torch

    from jvlm.model.jvlm import JvlmModel
    from jvlm.model.processor import Processor
    from jvlm.model.vision import build_tower

    language = make_language(tokenizer, config)
    torch.manual_seed(0)
    tower = shake(build_tower(VISION), 2, 0.05)
    model = JvlmModel(language, tower, projector, Processor(tokenizer).image_ids)
    shake(model.projector, 3)
    shake(model.markers, 4)
    return model.eval()


def weights(module: Any) -> dict[str, Any]:
    """A copy of every parameter by name."""
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def flop_counter() -> Any:
    """torch's counter of operations, with the product in place that it leaves out."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    def in_place(out: Sequence[int], left: Sequence[int], right: Sequence[int], **_: Any) -> int:
        return 2 * left[0] * left[1] * right[1]

    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: in_place})


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    texts = corpus_texts(120)
    texts += [message.text for sample in samples("instruct_train", 60) for message in sample.messages]
    return train_tokenizer(texts, 640, tmp_path_factory.mktemp("tokenizer") / "model", seed=SEED, threads=1)


@pytest.fixture(scope="session")
def processor(tokenizer: Tokenizer) -> "Processor":
    from jvlm.model.processor import Processor

    return Processor(tokenizer, VISION, PROJECTOR)


@pytest.fixture(scope="session")
def tiled(tokenizer: Tokenizer) -> "Processor":
    """The same with tiles."""
    from jvlm.model.processor import Processor

    return Processor(tokenizer, VISION, PROJECTOR, TILES)


@pytest.fixture
def model(tokenizer: Tokenizer) -> "JvlmModel":
    return make_model(tokenizer)


@pytest.fixture(scope="session")
def caption_shards(tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    """12 captioned images in two shards."""
    folder = tmp_path_factory.mktemp("shards") / "captions"
    write_shards(samples("captions_train", 12), folder, samples_per_shard=7)
    return ShardReader(folder)


@pytest.fixture(scope="session")
def instruct_shards(tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    """30 conversations, some on two images, some pages."""
    folder = tmp_path_factory.mktemp("shards") / "instruct"
    write_shards(samples("instruct_train", 30), folder)
    return ShardReader(folder)


@pytest.fixture(scope="session")
def text_shards(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    """9 documents of the corpus."""
    folder: Path = tmp_path_factory.mktemp("tokens") / "text"
    documents = [Document(f"d{number}", text, "toyworld") for number, text in enumerate(corpus_texts(9))]
    write_token_shards(documents, tokenizer, folder)
    return TokenShards(folder)
