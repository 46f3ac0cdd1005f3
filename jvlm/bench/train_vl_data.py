"""What both contestants of the vision-language benchmark read: the real-data mix as shards and tokens, and the initial
weights of every size, as a directory of ours and as transformers' LLaVA. Run as a module, so that its memory is not
that of the process that asked for it.

The mix is what the recipes on real data train on: captions, conversations and names of pictures, medical pictures, and
a few per cent of text, which is cut into samples of at most a row. The folder holds `real/` (of `jvlm_data.real`),
`tokens/`, `SIZE/`, `SIZE-llava/` and `data.json`.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jvlm_data.real.build import RealConfig, build
from transformers import LlavaForConditionalGeneration

from jvlm.bench.data import ROW_LENGTH, packing_fill
from jvlm.bench.data_pictures import SEED
from jvlm.bench.pretrain_data import histogram
from jvlm.files import read_json, write_json
from jvlm.images.shards import ShardReader
from jvlm.model.config import LanguageConfig, ProjectorConfig, VisionConfig
from jvlm.model.directory import save_model
from jvlm.model.export import export
from jvlm.model.jvlm import JvlmModel
from jvlm.model.language import build_language_model
from jvlm.model.processor import Processor
from jvlm.model.vision import build_tower
from jvlm.text.raw import Document, read_documents
from jvlm.text.shards import TokenShards, token_shards
from jvlm.text.tokenizer import Tokenizer, train_tokenizer
from jvlm.train.source import ImageSamples, Mixture, TokenDocuments

IMAGE_SETS = ("captions_train", "instruct_train", "naming_train", "medical_pages", "medical_training")
PROJECTOR = ProjectorConfig(kind="mlp")


@dataclass(frozen=True)
class DataSpec:
    """How much of which data, and which models."""

    root: str
    work: str
    sizes: dict[str, dict[str, Any]]
    """Fields of LanguageConfig by the size's name."""
    vision: dict[str, Any]
    """Fields of VisionConfig."""
    vocab_size: int
    row_length: int
    source_chars: int
    """Characters taken of every source of text: what the tokenizer is trained on beside captions and answers."""
    text_chars: int
    """Characters of text in the mix."""
    threads: int


def prepare(spec: DataSpec) -> None:
    """Fill the folder. Raises what `jvlm_data.real.build.build` raises."""
    work, chars = Path(spec.work), spec.source_chars
    build(RealConfig(Path(spec.root), chars, chars, chars), work / "real")
    documents = _documents(work)
    texts = [document.text for document in documents] + list(_said(work))
    tokenizer = train_tokenizer(texts, spec.vocab_size, work / "tokenizer", seed=SEED, threads=spec.threads)
    processor = Processor(tokenizer, VisionConfig(**spec.vision), PROJECTOR)
    token_shards(_some(documents, spec.text_chars), tokenizer, work / "tokens")
    for name, fields in spec.sizes.items():
        model = build_model(LanguageConfig(**fields, max_length=spec.row_length), processor)
        save_model(work / name, model, processor)
        save_llava(work / name, work / f"{name}-llava")
    mix = open_mix(work, processor, spec.row_length)
    long = Mixture([*mix.sets[:-1], _open_text(work, processor, ROW_LENGTH)], [1] * len(mix.sets))
    fill = {"row_length": spec.row_length, "packing_fill": packing_fill(long)}
    write_json(work / "data.json", figures(mix) | fill | {"vocab_size": tokenizer.vocab_size})


def open_mix(work: Path, processor: Processor, row_length: int) -> Mixture:
    """Every picture set once, and the text."""
    sets = [ImageSamples(ShardReader(work / "real" / "shards" / name), processor) for name in IMAGE_SETS]
    return Mixture([*sets, _open_text(work, processor, row_length)], [1] * (len(sets) + 1))


def _open_text(work: Path, processor: Processor, row_length: int) -> TokenDocuments:
    return TokenDocuments(TokenShards(work / "tokens"), processor, max_length=row_length)


def open_processor(work: Path, size: str) -> Processor:
    """That of a size's directory, without its weights."""
    vision = VisionConfig(**read_json(work / size / "config.json")["vision"])
    return Processor(Tokenizer.load(work / size), vision, PROJECTOR)


def build_model(language: LanguageConfig, processor: Processor) -> JvlmModel:
    """Initial weights, the same for the same shape."""
    torch.manual_seed(SEED)
    vocab_size = processor.tokenizer.vocab_size
    llama = build_language_model(language, vocab_size, processor.pad, processor.bos, processor.eos)
    assert processor.vision is not None
    return JvlmModel(llama, build_tower(processor.vision), PROJECTOR, processor.image_ids)


def save_llava(source: Path, target: Path) -> None:
    """A model directory of ours, with initial weights, as LLaVA. An export has a table for input and a head of its own;
    they are one here as in our model, or the rival would have more to train."""
    apart = target.with_name(target.name + "-apart")
    export(source, apart, "llava")
    model: Any = LlavaForConditionalGeneration.from_pretrained(apart)
    assert torch.equal(model.get_input_embeddings().weight, model.lm_head.weight)
    config = model.config
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = True
    tied = LlavaForConditionalGeneration(config)
    tied.load_state_dict(model.state_dict())
    tied.save_pretrained(target)


def figures(mix: Mixture) -> dict[str, Any]:
    """Counts of the mix and its lengths."""
    names = [*IMAGE_SETS, "text"]
    pictures = [found.shards.card["num_images"] for found in mix.sets if isinstance(found, ImageSamples)]
    return {
        "samples": dict(zip(names, mix.counts, strict=True)),
        "tokens": {name: int(found.lengths.sum()) for name, found in zip(names, mix.sets, strict=True)},
        "pictures": sum(pictures),
        "mean_length": float(mix.lengths.mean()),
        "length_histogram": histogram(mix.lengths),
    }


def _documents(work: Path) -> list[Document]:
    """The general text, in an order in which sources are mixed."""
    files = sorted((work / "real" / "text" / "general").glob("*.jsonl"))
    found = [document for path in files for document in read_documents(path, path.stem, [])]
    return [found[i] for i in np.random.default_rng(SEED).permutation(len(found))]


def _some(documents: list[Document], chars: int) -> Iterator[Document]:
    taken = 0
    for document in documents:
        if taken >= chars:
            break
        taken += len(document.text)
        yield document


def _said(work: Path) -> Iterator[str]:
    """What is said in captions and conversations."""
    for name in IMAGE_SETS:
        shards = ShardReader(work / "real" / "shards" / name)
        for index in range(len(shards)):
            for message in shards.record(index)["messages"]:
                yield "".join(part for part in message["content"] if isinstance(part, str))


def write_spec(spec: DataSpec, path: Path) -> None:
    """For `python -m jvlm.bench.train_vl_data PATH`."""
    write_json(path, asdict(spec))


if __name__ == "__main__":
    prepare(DataSpec(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
