"""Any vision-language model of the Hugging Face layout as something to be asked (`Model` and `TextModel`).

Its own processor writes the conversation and prepares the pictures, transformers' own classes compute. One prompt is
read at a time: models differ in how pictures of several prompts stand together.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel
from transformers.utils import logging as transformers_logging

from jvlm.errors import DataError, UsageError
from jvlm.files import read_json
from jvlm.images.load import load_image
from jvlm.infer.types import Generation, Likelihood
from jvlm.sample import Sample


class ImageTextModel:
    """A loaded vision-language model with its processor."""

    def __init__(self, model: PreTrainedModel, processor: Any) -> None:
        """Raises UsageError for a model without a chat template, or whose answers have no end mark."""
        self.model, self.processor, self.tokenizer = model.eval(), processor, processor.tokenizer
        if getattr(processor, "chat_template", None) is None and self.tokenizer.chat_template is None:
            raise UsageError("the model has no chat template", fix="put chat_template.jinja into its folder")
        ends = model.generation_config.eos_token_id if model.generation_config is not None else None
        ends = self.tokenizer.eos_token_id if ends is None else ends
        self._ends: list[int] = ends if isinstance(ends, list) else [ends]
        if self._ends == [None]:
            raise UsageError("no token of the model ends an answer", fix="name eos_token_id in generation_config.json")

    @property
    def settings(self) -> dict[str, str | bool | int]:
        """How a turn is written and in which precision it is read."""
        return {"template": "chat", "begin": True, "precision": str(self.model.dtype).removeprefix("torch.")}

    def check(self, sample: Sample, answers: Sequence[str]) -> None:
        """Raises DataError when prompt and longest answer do not fit the window, or an image cannot be read."""
        window = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        length = self._prompt(sample)["input_ids"].shape[1] + max(len(self._answer(text)) for text in answers or [""])
        if window is not None and length > window:
            raise DataError(f"prompt and answer take {length} of {window} tokens", where=sample.id)

    def refusals(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[str | None]:
        """Why a sample cannot be put to the model, None where it can."""
        found: list[str | None] = []
        for sample, texts in zip(samples, choices, strict=True):
            try:
                self.check(sample, texts)
                found.append(None)
            except DataError as error:
                found.append(error.what)
        return found

    @torch.inference_mode()
    def generate(
        self,
        samples: Sequence[Sample],
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        seed: int | Sequence[int] = 0,
        stop: Sequence[str] = (),
    ) -> list[Generation]:
        """Greedy answers, cut before the first text of `stop`.

        Raises DataError when an image cannot be read, UsageError for another temperature than 0.
        """
        if temperature:
            raise UsageError("another's vision-language model is only asked greedily", fix="leave the temperature at 0")
        found = []
        for sample in samples:
            prompt = self._prompt(sample)
            plain = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
            marks: dict[str, Any] = {"eos_token_id": self._ends, "pad_token_id": self._ends[0]}
            if stop:
                marks |= {"stop_strings": list(stop), "tokenizer": self.tokenizer}
            written = self.model.generate(**prompt, max_new_tokens=max_new_tokens, **plain, **marks)
            found.append(self._generation(written[0, prompt["input_ids"].shape[1] :].tolist(), stop))
        return found

    def choice_log_likelihoods(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[list[float]]:
        """The sums alone."""
        return [[one.log_likelihood for one in row] for row in self.choice_likelihoods(samples, choices)]

    @torch.inference_mode()
    def choice_likelihoods(self, samples: Sequence[Sample], choices: Sequence[Sequence[str]]) -> list[list[Likelihood]]:
        """For each sample and each of its choices: the likelihood of the choice's text and the end mark.

        Raises DataError when an image cannot be read.
        """
        found = []
        for sample, texts in zip(samples, choices, strict=True):
            prompt = self._prompt(sample)
            found.append([self._likelihood(prompt, self._answer(text)) for text in texts])
        return found

    def _prompt(self, sample: Sample) -> dict[str, Tensor]:
        turns = [
            {
                "role": message.role,
                "content": [
                    {"type": "text", "text": part}
                    if isinstance(part, str)
                    else {"type": "image", "image": load_image(sample.images[part], where=sample.id)}
                    for part in message.content
                ],
            }
            for message in sample.messages
        ]
        inputs = self.processor.apply_chat_template(
            turns, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
        )
        return dict(inputs.to(self.model.device))

    def _answer(self, text: str) -> list[int]:
        """Ids of a choice as the model would write it."""
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        return [*ids, self._ends[0]]

    def _likelihood(self, prompt: dict[str, Tensor], answer: list[int]) -> Likelihood:
        length, device = prompt["input_ids"].shape[1], self.model.device
        inputs = dict(prompt)
        for name, value in prompt.items():  # all that has a place for each token
            if value.shape == prompt["input_ids"].shape:
                tail = {"input_ids": answer, "attention_mask": [1] * len(answer)}.get(name, [0] * len(answer))
                inputs[name] = torch.cat([value, torch.tensor([tail], dtype=value.dtype, device=device)], dim=1)
        logits = self.model(**inputs, use_cache=False).logits[0, length - 1 : -1].float()
        logs = logits.log_softmax(-1).gather(1, torch.tensor(answer, device=device)[:, None])
        return Likelihood(float(logs.double().sum()), len(answer))

    def _generation(self, ids: list[int], stop: Sequence[str]) -> Generation:
        ends = [place for place, token in enumerate(ids) if token in self._ends]
        ids = ids[: ends[0]] if ends else ids
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        cuts = [text.find(mark) for mark in stop if mark in text]
        return Generation(
            text[: min(cuts)] if cuts else text, "stop" if ends or cuts else "length", len(ids) + bool(ends)
        )


def is_image_text(folder: Path) -> bool:
    """Whether a folder's config.json is that of a vision-language model."""
    return "vision_config" in read_json(folder / "config.json")


def load_image_text_model(folder: Path) -> ImageTextModel:
    """Read a Hugging Face folder of a vision-language model onto the GPU where there is one, else the CPU.

    Only safetensors and JSON are read, no code of the folder is run. Raises DataError when it holds no such model.
    """
    transformers_logging.disable_progress_bar()
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        kind = read_json(folder / "config.json").get("model_type")
        raise DataError(f"no vision-language model can be read ({kind}): {error}", where=folder) from None
    return ImageTextModel(model.to("cuda" if torch.cuda.is_available() else "cpu"), processor)
