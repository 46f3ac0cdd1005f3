"""A model directory as transformers' own: importing this makes `pipeline("image-text-to-text", model=FOLDER)` work.

Three classes are registered with `AutoConfig`, `AutoModelForImageTextToText` and `AutoProcessor`, so no remote code is
trusted. Weights are read and verified as everywhere else, the prompt is our processor's (what is typed stays text), and
transformers' `generate` writes the answer, with all it can do.

>>> import jvlm.infer.hf
>>> from transformers import pipeline
>>> ask = pipeline("image-text-to-text", model="runs/demo/model")
>>> content = [{"type": "image", "path": "photo.png"}, {"type": "text", "text": "何色ですか。"}]
>>> answer = ask(text=[{"role": "user", "content": content}], max_new_tokens=96, return_full_text=False)
>>> answer[0]["generated_text"] == jvlm.load("runs/demo/model").chat(["photo.png"], "何色ですか。")
True
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BatchFeature,
    GenerationConfig,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from jvlm.errors import DataError
from jvlm.files import read_json
from jvlm.images.load import load_image
from jvlm.infer.api import conversation
from jvlm.infer.generate import load_model
from jvlm.model.directory import save_model, vision_language_processor
from jvlm.model.jvlm import JvlmModel
from jvlm.model.language import CLASSES
from jvlm.model.processor import Processor
from jvlm.sample import ImageRef, Sample
from jvlm.text.tokenizer import Tokenizer

ANSWER_TOKENS = 256
"""Room that tiles leave for the answer; the pipeline's own `max_new_tokens`."""
_IN_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


class JvlmConfig(PreTrainedConfig):
    """config.json of a vision-language model directory."""

    model_type = "jvlm"
    language: dict[str, Any] | None = None
    vision: dict[str, Any] | None = None
    projector: dict[str, Any] | None = None
    tiles: dict[str, Any] | None = None

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """Of the language model, which the cache is made for."""
        if self.language is None:  # transformers makes empty ones, to see what differs
            return self
        config: PreTrainedConfig = CLASSES[self.language["model_type"]][0](**self.language)
        return config


class JvlmForImageTextToText(PreTrainedModel, GenerationMixin):
    """A vision-language model that transformers can generate with."""

    config_class = JvlmConfig
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]  # noqa: RUF012 - as the class above has it

    def __init__(self, config: JvlmConfig, model: JvlmModel, processor: Processor) -> None:
        super().__init__(config)
        self.model, self.processor = model, processor

    @classmethod
    def from_pretrained(  # type: ignore[override]  # what concerns their hub means nothing here
        cls, folder: str | Path, *_: Any, config: JvlmConfig | None = None, dtype: Any = "auto", **others: Any
    ) -> "JvlmForImageTextToText":
        """Load a model directory onto the CPU; `dtype` other than float32 rounds the weights.

        Raises DataError when it is none or is damaged, ValueError for a `device_map`.
        """
        if others.get("device_map") is not None:
            raise ValueError("device_map is not possible: load the model, then move it with .to(device)")
        loaded = load_model(folder, device="cpu")
        model = cls(config or JvlmConfig.from_pretrained(folder), loaded.model, loaded.processor)
        processor = loaded.processor
        stops = {"bos_token_id": processor.bos, "eos_token_id": processor.end, "pad_token_id": processor.pad}
        model.generation_config = GenerationConfig(**stops)
        return model.eval() if dtype in (None, "auto") else model.to(dtype).eval()

    def save_pretrained(self, save_directory: str | Path, **_: Any) -> None:  # type: ignore[override]
        """Write a model directory, tokenizer and template included, for `from_pretrained`, `jvlm.load` and all else.

        Weights are written in the type they have. A pipeline's own method would write its tokenizer over ours, which
        the directory's hashes then refuse: save the model of a pipeline.
        """
        save_model(Path(save_directory), self.model, self.processor)

    def get_input_embeddings(self) -> torch.nn.Module:
        embeddings: torch.nn.Module = self.model.language.get_input_embeddings()
        return embeddings

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Logits ``[B, T, vocabulary]``; `pixel_values` uint8 ``[views, 3, S, S]``, with the prompt alone."""
        if past_key_values is not None and past_key_values.get_seq_length():
            embeddings = self.model.embed_tokens(input_ids)
        else:
            features = None if pixel_values is None else self.model.image_features(pixel_values)
            embeddings = self.model.embed(input_ids, features)
        output: CausalLMOutputWithPast = self.model.language(
            inputs_embeds=embeddings,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
        )
        return output


class JvlmProcessor(ProcessorMixin):
    """From messages to `input_ids` and `pixel_values`, one conversation at a time."""

    def __init__(self, processor: Processor, tokenizer: Any, window: int) -> None:
        self.processor, self.tokenizer, self.window = processor, tokenizer, window
        self.chat_template = None  # the prompt is no string: see `jvlm.model.processor`

    @classmethod
    def from_pretrained(cls, folder: str | Path, **_: Any) -> "JvlmProcessor":  # type: ignore[override]
        """Read a model directory. Raises DataError when it is none."""
        config = read_json(Path(folder) / "config.json")
        processor = vision_language_processor(config, Tokenizer.load(Path(folder)))
        return cls(processor, AutoTokenizer.from_pretrained(folder), config["language"]["max_position_embeddings"])

    def save_pretrained(self, save_directory: str | Path, **_: Any) -> list[str]:  # type: ignore[override]
        """Nothing is left to write beside a saved model. Raises ValueError where none was saved."""
        if not (Path(save_directory) / "config.json").is_file():
            raise ValueError("save the model there first: what the processor reads is part of its directory")
        return []

    def apply_chat_template(  # type: ignore[override]  # there is no template to give
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = False, **options: Any
    ) -> BatchFeature:
        """Ids and pixels of a conversation, as tensors.

        Raises DataError for an image that cannot be read or is an address, ValueError for what is not possible.
        """
        if not messages or not isinstance(messages[0], Mapping):
            raise ValueError("one conversation at a time")
        if options.get("continue_final_message"):
            raise ValueError("the last message must be the user's: an answer that has begun cannot be continued")
        sample = _sample(messages)
        room = self.window - min(ANSWER_TOKENS, self.window // 2)
        encoded = self.processor.encode_sample(sample, room, generation_prompt=add_generation_prompt)
        ids = torch.tensor([encoded.ids])
        data = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if encoded.images:
            shown = zip(encoded.images, encoded.grids, strict=True)
            pixels = [self.processor.pixels(load_image(sample.images[image]), grid) for image, grid in shown]
            data["pixel_values"] = torch.from_numpy(np.concatenate(pixels))
        return BatchFeature(data)

    def __call__(self, images: Any = None, text: Any = None, **_: Any) -> BatchFeature:
        """One question about one image or a list of them."""
        if not isinstance(text, str):
            raise ValueError("text must be one question; several are several calls")
        listed = images if isinstance(images, list | tuple) else [] if images is None else [images]
        content = [{"type": "image", "image": image} for image in listed] + [{"type": "text", "text": text}]
        return self.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


def _sample(messages: Sequence[Mapping[str, Any]]) -> Sample:
    images: list[ImageRef] = []
    turns: list[dict[str, Any]] = []
    for message in messages:
        content = message["content"]
        parts: list[str | int] = []
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "text":
                parts.append(part["text"])
            elif part["type"] == "image":
                parts.append(len(images))
                images.append(_image(next((part[key] for key in ("image", "path", "url") if key in part), None)))
            else:
                raise ValueError(f"a part of the type {part['type']!r}: there are text and image")
        turns.append({"role": message["role"], "content": parts})
    return conversation(images, turns)


def _image(given: Any) -> ImageRef:
    """Bytes, a path or a Pillow image, which is written out losslessly so that all pixels come the same way."""
    if isinstance(given, bytes):
        return ImageRef(data=given)
    if isinstance(given, str | Path) and "://" not in str(given):
        return ImageRef(path=str(given))
    if not isinstance(given, Image.Image):
        raise DataError("an image is bytes, a path or a Pillow image; addresses are not fetched")
    file = BytesIO()
    ImageOps.exif_transpose(given).save(file, "PNG" if given.mode in _IN_PNG else "TIFF")
    return ImageRef(data=file.getvalue())


AutoConfig.register(JvlmConfig.model_type, JvlmConfig)
AutoModelForImageTextToText.register(JvlmConfig, JvlmForImageTextToText)
AutoProcessor.register(JvlmConfig, JvlmProcessor)
